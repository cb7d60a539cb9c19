from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
from torch import nn

from lit_invert.errors import ShapeError, SurrogateError
from lit_invert.problem import InversionProblem
from lit_invert.simulators import Simulator
from lit_invert.starting import coarse_days
from lit_invert.surrogates import windows as module
from lit_invert.surrogates.base import FrozenSurrogate, SurrogateSpec, Variable
from lit_invert.surrogates.lstm import LSTMSurrogate
from lit_invert.surrogates.windows import WindowedNetwork, Windows
from lit_invert.testing import ToyNetwork, toy_problem, toy_surrogate, toy_truth

SPEC = SurrogateSpec(
    name="windowed",
    statics=(Variable("a"), Variable("b")),
    drivers=(Variable("tmp_2m"), Variable("dswrf")),
    outputs=(Variable("gpp", "MgC ha-1 d-1"), Variable("nep", "gC m-2 d-1")),
    windows=Windows(context_days=7, horizon_days=3),
)
#: Lengths of records: one window, a day more, a day less than two, two, and many.
LENGTHS = [10, 11, 12, 13, 31, 60]


class Remembering(nn.Module):
    """Fluxes that depend on every day of the window up to their own, so that no other window gives them."""

    def forward(self, static, window):
        past = torch.tanh(window).cumsum(1)
        return torch.stack([static[:, :1] * past[..., 0], torch.sin(static[:, 1:] + past[..., 1])], dim=-1)


class Horizon(Remembering):
    """The same for the horizon alone."""

    def forward(self, static, window):
        return super().forward(static, window)[:, -3:]


class Split(Remembering):
    """The same from context and horizon apart."""

    def forward(self, static, context, horizon):
        return super().forward(static, torch.cat([context, horizon], dim=1))[:, -horizon.shape[1] :]


NETWORKS = [(Remembering(), "joined"), (Horizon(), "joined"), (Split(), "split")]


def recurrent() -> LSTMSurrogate:
    torch.manual_seed(4)
    return LSTMSurrogate(2, 2, 2, hidden_size=5, head="linear")


def windowed(network=None, **changes) -> FrozenSurrogate:
    return FrozenSurrogate(Remembering() if network is None else network, replace(SPEC, **changes)).double()


