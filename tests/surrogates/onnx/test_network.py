"""Exported networks against onnxruntime, against the networks they come from, and against finite differences."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from lit_invert.errors import SurrogateError
from lit_invert.surrogates.onnx.file import read_graph
from lit_invert.surrogates.onnx.network import OnnxNetwork
from tests.onnx_networks import N_FORCING, N_STATIC, NETWORKS, export, trained

parser = pytest.importorskip("onnx.parser")
onnxruntime = pytest.importorskip("onnxruntime")

SLOW = pytest.mark.slow
EXPORTS = [
    *[(name, False, 18) for name in NETWORKS],
    ("attention", True, 23),  # has the operator `Attention`
    *[pytest.param((name, False, opset), marks=SLOW) for name in NETWORKS for opset in (17, 20)],
    *[pytest.param((name, True, opset), marks=SLOW) for name in NETWORKS for opset in (18, 23)],
]


@pytest.fixture(scope="session")
def networks():
    return {name: trained(name) for name in NETWORKS}


@pytest.fixture(scope="session", params=EXPORTS, ids=str)
def exported(request, networks, tmp_path_factory):
    """A network and the file that torch made of it."""
    name, dynamo, opset = request.param
    path = tmp_path_factory.mktemp("exported") / "model.onnx"
    if dynamo and name in ("lstm", "gru"):
        export_apart(networks[name], path, opset)
    else:
        export(networks[name], path, dynamo, opset)
    return networks[name], path


def export_apart(network, path, opset):
    """Export in a process of its own: torch ties a recurrent network to its days from the second time on."""
    torch.save(network, path.with_suffix(".pt"))
    code = (
        "import pathlib, sys, torch; from tests.onnx_networks import export; path = pathlib.Path(sys.argv[1]);"
        "export(torch.load(path.with_suffix('.pt'), weights_only=False), path, True, int(sys.argv[2]))"
    )
    subprocess.run([sys.executable, "-c", code, str(path), str(opset)], check=True, cwd=Path(__file__).parents[3])


def load(path, output="flux"):
    return OnnxNetwork(read_graph(path), ("static", "forcing"), output)


def inputs(batch, days, dtype=torch.float32):
    generator = torch.Generator().manual_seed(batch * days)
    shapes = ((batch, N_STATIC), (batch, days, N_FORCING))
    static, forcing = (torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype) for shape in shapes)
    return static, forcing


def relative(found, expected):
    return ((found - expected).abs().max() / expected.abs().max()).item()


def test_outputs_agree_with_onnxruntime_at_any_batch_and_length(exported):
    _, path = exported
    network, session = load(path), onnxruntime.InferenceSession(path)
    for batch, days in ((1, 2), (3, 37), (2, 730)):
        static, forcing = inputs(batch, days)
        (expected,) = session.run(None, {"static": static.numpy(), "forcing": forcing.numpy()})
        with torch.no_grad():
            assert relative(network(static, forcing), torch.from_numpy(expected)) < 1e-5


def test_gradients_agree_with_the_network_and_with_differences(exported):
    original, path = exported
    original, network = copy.deepcopy(original).double(), load(path).double()
    static, forcing = inputs(2, 30, torch.float64)
    weights = torch.cos(torch.arange(2 * 30 * 4, dtype=torch.float64)).reshape(2, 30, 4)

    def total(network, static):
        return (network(static, forcing) * weights).sum()

    variable = static.clone().requires_grad_()
    found, expected = (torch.autograd.grad(total(part, variable), variable)[0] for part in (network, original))
    steps = 1e-5 * torch.eye(static.numel(), dtype=torch.float64).reshape(-1, *static.shape)
    with torch.no_grad():
        slopes = torch.stack([total(network, static + step) - total(network, static - step) for step in steps]) / 2e-5
    assert relative(found, expected) < 1e-5
    assert relative(found, slopes.reshape(static.shape)) < 1e-5


def test_forward_mode_pushes_many_tangents_at_once(exported):
    network = load(exported[1]).double()
    static, forcing = inputs(2, 9, torch.float64)
    directions = torch.eye(N_STATIC, dtype=torch.float64)[:, None].expand(-1, 2, -1)

    def push(direction):
        return torch.func.jvp(lambda x: network(x, forcing), (static,), (direction,))[1]

    pushed = torch.func.vmap(push)(directions)
    whole = torch.autograd.functional.jacobian(lambda x: network(x, forcing).sum(0), static)  # members do not meet
    torch.testing.assert_close(pushed, whole.permute(3, 2, 0, 1), rtol=1e-9, atol=1e-12)


def test_a_run_on_a_device_reads_nothing_back(exported):
    # The meta device holds no numbers, so whatever asked it for one would fail.
    network = load(exported[1]).to("meta")
    static, forcing = (value.to("meta") for value in inputs(2, 9))
    simulated = network(static, forcing)
    assert (simulated.device.type, simulated.shape) == ("meta", (2, 9, 4))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_gives_the_same_values_and_gradients(exported):
    network, (static, forcing) = load(exported[1]), inputs(2, 37)
    answers = []
    for device in ("cpu", "cuda"):
        variable = static.to(device).requires_grad_()
        simulated = network.to(device)(variable, forcing.to(device))
        answers.append((simulated.detach().cpu(), torch.autograd.grad(simulated.square().sum(), variable)[0].cpu()))
    assert all(relative(found, expected) < 1e-3 for found, expected in zip(*answers[::-1], strict=True))


def test_copies_and_pickles_answer_alike(exported):
    network = load(exported[1])
    static, forcing = inputs(2, 5)
    for other in (copy.deepcopy(network), pickle.loads(pickle.dumps(network))):
        assert torch.equal(other(static, forcing), network(static, forcing))


def test_nothing_is_trained(exported):
    network = load(exported[1]).requires_grad_(False)
    assert not any(parameter.requires_grad for parameter in network.parameters())
    assert {value.dtype for value in network.state_dict().values()} == {torch.float32}


HEAD = 'ir_version: 10, opset_import: ["" : 18, "my" : 1, "com.microsoft" : 1]'
DRIVEN = "(float[B, 2] static, float[B, T, 3] forcing) => (float[B, T, 3] flux)"


def write(path, body, functions="", signature=DRIVEN):
    path.write_bytes(parser.parse_model(f"<{HEAD}> main {signature} {{ {body} }} {functions}").SerializeToString())
    return path


def simulate(path):
    static, forcing = torch.tensor([[2.0, 3.0]]), torch.arange(6.0).reshape(1, 2, 3)
    return load(path)(static, forcing).flatten().tolist()


def test_local_functions_are_put_in_place(tmp_path):
    functions = '<domain: "my", opset_import: ["" : 18]> twice (x) => (y) { y = Add(x, x) }'
    assert simulate(write(tmp_path / "m.onnx", "flux = my.twice(forcing)", functions)) == [0, 2, 4, 6, 8, 10]


def test_what_depends_on_no_input_is_computed_once(tmp_path):
    body = """
        weight = Constant <value = float[3] {1.0, 2.0, 3.0}> ()
        size = Shape(weight)
        zeros = ConstantOfShape(size)
        shifted = Sub(weight, zeros)
        flux = Mul(forcing, shifted)
    """
    path = write(tmp_path / "m.onnx", body)
    assert simulate(path) == [0, 2, 6, 3, 8, 15]
    network = load(path)
    assert [name for name, _ in network.named_buffers()] == ["_type", "constant_0"]


@pytest.mark.parametrize(("truth", "expected"), [("1", [0, 2, 4, 6, 8, 10]), ("0", [0, 1, 4, 9, 16, 25])])
def test_a_branch_whose_condition_is_known_is_taken(tmp_path, truth, expected):
    body = f"""
        chosen = Constant <value = bool {{{truth}}}> ()
        flux = If (chosen) <
            then_branch = yes () => (float[B, T, 3] a) {{ a = Add(forcing, forcing) }},
            else_branch = no () => (float[B, T, 3] b) {{ b = Mul(forcing, forcing) }}
        >
    """
    assert simulate(write(tmp_path / "m.onnx", body)) == expected


def test_what_does_not_lead_to_the_output_is_left_out(tmp_path):
    signature = DRIVEN.replace("flux)", "flux, float[B, T, 3] other)")
    path = write(tmp_path / "m.onnx", "flux = Add(forcing, forcing) other = Hardmax(forcing)", signature=signature)
    assert simulate(path) == [0, 2, 4, 6, 8, 10]
    with pytest.raises(SurrogateError, match="operator 'Hardmax'"):
        load(path, "other")


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("flux = Hardmax(forcing)", "operator 'Hardmax' of node 'flux' \\(opset 18\\) is not supported"),
        ("[lookup] flux = Hardmax(forcing)", "operator 'Hardmax' of node 'lookup'"),
        ("flux = my.Magic(forcing)", "operator 'my.Magic' of node 'flux' .* belongs to domain 'my'"),
        ("flux = com.microsoft.Gelu(forcing)", "belongs to domain 'com.microsoft'"),
        ("small = ReduceMax(forcing) c = Cast<to = 9>(small) flux = If (c) <"
         " then_branch = yes () => (float[B, T, 3] a) { a = Add(forcing, forcing) },"
         " else_branch = no () => (float[B, T, 3] b) { b = Mul(forcing, forcing) }>", "operator 'If' of node 'flux'"),
        ("w = Exp(static) flux, h, c = LSTM(forcing, w, w)", "operator 'LSTM' of .* has weights that depend on the inputs"),
        ("v = Constant <value = float[2] {1.0, 2.0}> () w = Constant <value = float[3] {1.0, 2.0, 3.0}> ()"
         " u = Add(v, w) flux = Add(forcing, u)", "operator 'Add' of node 'u' .* cannot be computed \\(The size of tensor a"),
        ("w = Constant <value = float[1,4,3] {0,0,0,0,0,0,0,0,0,0,0,0}> () r = Constant <value = float[1,3,1] {0,0,0}> ()"
         " flux, h, c = LSTM(forcing, w, r)", "operator 'LSTM' of node 'flux' .* cannot be computed"),
        ("y, mask = Dropout(forcing) flux = Where(mask, forcing, y)", "has 2 outputs, of which 1 is supported"),
        ("c = Constant <value = bool[2] {1, 0}> () flux = If (c) <"
         " then_branch = yes () => (float[B, T, 3] a) { a = Add(forcing, forcing) },"
         " else_branch = no () => (float[B, T, 3] b) { b = Mul(forcing, forcing) }>", "operator 'If' .* cannot be computed"),
        ("c = Constant <value = bool {1}> () flux, other = If (c) <"
         " then_branch = yes () => (float[B, T, 3] a) { a = Add(forcing, forcing) },"
         " else_branch = no () => (float[B, T, 3] b) { b = Mul(forcing, forcing) }>", "operator 'If' .* cannot be computed"),
        ("size = Constant <value = int64[1] {150000000}> () zero = Constant <value = float {0.0}> () c = Expand(zero, size)"
         " d = Identity(c) flux = Add(d, forcing)", "operator 'Identity' of node 'd' .* makes 3e\\+08 elements, at most 2.7e\\+08"),
        ("size = Constant <value = int64[2] {1000000000, 1000000000}> () c = ConstantOfShape(size) flux = Add(c, forcing)",
         "operator 'ConstantOfShape' of node 'c' .* makes 1e\\+18 elements"),
    ],
)  # fmt: skip
def test_a_graph_that_cannot_run_is_one_line(tmp_path, body, message):
    path = write(tmp_path / "m.onnx", body)
    with pytest.raises(SurrogateError, match=message) as caught:
        load(path)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)
    assert "loader: import" in str(caught.value)


def test_an_error_in_a_run_tells_its_node(tmp_path):
    path = write(tmp_path / "m.onnx", "flux = MatMul(forcing, static)")
    with pytest.raises(RuntimeError) as caught:
        simulate(path)
    assert caught.value.__notes__ == [f"{path}: operator 'MatMul' of node 'flux'"]
