"""Files that are whole, damaged, old, or reach for other files."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import torch

from lit_invert.errors import SurrogateError
from lit_invert.surrogates.onnx.file import read_graph

onnx = pytest.importorskip("onnx")
helper = pytest.importorskip("onnx.helper")
WEIGHTS = np.arange(6, dtype=np.float32).reshape(2, 3)


def external(*entries, name="w", dims=(2, 3)):
    """Return a tensor that is kept in another file."""
    tensor = onnx.TensorProto(name=name, dims=dims, data_type=1, data_location=onnx.TensorProto.EXTERNAL)
    for key, value in entries:
        tensor.external_data.add(key=key, value=value)
    return tensor


def model_of(nodes, initializers=(), opset=18, functions=()):
    x, y = (helper.make_tensor_value_info(name, 1, ["days", size]) for name, size in (("x", 2), ("y", 3)))
    graph = helper.make_graph(nodes, "main", [x], [y], list(initializers))
    opsets = [helper.make_opsetid("", opset), helper.make_opsetid("my", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=10, functions=list(functions))


def product(*initializers, **changes):
    return model_of([helper.make_node("MatMul", ["x", "w"], ["y"])], initializers, **changes)


def constant(**attributes):
    return model_of([helper.make_node("Constant", [], ["c"], **attributes), helper.make_node("MatMul", ["x", "c"], ["y"])])


@pytest.fixture
def path(tmp_path):
    folder = tmp_path / "surrogate"
    folder.mkdir()
    return folder / "model.onnx"


def write(path, model):
    path.write_bytes(model.SerializeToString())
    return path


def test_a_graph_says_what_the_file_holds(path):
    graph = read_graph(write(path, product(onnx.numpy_helper.from_array(WEIGHTS, "w"))))
    assert (graph.opset, dict(graph.inputs), graph.outputs) == (18, {"x": (None, 2)}, ("y",))
    assert [(node.op_type, node.inputs, node.outputs) for node in graph.nodes] == [("MatMul", ("x", "w"), ("y",))]
    assert torch.equal(graph.constants["w"], torch.from_numpy(WEIGHTS))


@pytest.mark.parametrize("stored", ["FLOAT", "DOUBLE", "FLOAT16", "BFLOAT16"])
def test_floats_of_any_width_come_in_the_default_precision(path, stored):
    tensor = helper.make_tensor("w", getattr(onnx.TensorProto, stored), [2, 3], WEIGHTS.flatten())
    found = read_graph(write(path, product(tensor))).constants["w"]
    assert found.dtype == torch.float32
    assert torch.equal(found, torch.from_numpy(WEIGHTS))


@pytest.mark.parametrize(
    ("attribute", "expected"),
    [
        ({"value_float": 1.5}, torch.tensor(1.5)),
        ({"value_floats": [1.5, 2.5]}, torch.tensor([1.5, 2.5])),
        ({"value_int": 3}, torch.tensor(3)),
        ({"value_ints": [3, 4]}, torch.tensor([3, 4])),
        ({"value": helper.make_tensor("v", 9, [2], [True, False])}, torch.tensor([True, False])),
    ],
)
def test_constants_are_read_whichever_attribute_holds_them(path, attribute, expected):
    nodes = [helper.make_node("Constant", [], ["c"], **attribute), helper.make_node("MatMul", ["x", "x"], ["y"])]
    found = read_graph(write(path, model_of(nodes))).constants["c"]
    assert torch.equal(found, expected)
    assert found.dtype == expected.dtype


def test_weights_beside_the_file_are_read(path):
    (path.parent / "model.data").write_bytes(b"head" + WEIGHTS.tobytes())
    model = product(external(("location", "model.data"), ("offset", "4"), ("length", "24")))
    assert torch.equal(read_graph(write(path, model)).constants["w"], torch.from_numpy(WEIGHTS))


def test_a_hash_covers_no_weights_beside_the_file(path):
    (path.parent / "model.data").write_bytes(WEIGHTS.tobytes())
    write(path, product(external(("location", "model.data"))))
    with pytest.raises(SurrogateError, match=r"keeps tensor 'w' in another file.*`external_data=False`, or leave `sha256` out"):
        read_graph(path, is_hashed=True)


@pytest.mark.parametrize("name", ["../secret", "sub/../../secret", "/etc/hostname", "..\\secret", "C:\\secret", "link"])
@pytest.mark.parametrize("place", ["weights", "constant", "function", "second"])
def test_weights_elsewhere_are_refused_wherever_they_are_named(path, name, place):
    (path.parent.parent / "secret").write_bytes(WEIGHTS.tobytes())
    (path.parent / "link").symlink_to(path.parent.parent / "secret")
    (path.parent / "inside").write_bytes(WEIGHTS.tobytes())
    tensor = external(("location", name))
    constant = helper.make_node("Constant", [], ["w"], value=tensor)
    matmul = helper.make_node("MatMul", ["x", "w"], ["y"])
    function = helper.make_function("my", "f", ["x"], ["y"], [constant, matmul], [helper.make_opsetid("", 18)])
    models = {
        "weights": lambda: product(tensor),
        "constant": lambda: model_of([constant, matmul]),
        "function": lambda: model_of([helper.make_node("f", ["x"], ["y"], domain="my")], functions=[function]),
        "second": lambda: product(external(("location", "inside"), ("location", name))),
    }
    with pytest.raises(SurrogateError, match=r"the place of tensor '.*' is .*, which leaves the spec's folder") as caught:
        read_graph(write(path, models[place]()))
    assert "\n" not in str(caught.value)


def test_weights_that_are_missing(path):
    with pytest.raises(SurrogateError, match=r"weights 'model\.data' not found"):
        read_graph(write(path, product(external(("location", "model.data")))))


@pytest.mark.parametrize("damage", [lambda whole: whole[: len(whole) // 2], lambda whole: b"", lambda whole: b"garbage\n" * 9])
def test_damaged_files_are_one_line(path, damage):
    write(path, product(onnx.numpy_helper.from_array(WEIGHTS, "w")))
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(SurrogateError, match=r"model\.onnx: cannot be read as an ONNX model \(") as caught:
        read_graph(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (lambda: product(onnx.numpy_helper.from_array(WEIGHTS, "w"), opset=11), "uses opset 11 of ONNX, expected 13 or later"),
        (lambda: product(), "cannot be read as an ONNX model"),  # nobody says what w is
        (lambda: product(onnx.numpy_helper.from_array(WEIGHTS.astype(str).astype(object), "w")), "holds .*, expected numbers"),
        (lambda: product(onnx.numpy_helper.from_array(WEIGHTS.astype(np.complex64), "w")), "holds complex64, expected numbers"),
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_one_line(path, model, message):
    with pytest.raises(SurrogateError, match=message) as caught:
        read_graph(write(path, model()))
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "model",
    [
        lambda: product(onnx.TensorProto(name="w", dims=[2, 3], data_type=1, raw_data=b"\0" * 25)),
        lambda: product(onnx.TensorProto(name="w", dims=[2, 3], data_type=99, raw_data=b"\0" * 24)),
        lambda: constant(value_string="abc"),
        lambda: constant(),
        lambda: constant(value_float=1.0, value_int=2),
        lambda: model_of([helper.make_node("Gelu", ["x"], ["y"], approximate=b"\xff")], opset=20),
    ],
)
def test_what_passes_the_checker_but_holds_no_numbers_is_one_line(path, model):
    with pytest.raises(SurrogateError, match=r"model\.onnx: cannot be read as an ONNX model \(.*Fetch it again") as caught:
        read_graph(write(path, model()))
    assert "\n" not in str(caught.value)


def test_sparse_weights_are_refused(path):
    model = product()
    values, places = helper.make_tensor("w", 1, [1], [2.0]), helper.make_tensor("", 7, [1], [0])
    model.graph.sparse_initializer.append(helper.make_sparse_tensor(values, places, [2, 3]))
    with pytest.raises(SurrogateError, match="holds sparse weights"):
        read_graph(write(path, model))


def twice(level):
    """Return two calls, one after the other, of the function below."""
    return [helper.make_node(f"f{level - 1}", [a], [b], domain="my") for a, b in (("x", "z"), ("z", "y"))]


def twice_in_branches(level):
    """Return the same in both branches of an `If`."""
    branch = helper.make_graph(twice(level), "branch", [], [helper.make_empty_tensor_value_info("y")])
    truth = helper.make_node("Constant", [], ["c"], value=helper.make_tensor("t", 9, [], [True]))
    return [truth, helper.make_node("If", ["c"], ["y"], then_branch=branch, else_branch=branch)]


@pytest.mark.parametrize("doubled", [twice, twice_in_branches])
def test_functions_that_double_thirty_times_are_refused(path, doubled):
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("my", 1)]
    functions = [helper.make_function("my", "f0", ["x"], ["y"], [helper.make_node("Exp", ["x"], ["y"])], opsets)]
    functions += [helper.make_function("my", f"f{level}", ["x"], ["y"], doubled(level), opsets) for level in range(1, 31)]
    model = model_of([helper.make_node("f30", ["x"], ["y"], domain="my")], functions=functions)
    with pytest.raises(SurrogateError, match="more than 100000 nodes"):
        read_graph(write(path, model))


def test_without_the_package_the_extra_is_named(path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(SurrogateError, match=r'pip install "lit-invert\[onnx\]"'):
        read_graph(path)
