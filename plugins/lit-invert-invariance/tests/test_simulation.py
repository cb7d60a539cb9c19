"""Another precision simulates the same up to rounding, and a network that does not compute in it is none, whatever it raises."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from lit_invert_invariance.points import prior_points
from lit_invert_invariance.simulation import in_precision, simulate_counted, simulate_scaled, simulate_weathers

from lit_invert import FrozenSurrogate
from lit_invert.errors import SurrogateError
from lit_invert.testing import ToyNetwork, toy_problem


class Refuses(ToyNetwork):
    """Runs in single precision alone."""

    def __init__(self, error):
        super().__init__()
        self.error = error

    def forward(self, static, forcing):
        if forcing.dtype != torch.float32:
            raise self.error("expected Float but found Double")
        return super().forward(static, forcing)


class Rounds(ToyNetwork):
    """Gives single precision whatever it gets."""

    def forward(self, static, forcing):
        return super().forward(static, forcing).float()


def single(network, **spec):
    problem = toy_problem(dtype=torch.float32)
    return problem.variant(surrogate=FrozenSurrogate(network, replace(problem.surrogate.spec, **spec)))


@pytest.mark.parametrize("scaled", [True, False])
def test_single_precision_simulates_the_same_in_double(scaled):
    problem = single(ToyNetwork(), static_scaled=scaled)
    points = prior_points(problem, 5, seed=0)
    precise = in_precision(problem, torch.float64)(points.double())
    simulated = simulate_scaled(problem, points)
    assert precise.dtype == torch.float64
    torch.testing.assert_close(precise.float(), simulated, rtol=1e-5, atol=1e-5)
    assert not torch.equal(precise, simulated.double())
    assert problem.surrogate.network.gain.dtype == torch.float32


@pytest.mark.parametrize(
    "network", [*(Refuses(error) for error in (RuntimeError, ValueError, AssertionError, SurrogateError)), Rounds()]
)
def test_a_network_of_one_precision_is_not_run_in_the_other(network):
    problem = single(network)
    assert in_precision(problem, torch.float64) is None
    assert in_precision(problem, torch.float32) is not None


def test_weathers_are_simulated_at_the_prior():
    problem = toy_problem()
    both = simulate_weathers(problem, torch.cat([problem.forcing, problem.forcing + 1]))
    torch.testing.assert_close(both[0], problem.simulate(torch.zeros(1, 3).double())[0])
    assert not torch.equal(both[0], both[1])


def test_days_of_the_warm_up_are_left_out():
    problem = toy_problem(n_days=60)
    problem.days[:, :20] = False
    whole = simulate_scaled(problem, torch.zeros(2, 3).double())
    assert torch.equal(simulate_counted(problem, torch.zeros(2, 3).double()), whole[:, 20:])
    assert simulate_weathers(problem, problem.forcing).shape == (1, 40, 4)
