"""ONNX files as surrogates: from a spec to a fitted vector of parameters."""

from __future__ import annotations

import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from lit_invert.builtin import register_surrogate_loaders
from lit_invert.errors import SurrogateError
from lit_invert.inversion import invert
from lit_invert.observations import Observations
from lit_invert.settings import InversionSettings
from lit_invert.surrogates.base import file_hash, weights_hash
from lit_invert.surrogates.loaders import load_surrogate
from lit_invert.surrogates.onnx.loader import find_inputs
from lit_invert.surrogates.onnx.node import Graph
from lit_invert.surrogates.windows import Windows
from lit_invert.testing import toy_forcing, toy_surrogate, toy_table, toy_truth
from lit_invert.trust import Trust
from tests.onnx_networks import NETWORKS, beside, export, trained

onnx = pytest.importorskip("onnx")
parser = pytest.importorskip("onnx.parser")


def write(folder, **changes):
    """Write a spec of the toy process's emulator beside `model.onnx`."""
    spec = {"loader": "onnx", "weights": "model.onnx", **changes}
    replace(toy_surrogate().spec, **spec).save(folder / "spec.json")
    return folder / "spec.json"


def load(spec_path):
    return load_surrogate(spec_path, {loader.name: loader for loader in register_surrogate_loaders()}, Trust())


@pytest.fixture(scope="module", params=NETWORKS)
def emulator(request, tmp_path_factory):
    """The spec of a trained network."""
    folder = tmp_path_factory.mktemp(request.param)
    path = export(trained(request.param), folder / "model.onnx")
    return write(folder, sha256=file_hash(path))


def twin(surrogate, days=120):
    """Return forcing and observations of NEP that the surrogate itself made at the known truth."""
    forcing = toy_forcing(days)
    with torch.no_grad():
        scaled = surrogate.static_scaler.to_scaled(toy_truth().float())[None]
        simulated = surrogate(scaled, surrogate.prepare(forcing))[0].double().numpy()
    dates = np.datetime64("2001-01-01") + np.arange(days)
    mask = np.broadcast_to(np.arange(4) == 2, simulated.shape).copy()
    return forcing[0], Observations(dates, surrogate.spec.output_names, simulated, mask)


def test_a_twin_is_fitted_through_an_onnx_file(emulator):
    surrogate = load(emulator)
    before = weights_hash(surrogate.network)
    forcing, observed = twin(surrogate)
    settings = InversionSettings(solver="auto", lambda_prior=0.0, max_iters=60)
    quiet = {"accelerator": "cpu", "enable_progress_bar": False}
    result = invert(surrogate, toy_table(), forcing, observed, settings, trainer=quiet)
    assert "levenberg_marquardt" in result.message
    prior, optimum = (
        np.sqrt(np.mean((simulated - observed.values)[:, 2] ** 2))
        for simulated in (result.simulated_prior, result.simulated_optimum)
    )
    assert optimum < 0.02 * prior
    assert result.optimum.numpy() == pytest.approx(toy_truth().numpy(), abs=0.01)
    assert weights_hash(surrogate.network) == before


def test_the_file_itself_is_hashed_and_needs_no_trust(emulator):
    assert load(emulator).sha256 == file_hash(emulator.parent / "model.onnx")


HEAD = '<ir_version: 10, opset_import: ["" : 18]> main'
BODY = """{
    axis = Constant <value = int64[1] {1}> ()
    member = Unsqueeze(s, axis)
    days = Add(member, x)
    last = Constant <value = int64[1] {-1}> ()
    one = ReduceMean<keepdims = 1>(days, last)
    flux = Concat<axis = 2>(one, one, one, one)
}"""


def sketch(folder, signature="(float[B, 3] s, float[B, T, 3] x) => (float[B, T, 4] flux)", body=BODY):
    (folder / "model.onnx").write_bytes(parser.parse_model(f"{HEAD} {signature} {body}").SerializeToString())


@pytest.mark.parametrize(
    ("signature", "changes", "message"),
    [
        ("(float[2, 3] s, float[2, T, 3] x) => (float[2, T, 4] flux)", {}, "'s' was exported for a batch of exactly 2"),
        ("(float[B, 4] s, float[B, T, 3] x) => (float[B, T, 4] flux)", {}, "'s' takes 4 static parameters, spec 'toy' names 3"),
        ("(float[B, 3] s, float[B, T, 5] x) => (float[B, T, 4] flux)", {}, "'x' takes 5 drivers, spec 'toy' names 3"),
        ("(float[B, 3] s, float[B, 9, 3] x) => (float[B, 9, 4] flux)", {}, "for exactly 9 days, spec 'toy' says any number"),
        ("(float[B, 3] s, float[B, 9, 3] x) => (float[B, 9, 4] flux)", {"fixed_length": 8}, "exactly 9 days, spec 'toy' says 8"),
        ("(float[B, 3] s, float[B, T, 3] x, float[B] y) => (float[B, T, 4] flux)", {}, r"has inputs s \(any, 3\), .*, expected 2"),
        ("(float[B, 3] s, float[B, T, 3] x) => (float[B, T, 4] flux, float[B, T, 3] days)", {}, "has outputs flux, days"),
        (None, {"architecture": {"static": "s"}}, "unknown key 'static'. Did you mean 'static_input'"),
        (None, {"architecture": {"static_input": "z"}}, "`static_input` is 'z', which the graph does not have"),
        (None, {"architecture": {"output": "fluxes"}}, "`output` is 'fluxes', which the graph does not have. Did you mean 'flux'"),
        (None, {"architecture": {"static_input": "x"}}, "'x' has 3 dimensions, expected 2 for static"),
        (None, {"weights": None}, "loader 'onnx' needs `weights`"),
    ],
)
def test_a_file_that_does_not_fit_its_spec_is_one_line(tmp_path, signature, changes, message):
    sketch(tmp_path, *[signature] if signature else [])
    with pytest.raises(SurrogateError, match=message) as caught:
        load(write(tmp_path, **changes))
    assert "\n" not in str(caught.value)


