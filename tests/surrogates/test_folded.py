"""What is done once per fit changes no number: entering, leaving, copies, shorter periods and what a simulation leaves behind."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from torch import nn

from lit_invert.kernels.jit import NumbaKernel
from lit_invert.surrogates.folded import FoldedLSTM, _push_through, leave, push_leave
from lit_invert.surrogates.lstm import CarbonHead, LSTMSurrogate


def folded(batch=3, days=40, **kwargs):
    torch.manual_seed(1)
    network = LSTMSurrogate(5, 3, hidden_size=16, num_layers=2, **kwargs).requires_grad_(False)
    forcing = torch.randn(batch, days, 3)
    return network, forcing, FoldedLSTM(network, forcing, NumbaKernel), torch.randn(batch, 5)


def test_statics_with_and_without_gradient_simulate_the_same():
    _, _, surrogate, static = folded()
    assert torch.equal(surrogate(static), surrogate(static.requires_grad_()).detach())


def test_weights_take_no_part_in_the_gradient():
    network, _, surrogate, static = folded()
    surrogate(static.requires_grad_()).sum().backward()
    assert static.grad.abs().min() > 0.0
    assert all(weight.grad is None for weight in network.parameters())


def test_the_first_days_still_know_the_climate_of_the_whole_first_year():
    network, forcing, surrogate, static = folded(days=70)
    torch.testing.assert_close(surrogate.first(30)(static), network(static, forcing)[:, :30])
    assert not torch.allclose(surrogate.first(30)(static), network(static, forcing[:, :30]))


def test_copies_give_the_same_numbers():
    _, _, surrogate, static = folded()
    expected, directions = surrogate(static), torch.randn(3, 4, 5)
    for copied in (copy.deepcopy(surrogate), pickle.loads(pickle.dumps(surrogate))):
        assert torch.equal(copied(static), expected)
        assert torch.equal(copied.push(static, directions)[1], surrogate.push(static, directions)[1])


@pytest.mark.parametrize("change", ["statics", "in place", "members", "days"])
def test_what_the_last_simulation_left_serves_only_where_it_was(change):
    network, forcing, surrogate, static = folded()
    rows, directions = torch.arange(3), torch.randn(3, 4, 5)
    surrogate(static, rows)
    if change == "statics":
        static = static + 1e-3
    elif change == "in place":
        static += 1e-3
    elif change == "members":
        rows = torch.tensor([2, 0, 1])
    else:
        surrogate, forcing = surrogate.first(30), forcing[:, :30]
    fresh = FoldedLSTM(network, folded()[1], NumbaKernel).first(forcing.shape[1])
    for found, expected in zip(surrogate.push(static, directions, rows), fresh.push(static, directions, rows), strict=True):
        assert torch.equal(found, expected)


def test_tangents_leave_the_head_as_its_derivative_says():
    torch.manual_seed(1)
    head = CarbonHead(hidden_size=4, daily_size=3, member_size=2).double()
    head.flux_scale.copy_(torch.tensor([3.0, 2.0, 1.0]))
    z, gain = torch.randn(2, 7, 3, dtype=torch.float64), torch.randn(2, 3, dtype=torch.float64)
    pushed, gain_pushed = torch.randn(2, 7, 3, 4, dtype=torch.float64), torch.randn(2, 4, 3, dtype=torch.float64)
    expected = [
        torch.func.jvp(lambda z, gain: leave(head, z, gain), (z, gain), (pushed[..., k], gain_pushed[:, k])) for k in range(4)
    ]
    simulated, tangents = push_leave(head, z, gain, pushed.clone(), gain_pushed)
    torch.testing.assert_close(simulated, expected[0][0])
    torch.testing.assert_close(tangents, torch.stack([tangent for _, tangent in expected], dim=-1))


def test_tangents_go_through_small_networks_as_their_derivative_says():
    torch.manual_seed(1)
    module = nn.Sequential(nn.Linear(3, 6), nn.SiLU(), nn.Linear(6, 2), nn.Identity()).double()
    x, tangents = torch.randn(2, 3, dtype=torch.float64), torch.randn(2, 4, 3, dtype=torch.float64)
    found = _push_through(module, x, tangents)
    for k in range(4):
        expected = torch.func.jvp(module, (x,), (tangents[:, k],))
        torch.testing.assert_close((found[0], found[1][:, k]), expected)


def test_a_layer_without_a_rule_is_named():
    with pytest.raises(TypeError, match="no tangent rule for Tanh"):
        _push_through(nn.Sequential(nn.Tanh()), torch.zeros(1, 2), torch.zeros(1, 1, 2))
