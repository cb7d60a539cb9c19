"""Recurrent nodes against onnxruntime."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from lit_invert.errors import SurrogateError
from lit_invert.surrogates.onnx.node import Node
from lit_invert.surrogates.onnx.recurrent import build_recurrent

helper = pytest.importorskip("onnx.helper")
onnxruntime = pytest.importorskip("onnxruntime")

DAYS, BATCH, WIDTH, SIZE = 6, 2, 3, 4
GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}


def arrays(op_type, directions=1):
    """Return weights, biases and states of a node by the names of its inputs."""
    rng, rows = np.random.default_rng(3), GATES[op_type] * SIZE
    shapes = {"W": (directions, rows, WIDTH), "R": (directions, rows, SIZE), "B": (directions, 2 * rows)}
    shapes["X"] = (DAYS, BATCH, WIDTH)
    shapes["hidden"] = shapes["cell"] = (directions, BATCH, SIZE)
    return {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}


def answers(op_type, names, attributes, values):
    """Return what onnxruntime gives for a model of one recurrent node."""
    outputs = ["Y", "Y_h", "Y_c"][: 3 if op_type == "LSTM" else 2]
    node = helper.make_node(op_type, names, outputs, hidden_size=SIZE, **attributes)
    inputs = [helper.make_tensor_value_info(name, 1, values[name].shape) for name in names if name]
    graph = helper.make_graph([node], "one", inputs, [helper.make_empty_tensor_value_info(name) for name in outputs])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    session = onnxruntime.InferenceSession(model.SerializeToString())
    return session.run(None, {name: values[name] for name in names if name})


@pytest.mark.parametrize(
    ("op_type", "attributes"),
    [
        *[(name, {"direction": way}) for name in ("LSTM", "RNN") for way in ("forward", "reverse", "bidirectional")],
        *[("GRU", {"linear_before_reset": 1, "direction": way}) for way in ("forward", "reverse", "bidirectional")],
        *[("GRU", {"linear_before_reset": 0, "direction": way}) for way in ("forward", "reverse")],
        ("RNN", {"activations": ["Relu"]}),
    ],
)
@pytest.mark.parametrize("given", ["all", "weights", "hidden"])
def test_a_recurrent_node_agrees_with_onnxruntime(op_type, attributes, given):
    values = arrays(op_type, 2 if attributes.get("direction") == "bidirectional" else 1)
    names = {"all": ["X", "W", "R", "B", "", "hidden"], "weights": ["X", "W", "R"], "hidden": ["X", "W", "R", "", "", "hidden"]}[
        given
    ]
    if op_type == "LSTM" and given == "all":
        names = [*names, "cell"]
    expected = answers(op_type, names, attributes, values)
    tensors = {name: torch.from_numpy(values[name]) for name in names if name}
    node = Node(op_type, tuple(names), ("Y",), {"hidden_size": SIZE, **attributes})
    layer = build_recurrent(node, [tensors.get(name) for name in ("W", "R", "B")])
    with torch.no_grad():
        found = layer(tensors["X"], tensors.get("hidden"), tensors.get("cell"))
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, torch.from_numpy(theirs), rtol=1e-5, atol=1e-6)


def test_a_gru_that_resets_first_has_the_right_gradient():
    values = {name: torch.from_numpy(value).double() for name, value in arrays("GRU").items()}
    node = Node("GRU", ("X", "W", "R", "B"), ("Y",), {"linear_before_reset": 0})
    layer = build_recurrent(node, [values[name] for name in ("W", "R", "B")])
    x = values["X"].requires_grad_()
    assert torch.autograd.gradcheck(lambda x, hidden: layer(x, hidden)[0], (x, values["hidden"].requires_grad_()))


@pytest.mark.parametrize(
    ("op_type", "inputs", "attributes", "message"),
    [
        ("LSTM", "X W R", {"clip": 1.0}, "attribute 'clip'"),
        ("LSTM", "X W R", {"layout": 1}, "layout 1"),
        ("LSTM", "X W R", {"input_forget": 1}, "input_forget 1"),
        ("LSTM", "X W R", {"activations": ["Relu", "Tanh", "Tanh"]}, "activations Relu, Tanh, Tanh, expected Sigmoid, Tanh, Tanh"),
        ("LSTM", "X W R B lengths", {}, "lengths of its sequences"),
        ("LSTM", "X W R B - - - P", {}, "peepholes"),
        ("GRU", "X W R", {"direction": "bidirectional"}, "bidirectional with `linear_before_reset` 0"),
    ],
)
def test_what_a_layer_cannot_do_is_said(op_type, inputs, attributes, message):
    names = tuple(name.strip("-") for name in inputs.split())
    weights = [torch.from_numpy(arrays(op_type, 2)[name]) for name in ("W", "R", "B")]
    with pytest.raises(SurrogateError, match=message):
        build_recurrent(Node(op_type, names, ("Y",), attributes), weights)
