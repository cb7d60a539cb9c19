"""Each operator against ONNX's own reference, through a model of one node."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from lit_invert.errors import SurrogateError
from lit_invert.surrogates.onnx.file import read_graph
from lit_invert.surrogates.onnx.node import Node
from lit_invert.surrogates.onnx.operators import OPERATORS, run_node

helper = pytest.importorskip("onnx.helper")
ReferenceEvaluator = pytest.importorskip("onnx.reference").ReferenceEvaluator

rng = np.random.default_rng(7)


def normal(*shape):
    return rng.normal(size=shape).astype(np.float32)


def positive(*shape):
    return rng.uniform(0.2, 0.9, shape).astype(np.float32)


def whole(*values):
    return np.array(values, dtype=np.int64)


def number(value, dtype=np.float32):
    return np.array(value, dtype=dtype)


X, SQUARE, DAYS = normal(2, 3), normal(2, 4, 4), normal(2, 3, 7)
TRUTHS = np.array([[True, False], [False, False]]), np.array([[True, True], [False, True]])
PER_CHANNEL = positive(4), normal(4)
HEADS = normal(2, 4, 5, 6), normal(2, 2, 5, 6), normal(2, 2, 5, 3)

#: Operator, inputs, attributes, and an opset where it is not 18.
CASES = [
    *[(name, [X], {}) for name in ("Abs", "Atan", "Asinh", "Ceil", "Cos", "Cosh", "Erf", "Exp", "Floor", "Neg", "Relu")],
    *[(name, [X], {}) for name in ("Round", "Sigmoid", "Sign", "Sin", "Sinh", "Tan", "Tanh", "Softplus", "Softsign", "Identity")],
    *[(name, [positive(2, 3)], {}) for name in ("Acos", "Asin", "Atanh", "Log", "Reciprocal", "Sqrt")],
    *[(name, [X * 3], {}) for name in ("HardSwish", "Mish", "HardSigmoid", "LeakyRelu", "Elu", "Celu", "Selu", "LogSoftmax")],
    ("Acosh", [1 + positive(2, 3)], {}),
    ("Round", [np.array([0.5, 1.5, 2.5, -0.5], np.float32)], {}),
    *[(name, [X, normal(3)], {}) for name in ("Add", "Sub", "Mul", "Div", "Max", "Min", "Sum", "Mean", "PRelu")],
    *[(name, [X, X[:1]], {}) for name in ("Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual")],
    *[(name, [X, normal(2, 1), normal(3)], {}) for name in ("Max", "Min", "Sum", "Mean")],
    *[(name, list(TRUTHS), {}) for name in ("And", "Or", "Xor")],
    ("Div", [whole(7, -7, 8), whole(2, 2, -3)], {}),
    ("Not", [TRUTHS[0]], {}),
    ("Pow", [X, number(2.0)], {}),
    ("Pow", [whole(2, 3), number(2.0)], {}),
    ("Mod", [whole(7, -7, 7), whole(3, 3, -3)], {}),
    ("Mod", [X * 5, number(1.5)], {"fmod": 1}),
    ("Clip", [X], {}),
    ("Clip", [X, number(-0.5)], {}),
    ("Clip", [X, None, number(0.5)], {}),
    ("Clip", [X, number(-0.5), number(0.5)], {}),
    ("Cast", [X], {"to": 7}),
    ("Cast", [X], {"to": 9}),
    ("Cast", [whole(1, 2)], {"to": 1}),
    ("CastLike", [X, whole(1)], {}),
    ("IsNaN", [np.array([1, np.nan, np.inf], np.float32)], {}),
    ("IsInf", [np.array([1, np.nan, np.inf, -np.inf], np.float32)], {}),
    ("IsInf", [np.array([1, np.nan, np.inf, -np.inf], np.float32)], {"detect_negative": 0}),
    ("Where", [TRUTHS[0], normal(2, 2), number(1.5)], {}),
    ("Elu", [X], {"alpha": 0.3}),
    ("Celu", [X], {"alpha": 0.3}),
    ("Selu", [X], {"alpha": 0.3, "gamma": 1.2}),
    ("LeakyRelu", [X], {"alpha": 0.2}),
    ("HardSigmoid", [X], {"alpha": 0.3, "beta": 0.4}),
    ("Gelu", [X], {}, 20),
    ("Gelu", [X], {"approximate": "tanh"}, 20),
    ("Swish", [X], {"alpha": 1.3}, 24),
    ("Softmax", [SQUARE], {}),
    ("Softmax", [SQUARE], {"axis": 1}),
    ("LogSoftmax", [SQUARE], {"axis": 0}),
    ("Dropout", [X], {}),
    ("Dropout", [X, number(0.5), number(False, bool)], {}),
    # shapes and places
    ("Shape", [DAYS], {}),
    ("Shape", [DAYS], {"start": 1}),
    ("Shape", [DAYS], {"start": -2, "end": -1}),
    ("Shape", [number(1.0)], {}),
    ("Size", [DAYS], {}),
    ("Reshape", [DAYS, whole(0, -1)], {}),
    ("Reshape", [normal(0, 3), whole(3, 0)], {"allowzero": 1}),
    *[("Flatten", [DAYS], {"axis": axis}) for axis in (0, 1, 2, 3, -1)],
    ("Squeeze", [normal(1, 3, 1)], {}),
    ("Squeeze", [normal(1, 3, 1), whole(-1)], {}),
    ("Unsqueeze", [X, whole(0, -1)], {}),
    ("Unsqueeze", [X, whole(3, 0)], {}),
    ("Transpose", [DAYS], {}),
    ("Transpose", [DAYS], {"perm": [1, 2, 0]}),
    ("Expand", [normal(3, 1), whole(2, 1, 4)], {}),
    ("Expand", [normal(3, 4), whole(1)], {}),
    ("Concat", [X, normal(2, 2)], {"axis": -1}),
    ("Concat", [whole(2), whole(3, 4)], {"axis": 0}),
    ("Split", [normal(5, 2), whole(2, 3)], {}),
    ("Split", [DAYS], {"axis": 2, "num_outputs": 3}),
    ("Split", [SQUARE], {"axis": -1}, 13),
    ("Slice", [DAYS, whole(1), whole(2**63 - 1)], {}),
    ("Slice", [DAYS, whole(0, -5), whole(2, -1), whole(0, -1)], {}),
    ("Slice", [DAYS, whole(1, 6), whole(-1, -(2**63)), whole(1, 2), whole(1, -2)], {}),
    ("Slice", [DAYS, whole(20), whole(30), whole(2)], {}),
    ("Gather", [DAYS, whole(0, -1)], {"axis": 2}),
    ("Gather", [DAYS, np.array([[0, 1], [2, -3]])], {"axis": 1}),
    ("Gather", [DAYS, number(-1, np.int64)], {"axis": -1}),
    ("Gather", [whole(5, 6, 7), number(1, np.int64)], {}),
    ("GatherElements", [X, np.array([[0, -1], [2, 0]])], {"axis": 1}),
    ("ScatterND", [X, np.array([[0, 1], [1, -1]]), normal(2)], {}),
    ("ScatterND", [X, np.array([[1]]), normal(1, 3)], {}),
    ("Pad", [DAYS, whole(0, 0, 2, 0, 1, 0)], {}),
    ("Pad", [DAYS, whole(2, 1), number(1.5), whole(-1)], {}),
    *[("Pad", [DAYS, whole(0, 0, 3, 0, 0, 2)], {"mode": mode}) for mode in ("reflect", "edge")],
    ("Pad", [DAYS, whole(0, 0, 3, 0, 0, 2)], {"mode": "wrap"}, 19),
    ("Tile", [X, whole(2, 3)], {}),
    ("ConstantOfShape", [whole(2, 3)], {}),
    ("ConstantOfShape", [whole(2)], {"value": helper.make_tensor("five", 7, [1], [5])}),
    ("Range", [number(1, np.int64), number(8, np.int64), number(3, np.int64)], {}),
    ("Range", [number(2.0), number(-1.0), number(-0.5)], {}),
    ("Trilu", [SQUARE], {}),
    ("Trilu", [SQUARE, number(-1, np.int64)], {"upper": 0}),
    # layers
    ("MatMul", [normal(2, 1, 3, 4), normal(5, 4, 2)], {}),
    ("Gemm", [normal(2, 3), normal(3, 4)], {}),
    ("Gemm", [normal(3, 2), normal(4, 3), normal(4)], {"alpha": 0.5, "beta": 2.0, "transA": 1, "transB": 1}),
    ("Einsum", [normal(2, 3, 4), normal(2, 5, 4)], {"equation": "bid,bjd->bij"}),
    *[("CumSum", [X, number(1, np.int64)], {"exclusive": e, "reverse": r}) for e in (0, 1) for r in (0, 1)],
    ("Conv", [DAYS, normal(5, 3, 2)], {}),
    ("Conv", [DAYS, normal(5, 3, 2), normal(5)], {"pads": [2, 0], "dilations": [2]}),
    ("Conv", [normal(2, 4, 9), normal(6, 2, 3)], {"group": 2, "strides": [2], "kernel_shape": [3]}),
    ("Conv", [normal(2, 3, 6, 7), normal(5, 3, 2, 3)], {"pads": [1, 2, 0, 1]}),
    ("BatchNormalization", [normal(2, 4, 5), *PER_CHANNEL, normal(4), positive(4)], {"epsilon": 1e-3}),
    ("BatchNormalization", [normal(2, 4), *PER_CHANNEL, normal(4), positive(4)], {}),
    ("InstanceNormalization", [normal(2, 4, 5), *PER_CHANNEL], {"epsilon": 1e-3}),
    ("GroupNormalization", [normal(2, 4, 5), *PER_CHANNEL], {"num_groups": 2}, 21),
    ("LayerNormalization", [SQUARE, *PER_CHANNEL], {}),
    ("LayerNormalization", [SQUARE, positive(4, 4)], {"axis": 1, "epsilon": 1e-2}),
    ("RMSNormalization", [SQUARE, PER_CHANNEL[0]], {"epsilon": 1e-2}, 23),
    ("Attention", list(HEADS), {}, 23),
    ("Attention", list(HEADS), {"is_causal": 1, "scale": 0.7}, 23),
    ("Attention", [*HEADS, normal(5, 5)], {"softcap": 2.0}, 23),
    ("Attention", [*HEADS, np.tri(5, dtype=bool)], {}, 23),
    ("Attention", [normal(2, 5, 8), normal(2, 6, 4), normal(2, 6, 4)], {"q_num_heads": 4, "kv_num_heads": 2}, 23),
    *[
        (f"Reduce{kind}", [positive(2, 3, 4), *axes], attributes)
        for kind in ("L1", "L2", "LogSumExp", "Max", "Mean", "Min", "Prod", "Sum", "SumSquare")
        for axes, attributes in [([], {}), ([whole(-1, 0)], {"keepdims": 0}), ([whole(1)], {})]
    ],
    ("ReduceMean", [DAYS], {"axes": [-1], "keepdims": 0}, 13),
    ("ReduceSum", [DAYS], {"noop_with_empty_axes": 1}),
]


def name_of(case):
    return case[0] if not case[2] else f"{case[0]}-{'-'.join(f'{key}={value!s:.12}' for key, value in case[2].items())}"


def one_node(op_type, arrays, attributes, opset=18):
    """Return a model of one node, its named inputs, and what the reference answers."""
    names = ["" if array is None else f"x{place}" for place, array in enumerate(arrays)]
    outputs = [f"y{place}" for place in range(attributes.get("num_outputs", 2 if op_type == "Split" else 1))]
    node = helper.make_node(op_type, names, outputs, **attributes)
    given = {name: array for name, array in zip(names, arrays, strict=True) if name}
    untyped = [helper.make_empty_tensor_value_info(name) for name in outputs]
    with np.errstate(all="ignore"):
        answers = ReferenceEvaluator(model_of(node, typed(given), untyped, opset)).run(None, given)
    answers = [np.array(answer) for answer in answers]
    return model_of(node, typed(given), typed(dict(zip(outputs, answers, strict=True))), opset), given, answers


def typed(arrays):
    return [
        helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(array.dtype), array.shape)
        for name, array in arrays.items()
    ]


def model_of(node, inputs, outputs, opset):
    graph = helper.make_graph([node], "one", inputs, outputs)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)


@pytest.mark.parametrize("case", CASES, ids=name_of)
def test_operator_agrees_with_the_reference_of_onnx(tmp_path, case):
    model, given, answers = one_node(*case)
    (tmp_path / "one.onnx").write_bytes(model.SerializeToString())
    (node,) = read_graph(tmp_path / "one.onnx").nodes
    assert OPERATORS[node.op_type].fault(node) is None
    tensors = {name: torch.from_numpy(array) for name, array in given.items()}
    found = run_node(node, [tensors.get(name) for name in node.inputs], torch.float32)
    for ours, theirs in zip(found, answers, strict=True):
        torch.testing.assert_close(ours, torch.from_numpy(theirs), rtol=2e-6, atol=2e-6)


def as_function(case):
    """Return the first input of a case in float64, and the function of it that the operator is."""
    op_type, arrays, attributes, *_ = case
    x, *others = [None if x is None else torch.from_numpy(x.astype(np.float64) if x.dtype == np.float32 else x) for x in arrays]
    node = Node(op_type, ("x",) * len(arrays), ("y0", "y1"), attributes)
    return x, lambda x: run_node(node, [x, *others], torch.float64)


def has_slope(case):
    """Say whether the output is a smooth function of the first input where the case puts it."""
    if case[1][0].dtype != np.float32 or case[0] in ("CastLike", "Round", "Shape", "Size", "Range"):
        return False
    x, function = as_function(case)
    return x.numel() > 0 and all(value.is_floating_point() for value in function(x))


@pytest.mark.parametrize("case", [case for case in CASES if has_slope(case)], ids=name_of)
def test_operator_is_differentiated_in_both_directions(case):
    x, function = as_function(case)
    assert torch.autograd.gradcheck(function, (x.requires_grad_(),), check_forward_ad=True)


def test_every_operator_has_a_case():
    assert {case[0] for case in CASES} == set(OPERATORS)


@pytest.mark.parametrize(
    ("op_type", "inputs", "attributes", "message"),
    [
        ("Dropout", [torch.ones(2), torch.tensor(0.5), torch.tensor(True)], {}, "training mode"),
        ("BatchNormalization", [torch.ones(1, 1)] * 5, {"training_mode": 1}, "training mode"),
        ("Conv", [torch.ones(1, 1, 3), torch.ones(1, 1, 2)], {"auto_pad": "SAME_UPPER"}, "auto_pad 'SAME_UPPER'"),
        ("Pad", [torch.ones(3), torch.tensor([1, 1])], {"mode": "mirror"}, "mode 'mirror'"),
        ("Cast", [torch.ones(3)], {"to": 8}, "type number 8"),
        ("ScatterND", [torch.ones(3), torch.tensor([[1]]), torch.ones(1)], {"reduction": "add"}, "reduction 'add'"),
        ("ConstantOfShape", [torch.tensor([10**9, 10**9])], {}, r"makes 1e\+18 elements"),
        ("Tile", [torch.ones(9), torch.tensor([10**12])], {}, r"makes 9e\+12 elements"),
        ("Expand", [torch.ones(1), torch.tensor([10**12])], {}, r"makes 1e\+12 elements"),
        ("Pad", [torch.ones(3, 2), torch.tensor([0, 0, 10**12, 0])], {}, r"makes 2e\+12 elements"),
        ("Pad", [torch.ones(0), torch.tensor([0, 10**12])], {}, r"makes 1e\+12 elements"),
        ("Range", [torch.tensor(0), torch.tensor(10**15), torch.tensor(1)], {}, r"makes 1e\+15 elements"),
    ],
)
def test_what_an_operator_cannot_do_is_said(op_type, inputs, attributes, message):
    names = tuple(f"x{place}" for place in range(len(inputs)))
    with pytest.raises(SurrogateError, match=message):
        run_node(Node(op_type, names, ("y",), attributes), inputs, torch.float32)


def test_floats_keep_their_digits_through_a_cast_to_float():
    third = torch.tensor(1 / 3, dtype=torch.float64)
    (cast,) = run_node(Node("Cast", ("x",), ("y",), {"to": 1}), [third], torch.float64)
    assert cast.item() == third.item()


@pytest.mark.parametrize(
    ("op_type", "inputs", "one"),
    [
        ("Pad", [torch.ones(2), torch.tensor([1, 0]), torch.tensor(3.0)], 2),
        ("CumSum", [torch.ones(2, 3), torch.tensor(1)], 1),
        ("Trilu", [torch.ones(3, 3), torch.tensor(1)], 1),
        ("Range", [torch.tensor(0.0), torch.tensor(2.0), torch.tensor(0.5)], 0),
        ("Range", [torch.tensor(0.0), torch.tensor(2.0), torch.tensor(0.5)], 2),
    ],
)
def test_a_number_may_come_as_a_list_of_one(op_type, inputs, one):
    node = Node(op_type, tuple("abc"[: len(inputs)]), ("y",))
    listed = [value.reshape(1) if place == one else value for place, value in enumerate(inputs)]
    assert torch.equal(run_node(node, listed, torch.float32)[0], run_node(node, inputs, torch.float32)[0])


@pytest.mark.parametrize("hidden", [False, -np.inf])
def test_a_row_that_sees_nothing_attends_to_nothing(hidden):
    visible = torch.tensor([[True, True, False], [False, False, False]])
    mask = visible if hidden is False else torch.where(visible, 0.0, hidden)
    query, key, value = torch.ones(1, 1, 2, 2, requires_grad=True), torch.ones(1, 1, 3, 2), torch.arange(6.0).reshape(1, 1, 3, 2)
    (seen,) = run_node(Node("Attention", tuple("qkvm"), ("y",)), [query, key, value, mask], torch.float32)
    assert seen[0, 0].tolist() == [[1.0, 2.0], [0.0, 0.0]]
    (slope,) = torch.autograd.grad(seen.sum(), query)
    assert slope.tolist() == [[[[0.0, 0.0], [0.0, 0.0]]]]
