from __future__ import annotations

import pytest
import torch
from torch import nn

from lit_invert.surrogates.base import FrozenSurrogate, SurrogateSpec, Variable, weights_hash
from lit_invert.surrogates.lstm import LSTMSurrogate

SPEC = SurrogateSpec(
    "small",
    (Variable("a", mean=2.0, std=4.0), Variable("b", mean=0.3, std=0.5, log=True)),
    (Variable("tmp_2m", "K", 280.0, 8.0), Variable("dswrf", "W m-2", 128.0, 64.0), Variable("prate")),
    tuple(Variable(name, "umol m-2 s-1", 0.1 * i, 1.0 + i) for i, name in enumerate(("gpp", "npp", "nep", "rh"))),
    outputs_scaled=True,
)


class Fragile(nn.Module):
    """Everything that training mode changes: dropout, batch statistics, a stacked recurrent layer with dropout."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(5)
        self.dropout = nn.Dropout(0.5)
        self.rnn = nn.LSTM(5, 6, num_layers=2, batch_first=True, dropout=0.5)
        self.head = nn.Linear(6, 4)

    def forward(self, static, forcing):
        inputs = torch.cat([static[:, None].expand(-1, forcing.shape[1], -1), forcing], dim=-1)
        hidden, _ = self.rnn(self.norm(inputs.transpose(1, 2)).transpose(1, 2))
        return self.head(self.dropout(hidden))


@pytest.fixture
def surrogate():
    torch.manual_seed(1)
    network = Fragile()
    network(torch.randn(8, 2), torch.randn(8, 5, 3))  # batch statistics that are not the initial ones
    return FrozenSurrogate(network, SPEC)


def fit(surrogate, steps=5):
    """Move static parameters as a Trainer would: train mode, every parameter in the optimiser."""
    static, forcing = nn.Parameter(torch.zeros(2, 2)), torch.randn(1, 6, 3)
    optimizer = torch.optim.Adam([static, *surrogate.parameters()], lr=0.1, weight_decay=0.1)
    for _ in range(steps):
        surrogate.train()
        optimizer.zero_grad()
        surrogate(static, forcing).sum().backward()
        optimizer.step()
        surrogate.eval()
    return static


def bits(module):
    return {name: value.numpy().tobytes() for name, value in module.state_dict().items()}


def test_weights_and_statistics_are_identical_after_a_fit(surrogate):
    before, digest = bits(surrogate.network), weights_hash(surrogate.network)
    assert "norm.running_mean" in before
    moved = fit(surrogate)
    assert moved.abs().min() > 0.05  # it was a fit
    assert bits(surrogate.network) == before
    assert surrogate.sha256 == digest == weights_hash(surrogate.network)
    assert all(parameter.grad is None for parameter in surrogate.parameters())


@pytest.mark.parametrize("mode", [True, False])
def test_training_mode_does_not_change_the_simulation(surrogate, mode):
    static, forcing = torch.randn(3, 2), torch.randn(1, 6, 3)
    first = surrogate(static, forcing)
    surrogate.train(mode)
    assert torch.equal(surrogate(static, forcing), first)
    nn.ModuleList([surrogate]).train(mode)  # as a child of a module that a Trainer sets to training
    assert torch.equal(surrogate(static, forcing), first)


@pytest.mark.parametrize("mode", [True, False])
def test_only_recurrent_layers_stay_in_training_mode(surrogate, mode):
    # cuDNN computes no gradient of a recurrent layer in evaluation mode.
    surrogate.train(mode)
    assert {name for name, module in surrogate.named_modules() if module.training} == {"network.rnn"}
    assert surrogate.network.rnn.dropout == 0.0


def test_a_members_simulation_does_not_depend_on_the_others(surrogate):
    static, forcing = torch.randn(4, 2).double(), torch.randn(1, 6, 3).double()
    surrogate.double()
    together = surrogate(static, forcing)
    alone = torch.cat([surrogate(one[None], forcing) for one in static])
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-14)


def central_difference(function, point, step=1e-6):
    """Jacobian of the sum of a function, by central differences."""
    gradient = torch.zeros_like(point)
    for i in range(point.numel()):
        shift = torch.zeros_like(point)
        shift.view(-1)[i] = step
        gradient.view(-1)[i] = (function(point + shift) - function(point - shift)) / (2 * step)
    return gradient


@pytest.mark.parametrize("conditioning", ["concat", "initial_state", "both"])
@pytest.mark.parametrize("static_scaled", [True, False])
def test_gradient_of_static_parameters_matches_differences(conditioning, static_scaled):
    torch.manual_seed(2)
    network = LSTMSurrogate(2, 3, hidden_size=5, num_layers=2, dropout=0.5, conditioning=conditioning)
    spec = SurrogateSpec("lstm", SPEC.statics, SPEC.drivers, SPEC.outputs, static_scaled=static_scaled, outputs_scaled=True)
    surrogate = FrozenSurrogate(network, spec).double()
    surrogate.train()
    static = torch.randn(2, 2, dtype=torch.float64, requires_grad=True)
    forcing, weight = torch.randn(1, 8, 3).double(), torch.randn(2, 8, 4).double()

    def weighted(point):
        return (weight * surrogate(point, forcing)).sum()

    (gradient,) = torch.autograd.grad(weighted(static), static)
    assert gradient.abs().min() > 1e-6
    with torch.no_grad():
        expected = central_difference(weighted, static.detach())
    torch.testing.assert_close(gradient, expected, rtol=1e-7, atol=1e-8)


class Windowed(nn.Module):
    """A forecaster: the mean of past days sets the level, the coming days' drivers and the statics shape it."""

    def forward(self, static, forcing):
        level = forcing["context"].mean((1, 2), keepdim=True)
        shape = (static[:, None, :1] * forcing["future"][..., :1]).tanh()
        return (level + shape).expand(-1, -1, 4)