def test_one_of_several_outputs_may_be_named(tmp_path):
    sketch(tmp_path, "(float[B, 3] s, float[B, T, 3] x) => (float[B, T, 4] flux, float[B, T, 3] days)")
    assert load(write(tmp_path, architecture={"output": "flux"}))(torch.ones(2, 3), torch.zeros(1, 5, 3)).shape == (2, 5, 4)


def test_a_stated_hash_wants_a_whole_file(tmp_path):
    sketch(tmp_path)
    model = onnx.load(tmp_path / "model.onnx")
    weight = onnx.TensorProto(name="w", dims=[4], data_type=1, data_location=onnx.TensorProto.EXTERNAL)
    weight.external_data.add(key="location", value="w.data")
    (tmp_path / "w.data").write_bytes(bytes(16))
    model.graph.initializer.append(weight)
    (tmp_path / "model.onnx").write_bytes(model.SerializeToString())
    assert load(write(tmp_path)).spec.sha256 is None
    with pytest.raises(SurrogateError, match="keeps tensor 'w' in another file, which `sha256` does not cover"):
        load(write(tmp_path, sha256=file_hash(tmp_path / "model.onnx")))


def test_members_that_meet_are_refused(tmp_path):
    body = BODY.replace("Unsqueeze(s, axis)", "Unsqueeze(first, axis)")
    zero = "zero = Constant <value = int64[1] {0}> () first = Gather(s, zero)"
    sketch(tmp_path, body=body.replace("{\n", f"{{\n{zero}\n", 1))
    with pytest.raises(SurrogateError, match="simulates a member differently beside others"):
        load(write(tmp_path))


def test_a_network_of_one_length_says_so_in_its_spec(tmp_path):
    sketch(tmp_path, "(float[B, 3] s, float[B, 9, 3] x) => (float[B, 9, 4] flux)")
    assert load(write(tmp_path, fixed_length=9))(torch.ones(2, 3), torch.zeros(1, 9, 3)).shape == (2, 9, 4)


@pytest.mark.parametrize(
    ("inputs", "named", "expected"),
    [
        ({"x_d": 3, "x_s": 2}, {}, ("x_s", "x_d")),
        ({"a": 3, "b": 2}, {}, ("b", "a")),
        ({"x_d": 0, "x_s": 0}, {}, ("x_s", "x_d")),
        ({"a": 0, "static": 0}, {}, ("static", "a")),
        ({"a": 0, "b": 0}, {"forcing_input": "a"}, ("b", "a")),
        ({"static": 3, "forcing": 2}, {"static_input": "forcing"}, ("forcing", "static")),
    ],
)
def test_inputs_are_found_as_named_or_by_name_or_by_dimensions(tmp_path, inputs, named, expected):
    graph = Graph(tmp_path, 18, (), {}, {name: (None,) * count for name, count in inputs.items()}, ("y",))
    assert tuple(find_inputs(graph, ("static", "forcing"), named, "spec").values()) == expected


def test_inputs_that_cannot_be_told_apart_must_be_named(tmp_path):
    graph = Graph(tmp_path, 18, (), {}, {"a": (), "b": ()}, ("y",))
    with pytest.raises(SurrogateError, match="Name `static_input` and `forcing_input` in spec"):
        find_inputs(graph, ("static", "forcing"), {}, "spec")


class Split(nn.Module):
    """A network of windows, whose horizon remembers the mean of its context."""

    def forward(self, static, context, horizon):
        days = beside(static, horizon).sum(-1, keepdim=True) + context.mean((1, 2))[:, None, None]
        return days.expand(-1, -1, 4)


def test_split_windows_take_three_inputs(tmp_path):
    network, windows = Split(), Windows(context_days=4, horizon_days=2, inputs="split")
    inputs = torch.zeros(2, 3), torch.zeros(2, 4, 3), torch.zeros(2, 2, 3)
    names = ["static", "context", "horizon"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            *(network, inputs, tmp_path / "model.onnx"),
            dynamo=False,
            input_names=names,
            output_names=["flux"],
            dynamic_axes={name: {0: "windows"} for name in names},
        )
    surrogate = load(write(tmp_path, windows=windows, warmup_days=4))
    static, forcing = torch.randn(2, 3), torch.randn(1, 10, 3)
    found = surrogate(static, forcing)
    expected = network(static, *forcing[:, 4:].expand(2, -1, -1).split([4, 2], dim=1))
    torch.testing.assert_close(found[:, -2:], expected)
