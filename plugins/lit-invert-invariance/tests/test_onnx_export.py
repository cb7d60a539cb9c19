"""Exports to ONNX: what onnxruntime makes of them, and what an inversion does."""

from __future__ import annotations

import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from lit_invert_invariance.onnx_export import check_onnx, degradation, export_surrogate
from lit_invert_invariance.onnx_runtime import RuntimeNetwork
from torch import nn

from lit_invert import (
    FrozenSurrogate,
    LevenbergMarquardt,
    LitInvertError,
    ProblemObjective,
    RunInfo,
    load_plugins,
    minimize,
    parse_fit,
    read_every_site,
)
from lit_invert.builtin import register_surrogate_loaders
from lit_invert.errors import SurrogateError
from lit_invert.solvers import Stopping
from lit_invert.surrogates.loaders import load_surrogate
from lit_invert.surrogates.lstm import LSTMSurrogate
from lit_invert.surrogates.windows import Windows
from lit_invert.testing import ToyNetwork, toy_forcing, toy_problem, toy_surrogate, toy_truth
from lit_invert.trust import Trust
from tests.onnx_networks import NETWORKS, trained

pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")

CONFIG = Path(__file__).parents[3] / "configs" / "fr_hes.yaml"
RUN = RunInfo("check-surrogate", "toy", None, 0)


def asked(network, run=RUN, **spec):
    """Ask the check of a network in place of the toy's."""
    return check_onnx(problem_of(FrozenSurrogate(network, replace(toy_surrogate().spec, **spec))), None, run)


def problem_of(surrogate, days=60):
    return toy_problem(n_days=days, dtype=torch.float32).variant(surrogate=surrogate)


def reloaded(surrogate, folder):
    loaders = {loader.name: loader for loader in register_surrogate_loaders()}
    return load_surrogate(export_surrogate(surrogate, folder), loaders, Trust())


def lstm(**arguments):
    torch.manual_seed(5)
    return LSTMSurrogate(n_static=3, n_forcing=3, hidden_size=8, **arguments).eval()


NETWORKS_OF_THE_SHIPPED_KIND = {
    "embedding": {"static_embedding": 5},
    "concat": {"conditioning": "concat", "climatology": False},
    "initial state": {"conditioning": "initial_state", "num_layers": 2},
}