def test_a_windowed_surrogate_takes_named_tensors():
    spec = SurrogateSpec("windowed", SPEC.statics, SPEC.drivers, SPEC.outputs)
    surrogate = FrozenSurrogate(Windowed(), spec).double()
    forcing = {"context": torch.randn(1, 30, 3).double(), "future": torch.randn(1, 7, 3).double()}
    prepared = surrogate.prepare(forcing)
    static = torch.randn(3, 2, dtype=torch.float64, requires_grad=True)
    simulated = surrogate(static, prepared)
    assert simulated.shape == (3, 7, 4)
    for member in range(3):
        each = {name: value for name, value in forcing.items()}
        torch.testing.assert_close(surrogate(static[member : member + 1], each), simulated[member : member + 1], rtol=0, atol=0)
    (gradient,) = torch.autograd.grad(simulated.sum(), static)
    with torch.no_grad():
        expected = central_difference(lambda point: surrogate(point, prepared).sum(), static.detach())
    torch.testing.assert_close(gradient, expected, rtol=1e-7, atol=1e-7)


def test_precision_follows_the_module(surrogate):
    static, forcing = torch.randn(2, 2), torch.randn(1, 6, 3)
    single = surrogate(static, forcing)
    double = surrogate.double()(static.double(), forcing.double())
    assert double.dtype == torch.float64
    torch.testing.assert_close(single.double(), double, rtol=1e-4, atol=1e-4)


def test_scaling_and_units_are_not_weights(surrogate):
    assert {name for name in surrogate.state_dict() if not name.startswith("network.")} == set()


@pytest.mark.gpu
def test_cudnn_computes_the_gradient_of_a_frozen_recurrent_layer(surrogate):
    static, forcing = torch.randn(3, 2), torch.randn(1, 50, 3)

    def gradient(device):
        surrogate.to(device).train()
        point = static.to(device).requires_grad_()
        return torch.autograd.grad(surrogate(point, forcing.to(device)).square().mean(), point)[0].cpu()

    with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        torch.testing.assert_close(gradient("cuda"), gradient("cpu"), rtol=1e-4, atol=1e-5)
