"""There are several ways to simulate: all give the surrogate's fluxes, and derivatives that finite differences confirm."""

from __future__ import annotations

import copy
import logging
import pickle
import sys
import warnings

import pytest
import torch
from torch import nn

from lit_invert import simulators
from lit_invert.errors import ConfigError, KernelError
from lit_invert.kernels import build, jit
from lit_invert.kernels.native import NativeKernel
from lit_invert.simulators import Simulator
from lit_invert.surrogates.base import FrozenSurrogate, SurrogateSpec, Variable
from lit_invert.surrogates.loaders import ArchivedNetwork
from lit_invert.surrogates.lstm import LSTMSurrogate

STATICS = tuple(Variable(f"s{i}", mean=float(i), std=2.0) for i in range(4))
DRIVERS = (Variable("tmp_2m", "K", 280.0, 8.0), Variable("dswrf", "W m-2", 128.0, 64.0))
OUTPUTS = tuple(Variable(name, "umol m-2 s-1", 0.1 * i, 1.0 + i) for i, name in enumerate(("gpp", "npp", "nep", "rh")))
# Relative to the largest number: rounding over 40 days; what `split` leaves of float32; the curvature that a step of 2e-3 to one
# side sees; rounding as differences over such a step magnify it, 500 times.
ROUNDING, SPLIT, ONE_SIDED, DIFFERENCED = 1e-5, 5e-5, 3e-3, 1e-3


class Dense(nn.Module):
    """A network that knows no yesterday, with a nonlinearity of one's choice."""

    def __init__(self, squash: nn.Module | None = None) -> None:
        super().__init__()
        self.enter, self.squash, self.leave = nn.Linear(6, 8), squash or nn.Tanh(), nn.Linear(8, 4)

    def forward(self, static: torch.Tensor, forcing: torch.Tensor) -> torch.Tensor:
        daily = torch.cat([forcing, static[:, None].expand(-1, forcing.shape[1], -1)], dim=-1)
        return self.leave(self.squash(self.enter(daily)))


class Windowed(Dense):
    """The same with forcing in two named parts."""

    def forward(self, static, forcing):
        return super().forward(static, torch.cat([forcing["air"], forcing["light"]], dim=-1))