@pytest.mark.parametrize("arguments", NETWORKS_OF_THE_SHIPPED_KIND.values(), ids=NETWORKS_OF_THE_SHIPPED_KIND)
def test_an_export_takes_any_batch_and_any_number_of_days(arguments, tmp_path):
    network = lstm(**arguments)
    export_surrogate(FrozenSurrogate(network, toy_surrogate().spec), tmp_path)
    runtime = RuntimeNetwork(tmp_path / "surrogate.onnx", ["static", "forcing"], "flux")
    for batch, days in ((1, 2), (2, 40), (3, 41), (7, 400)):
        static, forcing = torch.randn(batch, 3), torch.randn(batch, days, 3)
        with torch.no_grad():
            torch.testing.assert_close(runtime(static, forcing), network(static, forcing), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", NETWORKS)
def test_sound_networks_pass(name):
    verdict = asked(trained(name, steps=2))
    assert verdict.outcome == "pass", verdict.message
    assert verdict.value < 1e-3
    assert [row["flux"] for row in verdict.details["table"]] == ["gpp", "npp", "nep", "rh"]


def test_a_problem_in_double_precision_is_compared_in_double_precision():
    verdict = check_onnx(toy_problem(), None, RUN)
    assert verdict.outcome == "pass"
    assert verdict.value < 1e-12


class ExportsWrongly(ToyNetwork):
    """Other fluxes by a factor, but only while somebody exports it."""

    def __init__(self, factor):
        super().__init__()
        self.factor = factor

    def forward(self, static, forcing):
        return super().forward(static, forcing) * (self.factor if torch.onnx.is_in_onnx_export() else 1.0)


@pytest.mark.parametrize(("percent", "outcome"), [(1.4999, "pass"), (1.5001, "fail")])
def test_the_degradation_is_judged_on_both_sides_of_its_threshold(percent, outcome):
    verdict = asked(ExportsWrongly(1 + percent / 100))
    assert verdict.outcome == outcome
    assert verdict.value == pytest.approx(percent, abs=1e-5)
    assert verdict.threshold == 1.5
    row = verdict.details["table"][0]
    with torch.no_grad():
        assert row["degradation"] == pytest.approx(percent, abs=1e-5)
    assert row["largest_difference"] > 0


class CountsMembers(ToyNetwork):
    """`len` of a tensor is a plain number to a trace, which then holds that many members alone."""

    def forward(self, static, forcing):
        return super().forward(static.reshape(len(static), -1), forcing) + torch.zeros(len(static), 1, 1)


def test_a_graph_that_is_tied_to_its_example_fails_by_name():
    verdict = asked(CountsMembers())
    assert verdict.outcome == "fail"
    assert "onnxruntime cannot run 9 members and 60 days through the exported network" in verdict.message
    assert "\n" not in verdict.message


class StacksMembers(ToyNetwork):
    """A loop over members is written down as often as it ran: the export gives as many as were traced, and says nothing."""

    def forward(self, static, forcing):
        fluxes = super().forward(static, forcing)
        return torch.stack([fluxes[i] for i in range(len(fluxes))])


def test_an_export_of_fewer_members_fails_too():
    verdict = asked(StacksMembers())
    assert verdict.outcome == "fail"
    assert "runs only for as many members or days as were traced" in verdict.message


class Pools(ToyNetwork):
    """Adds a mean over sixty days, which fewer days do not have."""

    def forward(self, static, forcing):
        past = torch.nn.functional.avg_pool1d(forcing.transpose(1, 2), 60, 1).mean((1, 2))
        return super().forward(static, forcing) + past[:, None, None]


def test_a_network_that_needs_its_warm_up_is_traced_with_it():
    assert asked(Pools(), warmup_days=59).outcome == "pass"


class HasNoOnnx(ToyNetwork):
    def forward(self, static, forcing):
        return super().forward(static, forcing) + torch.special.airy_ai(forcing[..., :1])


def test_a_network_that_cannot_be_exported_fails_with_the_reason():
    verdict = asked(HasNoOnnx())
    assert (verdict.outcome, verdict.value) == ("fail", None)
    assert "cannot be exported to ONNX" in verdict.message
    assert "airy" in verdict.message


class SometimesNaN(ToyNetwork):
    """Not a number on days of much light, in torch, in the export, or in both."""

    def __init__(self, in_torch, in_export):
        super().__init__()
        self.gap = (in_torch, in_export)

    def forward(self, static, forcing):
        fluxes = super().forward(static, forcing)
        gap = torch.nan if self.gap[torch.onnx.is_in_onnx_export()] else 0.0
        return torch.where(forcing[..., 2:] > 0.9, fluxes + gap, fluxes)


def test_a_network_that_is_no_number_in_both_is_no_fault_of_the_export():
    bright = toy_forcing()[0, :, 2] > 128 + 64 * 0.9
    assert bright.double().mean() > 0.05
    verdict = asked(SometimesNaN(True, True))
    assert (verdict.outcome, verdict.details["lost"]) == ("pass", 0.0)
    assert verdict.value < 1e-3


def test_numbers_that_the_export_loses_are_a_fault_of_it():
    verdict = asked(SometimesNaN(False, True))
    assert verdict.outcome == "fail"
    assert "of the values are numbers in torch alone" in verdict.message
    assert asked(SometimesNaN(True, False)).outcome == "pass"


def test_days_of_the_warm_up_do_not_count():
    class WrongAtFirst(ToyNetwork):
        def forward(self, static, forcing):
            fluxes = super().forward(static, forcing)
            return fluxes + 100 * torch.onnx.is_in_onnx_export() * (forcing[..., 2:] < -0.99)

    surrogate = FrozenSurrogate(WrongAtFirst(), toy_surrogate().spec)
    problem = problem_of(surrogate)
    assert check_onnx(problem, None, RUN).outcome == "fail"
    problem.days = toy_forcing()[..., 2] > 128 - 64 * 0.95
    assert check_onnx(problem, None, RUN).outcome == "pass"


def test_degradation_has_a_closed_form():
    original = torch.tensor([3.0, -4.0, torch.nan, 7.0])
    assert degradation(original, torch.tensor([3.0, -4.5, 1.0, torch.inf])) == pytest.approx(10.0)
    zero = torch.zeros(2)
    assert (degradation(zero, zero), degradation(zero, torch.ones(2))) == (0.0, 100.0)


@pytest.mark.parametrize("name", ["lstm", "gru"])
def test_an_export_is_inverted_to_the_same_optimum(name, tmp_path):
    original = FrozenSurrogate(trained(name), replace(toy_surrogate().spec, warmup_days=7, accuracy={"nep": 0.25}))
    exported = reloaded(original, tmp_path)
    assert exported.spec.loader == "onnx"
    for key in ("statics", "drivers", "outputs", "warmup_days", "accuracy", "static_scaled", "forcing_scaled", "outputs_scaled"):
        assert getattr(exported.spec, key) == getattr(original.spec, key)
    problem = problem_of(original, days=120)
    problem = problem.variant(observed=problem.simulate(problem.space.to_theta(toy_truth().float())[None]))
    found = [optimum(asked) for asked in (problem, problem.variant(surrogate=exported))]
    assert (found[0] - found[1]).abs().max() < 1e-3
    assert (found[0] - problem.space.scaler.to_scaled(problem.space.priors)).abs().max() > 0.1


def optimum(problem):
    """Return where Levenberg-Marquardt ends, in standard deviations of the prior."""
    start = problem.space.to_theta(problem.space.priors)
    stopping = Stopping(gradient=1e-5, step=1e-6, loss=0.0)
    solution = minimize(ProblemObjective(problem), start, partial(LevenbergMarquardt, stopping=stopping), max_iters=100)
    return problem.space.scaler.to_scaled(problem.space.to_physical(solution.theta)) / problem.space.prior_sd_scaled


def test_the_shipped_surrogate_is_inverted_to_the_same_optimum(tmp_path):
    registry = load_plugins()
    config = parse_fit(["--config", str(CONFIG), "--checks", "skip"], registry)
    problem = next(read_every_site(config, registry)).problem
    other = problem.variant(surrogate=reloaded(problem.surrogate, tmp_path))
    found = [optimum(asked) for asked in (problem, other)]
    # the loss, 2.16, is known to seven digits in float32, and a parabola's place to half of them
    assert (found[0] - found[1]).abs().max() < 0.01


def test_windows_are_kept(tmp_path):
    class Horizon(nn.Module):
        def __init__(self):
            super().__init__()
            self.toy = ToyNetwork()

        def forward(self, static, context, horizon):
            return self.toy(static, horizon) + context.mean()

    spec = replace(toy_surrogate().spec, windows=Windows(context_days=5, horizon_days=10, inputs="split"), warmup_days=5)
    surrogate = FrozenSurrogate(Horizon(), spec)
    exported = reloaded(surrogate, tmp_path)
    static, forcing = torch.randn(2, 3), toy_forcing(33)
    torch.testing.assert_close(exported(static, exported.prepare(forcing)), surrogate(static, surrogate.prepare(forcing)))
    assert asked(Horizon(), windows=spec.windows, warmup_days=5).outcome == "pass"


def test_a_surrogate_of_one_length_is_exported_for_it(tmp_path):
    exported = reloaded(FrozenSurrogate(ToyNetwork(), replace(toy_surrogate().spec, fixed_length=60)), tmp_path)
    assert exported.spec.fixed_length == 60
    assert asked(ToyNetwork(), fixed_length=60).outcome == "pass"


def test_a_surrogate_that_is_an_onnx_file_is_run_from_that_file(tmp_path):
    exported = reloaded(FrozenSurrogate(trained("mlp", steps=2), toy_surrogate().spec), tmp_path)
    verdict = check_onnx(problem_of(exported), None, replace(RUN, folder=tmp_path / "run"))
    assert verdict.outcome == "pass"
    assert 0 <= verdict.value < 1e-3
    assert not (tmp_path / "run").exists()
    with pytest.raises(SurrogateError, match=r"is an ONNX file already: .*surrogate\.onnx"):
        export_surrogate(exported, tmp_path)


def test_the_export_stays_with_its_run(tmp_path):
    asked(lstm(), run=replace(RUN, folder=tmp_path))
    assert sorted(path.name for path in (tmp_path / "onnx").iterdir()) == ["spec.json", "surrogate.onnx"]


def test_the_surrogate_is_left_as_it_was(tmp_path):
    surrogate = FrozenSurrogate(lstm(), toy_surrogate().spec)
    modes = [module.training for module in surrogate.modules()]
    state = {name: value.clone() for name, value in surrogate.state_dict().items()}
    export_surrogate(surrogate, tmp_path)
    assert [module.training for module in surrogate.modules()] == modes
    assert all(torch.equal(value, state[name]) for name, value in surrogate.state_dict().items())


def test_a_missing_runtime_is_one_line(monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(LitInvertError, match=r"`onnxruntime` .*pip install lit-invert-invariance"):
        asked(ToyNetwork())


def test_a_file_that_is_no_graph_is_one_line(tmp_path):
    (tmp_path / "surrogate.onnx").write_bytes(np.arange(9).tobytes())
    with pytest.raises(SurrogateError, match=r"cannot open .*surrogate\.onnx"):
        RuntimeNetwork(tmp_path / "surrogate.onnx", ["static", "forcing"], "flux")