def inputs(days=31, members=4, rows=1):
    generator = torch.Generator().manual_seed(1)
    static = torch.randn(members, 2, generator=generator, dtype=torch.float64)
    return static, torch.randn(rows, days, 2, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("days", LENGTHS)
@pytest.mark.parametrize(("network", "kind"), NETWORKS)
def test_a_record_is_what_a_loop_over_windows_gives(days, network, kind):
    static, forcing = inputs(days, members=3, rows=3)
    expected = torch.zeros(3, days, 2, dtype=torch.float64)
    for first in [*range(0, days - 10, 3), days - 10]:
        for member in range(3):
            whole = Remembering()(static[member : member + 1], forcing[member : member + 1, first : first + 10])
            simulated = expected[member, first + 7 : first + 10]
            simulated[:] = torch.where(simulated == 0, whole[0, -3:], simulated)  # what an earlier window gave stays
    found = WindowedNetwork(network, Windows(7, 3, kind))(static, forcing)
    torch.testing.assert_close(found, expected, rtol=0, atol=0)


@pytest.mark.parametrize("days", LENGTHS)
def test_horizons_tile_the_days_after_the_first_context(days):
    class Place(nn.Module):
        def forward(self, static, window):
            return torch.cat([window, window[:, :1].expand_as(window)], dim=-1)  # the day, and the first day of its window

    forcing = torch.arange(days, dtype=torch.float64).reshape(1, days, 1).expand(2, -1, -1)
    day, first = WindowedNetwork(Place(), Windows(7, 3))(torch.zeros(2, 1), forcing).unbind(-1)
    assert day.tolist() == [[0] * 7 + list(range(7, days))] * 2
    assert first.tolist() == [[0] * 7 + [min((t - 7) // 3 * 3, days - 10) for t in range(7, days)]] * 2


def test_a_surrogate_speaks_physical_units_outside_the_windows():
    static, forcing = inputs()
    surrogate = windowed()
    simulated = surrogate(static, surrogate.prepare(forcing))
    bare = WindowedNetwork(Remembering(), SPEC.windows)(static, forcing.expand(4, -1, -1))
    torch.testing.assert_close(simulated, bare * torch.tensor([100.0, 1.0]), rtol=0, atol=0)
    assert simulated[:, :7].count_nonzero() == 0


@pytest.fixture
def few_bytes(monkeypatch):
    """Room for 5 windows of 10 days and 20 gates in float64 a call."""
    monkeypatch.setattr(module, "_CPU_BYTES", 5 * 8 * 10 * 20)


def gradient(surrogate, static, forcing):
    leaf = static.clone().requires_grad_()
    simulated = surrogate(leaf, forcing)
    weights = torch.cos(torch.arange(simulated.numel(), dtype=torch.float64)).reshape(simulated.shape)
    return torch.autograd.grad((simulated * weights).sum(), leaf)[0], weights


@pytest.mark.parametrize("network", [Remembering(), recurrent()])
def test_gradients_are_slopes(network):
    static, forcing = inputs()
    surrogate = windowed(network)
    found, weights = gradient(surrogate, static, forcing)
    steps = 1e-6 * torch.eye(2, dtype=torch.float64)
    slopes = [((surrogate(static + s, forcing) - surrogate(static - s, forcing)) * weights).sum((1, 2)) / 2e-6 for s in steps]
    torch.testing.assert_close(found, torch.stack(slopes, 1), rtol=1e-6, atol=1e-6)


def test_chunks_change_no_number(few_bytes):
    network, (static, forcing) = recurrent().double(), inputs(days=60)
    surrogate = windowed(network)
    found, _ = gradient(surrogate, static, forcing)
    in_chunks = surrogate(static, forcing)
    module._CPU_BYTES = 1 << 28
    torch.testing.assert_close(found, gradient(surrogate, static, forcing)[0], rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(in_chunks, surrogate(static, forcing), rtol=1e-12, atol=1e-12)


def test_a_call_never_holds_more_windows_than_memory_bears(few_bytes):
    surrogate, seen = windowed(recurrent()), []
    surrogate.network.network.register_forward_pre_hook(lambda _, given: seen.append(len(given[0])))
    surrogate(*inputs(days=61, members=4))
    assert sum(seen) == 4 * 18
    assert max(seen) <= 5


def test_weights_that_were_recorded_as_buffers_count_like_parameters(few_bytes):
    class Recorded(Remembering):
        def __init__(self):
            super().__init__()
            self.register_buffer("weight", torch.zeros(20, 2))

    seen = []
    surrogate = windowed(Recorded())
    surrogate.network.network.register_forward_pre_hook(lambda _, given: seen.append(len(given[0])))
    surrogate(*inputs(days=61, members=4))
    assert (sum(seen), max(seen)) == (4 * 18, 5)


def test_what_a_gradient_keeps_does_not_grow_with_the_chunks(few_bytes):
    def kept(limit):
        module._CPU_BYTES, storages = limit, {}

        def keep(tensor):
            storages[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            simulated = windowed(recurrent())(static.requires_grad_(), forcing)
        assert simulated.requires_grad
        return sum(storages.values())

    static, forcing = inputs(days=307, members=4)  # 400 windows, 80 chunks
    assert kept(module._CPU_BYTES) < 0.02 * kept(1 << 28)


@pytest.mark.parametrize("network", [Remembering(), recurrent()], ids=["forward mode", "differences"])
def test_tangents_are_those_of_autograd(network):
    static, forcing = inputs()
    simulator = Simulator(windowed(network), forcing)
    assert simulator._allows_forward_mode() == isinstance(network, Remembering)
    directions = torch.eye(2, dtype=torch.float64).expand(4, 2, 2)
    simulated, tangents = simulator.push(static, directions)
    jacobian = torch.autograd.functional.jacobian(lambda x: simulator(x).sum(0), static)  # (T, V, B, P)
    torch.testing.assert_close(simulated, simulator(static), rtol=0, atol=1e-12)
    torch.testing.assert_close(tangents, jacobian.permute(2, 0, 1, 3), rtol=1e-6, atol=1e-6)


def test_the_first_days_alone_are_simulated_the_same():
    static, forcing = inputs(days=60)
    simulator = Simulator(windowed(), forcing)
    days = 34  # whole horizons: no window is shifted back
    torch.testing.assert_close(simulator.first(days)(static), simulator(static)[:, :days], rtol=0, atol=1e-12)


def test_weights_are_frozen_and_hashed_as_the_network_s_own():
    network = recurrent()
    surrogate = windowed(network)
    assert not any(parameter.requires_grad for parameter in surrogate.parameters())
    assert surrogate.sha256 == FrozenSurrogate(recurrent(), replace(SPEC, windows=None, warmup_days=0)).sha256


def windowed_toy(problem: InversionProblem, windows: Windows) -> InversionProblem:
    """Return the same problem with the toy surrogate cut into windows; it remembers nothing, so its fluxes are the same."""
    spec = replace(toy_surrogate().spec, windows=windows)
    surrogate = FrozenSurrogate(ToyNetwork(), spec).double()
    mask = problem.mask.clone()
    mask[:, : spec.warmup_days] = False
    return InversionProblem(surrogate, problem.space, problem.forcing, problem.observed, mask, problem.loss_terms)


def test_the_loss_of_a_windowed_problem_is_zero_at_the_truth_and_nowhere_else():
    problem = windowed_toy(toy_problem(n_days=100), Windows(20, 15))
    truth = problem.space.to_theta(toy_truth())[None]
    assert problem(truth).total.item() == 0
    assert problem(truth + 0.1).total.item() > 1e-4


def test_a_coarse_start_is_no_shorter_than_a_window():
    problem = windowed_toy(toy_problem(n_days=1500), Windows(365, 90))
    problem.mask[:, 500:1400] = False  # three tenths of the observed days end on day 436
    assert coarse_days(problem, "nep") == [455]
    assert torch.isfinite(problem.first(455)(problem.space.to_theta(toy_truth())[None]).total).all()


def test_a_record_shorter_than_a_window():
    surrogate = windowed()
    with pytest.raises(ShapeError, match=r"forcing has 9 days but a window has 10: 7 of context and 3 of horizon\. Choose"):
        surrogate(*inputs(days=9))


@pytest.mark.parametrize(
    ("result", "error", "message"),
    [
        (lambda window: (window, window), SurrogateError, "returned a tuple, expected one tensor"),
        (lambda window: window[:, -2:], ShapeError, r"returned shape \(32, 2, 2\), expected \(windows, 3 or 10, outputs\)"),
        (lambda window: window[:, -1], ShapeError, r"returned shape \(32, 2\), expected \(windows, 3 or 10, outputs\)"),
        (lambda window: window[..., :1], ShapeError, r"returned shape \(4, 31, 1\), expected \(4, 31, 2\)"),
    ],
)
def test_a_network_that_does_not_fit_its_windows(result, error, message):
    class Wrong(nn.Module):
        def forward(self, static, window):
            return result(window)

    with pytest.raises(error, match=message):
        windowed(Wrong())(*inputs())


def test_a_spec_keeps_its_windows(tmp_path):
    spec = replace(SPEC, windows=Windows(7, 3, "split"))
    spec.save(tmp_path / "spec.json")
    assert SurrogateSpec.load(tmp_path / "spec.json") == spec
    assert json.loads((tmp_path / "spec.json").read_text())["windows"] == {"context_days": 7, "horizon_days": 3, "inputs": "split"}


def test_the_first_context_is_warm_up():
    assert SPEC.warmup_days == 7
    assert replace(SPEC, warmup_days=20).warmup_days == 20
    plain = {**vars(SPEC), "windows": {"context_days": 8, "horizon_days": 3}}
    del plain["warmup_days"]
    assert SurrogateSpec.from_dict(plain).warmup_days == 8


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"windows": 30}, "'windows' is 30, expected an object with context_days and horizon_days"),
        ({"windows": {"context_days": 7}}, "'horizon_days' of 'windows' is None, expected a whole number of days, 1 or more"),
        ({"windows": {"context_days": True, "horizon_days": 3}}, "'context_days' of 'windows' is True"),
        ({"windows": {"context_days": 7, "horizon_days": 0}}, "'horizon_days' of 'windows' is 0"),
        ({"windows": {"context": 7, "horizon_days": 3}}, "unknown key 'context'. Did you mean 'context_days'"),
        (
            {"windows": {"context_days": 7, "horizon_days": 3, "inputs": "spit"}},
            "'inputs' of 'windows' is 'spit'. Did you mean 'split'",
        ),
        ({"windows": {"context_days": 7, "horizon_days": 3, "inputs": ["split"]}}, r"'inputs' of 'windows' is \['split'\]"),
        ({"windows": {"context_days": 10**15, "horizon_days": 3}}, "'context_days' of 'windows' is 1000000000000000, .* at most"),
        ({"warmup_days": False}, "'warmup_days' is False, expected a whole number"),
        ({"warmup_days": 0.0}, r"'warmup_days' is 0\.0, expected a whole number"),
        ({"fixed_length": 10}, "has 'fixed_length' and 'windows'"),
        ({"warmup_days": 6}, "'warmup_days' is 6, expected 7 or more"),
    ],
)
def test_a_spec_with_windows_that_cannot_be(changes, message):
    with pytest.raises(SurrogateError, match=f"spec.json: .*{message}"):
        SurrogateSpec.from_dict({**vars(SPEC), **changes}, "spec.json")


def test_any_spec_says_its_shortest_run():
    plain = replace(SPEC, windows=None, warmup_days=0)
    assert [s.shortest_run for s in (plain, replace(plain, fixed_length=40), SPEC)] == [1, 40, 10]