class _Cube(torch.autograd.Function):
    """An operation that autograd knows backwards alone."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x**3

    @staticmethod
    def backward(ctx, gradient):
        return 3 * ctx.saved_tensors[0] ** 2 * gradient


class Cube(nn.Module):
    def forward(self, x):
        return _Cube.apply(x)


def surrogate(network, **spec):
    return FrozenSurrogate(network, SurrogateSpec("small", STATICS, DRIVERS, OUTPUTS, outputs_scaled=True, **spec))


def lstm(**kwargs):
    torch.manual_seed(1)
    return surrogate(LSTMSurrogate(4, 2, hidden_size=12, **kwargs))


def dense(squash=None):
    torch.manual_seed(1)
    return surrogate(Dense(squash))


def scripted():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return surrogate(ArchivedNetwork(torch.jit.script(dense().network)))


def drivers(batch=1, days=40):
    torch.manual_seed(2)
    scale, mean = (torch.tensor([getattr(v, name) for v in DRIVERS]) for name in ("std", "mean"))
    return mean + scale * torch.randn(batch, days, 2)


def statics(batch=3):
    torch.manual_seed(3)
    return torch.randn(batch, 4), torch.randn(batch, 5, 4)


def differences(simulator, static, directions, rows=None):
    """Central differences in float64."""
    exact = copy.deepcopy(simulator).double()
    static, directions = static.double(), directions.double()
    steps = [1e-6 * directions[:, k] for k in range(directions.shape[1])]
    return torch.stack([(exact(static + step, rows) - exact(static - step, rows)) / 2e-6 for step in steps], dim=-1)


def off(found, expected):
    assert found.shape == expected.shape
    return ((found - expected).abs().max() / expected.abs().max()).item()


@pytest.fixture
def compiler():
    try:
        build.load_library()
    except KernelError as error:
        pytest.skip(str(error))


@pytest.fixture
def no_compiler(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setattr(simulators, "_said", set())
    build.load_library.cache_clear()
    yield
    build.load_library.cache_clear()


@pytest.fixture
def no_numba(monkeypatch):
    monkeypatch.setitem(sys.modules, "scipy.linalg.cython_blas", None)
    jit._passes.cache_clear()


@pytest.mark.parametrize(
    ("kernel", "tolerance"), [("none", ONE_SIDED), ("torch", ROUNDING), ("numba", ROUNDING), ("native", SPLIT)]
)
@pytest.mark.parametrize("rows", [None, [2, 0, 0]], ids=["all members", "some members"])
def test_every_kernel_gives_the_fluxes_and_their_derivatives(compiler, kernel, tolerance, rows):
    network, forcing, (static, directions) = lstm(num_layers=2), drivers(batch=3), statics()
    rows = None if rows is None else torch.tensor(rows)
    simulator = Simulator(network, forcing, kernel)
    assert simulator.kernel == kernel
    expected = network(static, network.prepare(forcing)[slice(None) if rows is None else rows])
    assert off(simulator(static, rows), expected) < ROUNDING
    simulated, tangents = simulator.push(static, directions, rows)
    assert off(simulated, expected) < ROUNDING
    assert off(tangents, differences(Simulator(network, forcing), static, directions, rows)) < tolerance


@pytest.mark.parametrize(
    ("kernel", "tolerance"), [("none", DIFFERENCED), ("torch", ROUNDING), ("numba", ROUNDING), ("native", ROUNDING)]
)
def test_copies_simulate_and_shorter_ones_know_the_whole_year(compiler, kernel, tolerance):
    simulator, (static, directions) = Simulator(lstm(), drivers(days=400), kernel), statics()
    simulated, tangents = simulator.push(static, directions)
    for copied in (copy.deepcopy(simulator), pickle.loads(pickle.dumps(simulator))):
        assert torch.equal(copied(static), simulator(static))
    shorter = simulator.first(370)
    assert off(shorter(static), simulated[:, :370]) < ROUNDING
    assert off(shorter.push(static, directions)[1], tangents[:, :370]) < tolerance


def test_differences_in_float64_are_central():
    simulator, (static, directions) = Simulator(lstm().double(), drivers().double()), statics()
    simulated, tangents = simulator.push(static.double(), directions.double())
    assert off(simulated, simulator(static.double())) < 1e-12
    assert off(tangents, differences(simulator, static, directions)) < 1e-8


@pytest.mark.parametrize("batch", [1, 3])
def test_forward_mode_is_exact_where_the_network_allows_it(batch):
    simulator, (static, directions) = Simulator(dense(), drivers(batch)), statics()
    assert simulator._allows_forward_mode()
    simulated, tangents = simulator.push(static, directions)
    assert torch.equal(simulated, simulator(static))
    assert off(tangents, differences(simulator, static, directions)) < ROUNDING


@pytest.mark.parametrize("network", [scripted, lambda: dense(Cube())], ids=["TorchScript", "no forward derivative"])
@pytest.mark.parametrize("batch", [1, 3])
def test_differences_serve_networks_that_forward_mode_does_not(network, batch):
    simulator, (static, directions) = Simulator(network(), drivers(batch)), statics()
    assert not simulator._allows_forward_mode()
    simulated, tangents = simulator.push(static, directions)
    assert torch.equal(simulated, simulator(static))
    assert off(tangents, differences(simulator, static, directions)) < ONE_SIDED


@pytest.mark.parametrize("rows", [None, [2, 0, 0]], ids=["all members", "some members"])
def test_differences_serve_named_forcing(rows):
    torch.manual_seed(1)
    network, rows = surrogate(Windowed()), None if rows is None else torch.tensor(rows)
    forcing = {"air": torch.randn(3, 40, 1), "light": torch.randn(1, 40, 1).expand(3, -1, -1)}
    simulator, (static, directions) = Simulator(network, forcing), statics()
    picked = forcing if rows is None else {name: value[rows] for name, value in forcing.items()}
    simulated, tangents = simulator.push(static, directions, rows)
    assert torch.equal(simulated, network(static, picked))
    assert off(tangents, differences(simulator, static, directions, rows)) < ONE_SIDED


def test_a_direction_of_nothing_has_no_derivative():
    simulator, (static, directions) = Simulator(lstm(), drivers()), statics()
    directions[1, 2] = 0.0
    assert simulator.push(static, directions)[1][1, ..., 2].abs().max() == 0.0


@pytest.mark.parametrize("batch", [1, 3])
def test_chunks_give_what_one_batch_gives(monkeypatch, batch):
    simulator, (static, directions) = Simulator(lstm(), drivers(batch)), statics()
    whole = simulator.push(static, directions)
    calls = []
    simulator.surrogate.register_forward_hook(lambda module, inputs, output: calls.append(len(output)))
    monkeypatch.setattr(simulators, "_SIMULATED_BYTES", 4 * 40 * 128 * 2)
    for found, expected in zip(simulator.push(static, directions), whole, strict=True):
        assert off(found, expected) < DIFFERENCED
    assert calls == [2] * 9


@pytest.mark.parametrize(
    ("network", "forcing", "message"),
    [
        (dense, drivers, "the surrogate is a Dense. Use kernel: none"),
        (lambda: surrogate(LSTMSurrogate(4, 2), static_scaled=False), drivers, "`static_scaled: false`"),
        (lambda: lstm().double(), lambda: drivers().double(), "in float32 on the CPU, the forcing is torch.float64"),
    ],
)
def test_a_kernel_asked_for_by_name_says_why_it_cannot_work(network, forcing, message):
    with pytest.raises(KernelError, match=message):
        Simulator(network(), forcing(), "numba")
    assert Simulator(network(), forcing(), "auto").kernel == "none"


def test_a_network_that_no_kernel_knows_is_no_cause_for_a_line(caplog):
    Simulator(dense(), drivers(), "auto")
    assert caplog.records == []


@pytest.mark.parametrize(("key", "value"), [("kernel", "nativ"), ("arithmetic", "splitt")])
def test_an_unknown_choice_is_named(key, value):
    with pytest.raises(ConfigError, match=rf"`inversion.{key}` is '{value}'. Did you mean '{value[:5]}"):
        Simulator(lstm(), drivers(), **{key: value})


def test_without_a_compiler_numba_takes_over(no_compiler):
    assert Simulator(lstm(), drivers(), "auto").kernel == "numba"
    with pytest.raises(KernelError, match="no C compiler was found"):
        Simulator(lstm(), drivers(), "native")


def test_without_a_compiled_kernel_one_line_says_so_once(no_compiler, no_numba, caplog):
    assert [Simulator(lstm(), drivers(), "auto").kernel for _ in range(2)] == ["torch"] * 2
    (record,) = caplog.records
    assert (record.name, record.levelno) == ("lit_invert", logging.WARNING)
    assert record.getMessage().startswith(
        "lit-invert: the kernel of plain PyTorch runs, which takes longer: no C compiler was found"
    )


def test_without_any_kernel_the_line_says_that_pytorch_runs(caplog, monkeypatch):
    monkeypatch.setattr(simulators, "_said", set())
    assert Simulator(lstm().double(), drivers().double(), "auto").kernel == "none"
    (record,) = caplog.records
    assert record.getMessage().startswith("lit-invert: PyTorch itself runs, which takes longer: kernels compute in float32")


def test_the_kernel_of_plain_pytorch_leaves_all_but_tangents_to_the_network():
    network, forcing, (static, _) = lstm(), drivers(), statics()
    static.requires_grad_()
    found, expected = Simulator(network, forcing, "torch")(static), Simulator(network, forcing)(static)
    assert torch.equal(found, expected)
    assert torch.equal(*(torch.autograd.grad(fluxes.sum(), static)[0] for fluxes in (found, expected)))


@pytest.mark.parametrize("wrong", [lambda z: z + 0.01, lambda z: z * torch.nan], ids=["off", "not a number"])
def test_a_kernel_that_differs_from_the_surrogate_is_refused(compiler, monkeypatch, wrong):
    right = NativeKernel.simulate
    monkeypatch.setattr(
        NativeKernel, "simulate", lambda *args, **kwargs: (wrong(right(*args, **kwargs)[0]), right(*args, **kwargs)[1])
    )
    with pytest.raises(KernelError, match=r"the simulation of a kernel is off by .* of the surrogate's own, allowed are 1e-04"):
        Simulator(lstm(), drivers(), "native")
    assert Simulator(lstm(), drivers(), "auto").kernel == "numba"
