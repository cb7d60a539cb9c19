"""Each test of convergence at numbers computed by hand, and what is said."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from lit_invert.solvers import LeastSquares, LevenbergMarquardt, Status, Stopping, minimize
from lit_invert.solvers.stopping import describe
from tests.solvers.problems import SOLVERS, real, rosenbrock


def is_flat(tolerance, loss, gradient, curvature, lower=-9.0, upper=9.0):
    values = (torch.tensor([[float(value)]], dtype=torch.float64) for value in (gradient, curvature, lower, upper))
    return bool(Stopping(gradient=tolerance).is_flat(real(loss), *values))


def test_the_gradient_test_compares_the_promised_decrease_with_the_loss():
    # g^2 / 2H = 0.04 / 8 = 0.005, and the loss is 2: a share of 0.05^2
    assert is_flat(0.0501, 2.0, 0.2, 4.0)
    assert not is_flat(0.0499, 2.0, 0.2, 4.0)
    assert not is_flat(0.0499, -2.0, 0.2, 4.0)


def test_the_gradient_test_promises_nothing_beyond_a_bound():
    assert is_flat(1e-5, 2.0, 0.2, 4.0, lower=0.0)
    assert not is_flat(1e-5, 2.0, -0.2, 4.0, lower=0.0)
    # half of the way is open, a quarter of the promise is lost: 0.00375 of 2 is a share of 0.0433^2
    assert is_flat(0.0434, 2.0, 0.2, 4.0, lower=-0.025)
    assert not is_flat(0.0432, 2.0, 0.2, 4.0, lower=-0.025)


def test_the_gradient_test_holds_where_a_parameter_has_no_effect():
    assert is_flat(1e-5, 2.0, 0.0, 0.0)
    assert not is_flat(1e-5, 2.0, 1e-9, 0.0, lower=-torch.inf, upper=torch.inf)


def test_a_promise_beyond_all_numbers_is_not_flat():
    # the step overflows where the curvature is next to nothing, and so does what it promises, to minus infinity
    assert not is_flat(1e-5, 2.0, 10.0, 1e-308, lower=-torch.inf, upper=torch.inf)


def test_the_loss_test_is_never_finer_than_the_rounding_of_the_loss():
    stopping = Stopping(loss=1e-9)
    assert not stopping.is_small(real(1e-8), real(1.0), torch.float64)
    assert stopping.is_small(real(1e-8), real(1.0), torch.float32)


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize(
    ("only", "sentence"),
    [
        ({"gradient": 1e-3}, "the gradient is flat: no parameter alone can lower the loss by 1e-06 of itself"),
        ({"step": 1e-4}, "the step was shorter than 1e-04 of theta"),
        ({"loss": 1e-5}, "the loss changed by less than 1e-05 of itself in two steps"),
    ],
)
def test_each_test_alone_ends_a_fit_near_its_minimum_and_is_named(solver, only, sentence):
    stopping = Stopping(**{"gradient": 0.0, "step": 0.0, "loss": 0.0, **only})
    objective = LeastSquares(lambda theta: torch.cat([rosenbrock(parameters=2).residuals(theta), theta - 2], dim=1))
    exact = minimize(objective, real(-1.2, 1.0)[None], LevenbergMarquardt)
    solution = minimize(objective, real(-1.2, 1.0)[None], lambda p, o: solver(p, o, stopping=stopping), max_iters=200)
    assert solution.status.startswith("converged after")
    assert solution.status.endswith(sentence)
    torch.testing.assert_close(solution.loss, exact.loss, rtol=1e-4, atol=0)


def test_a_small_decrease_counts_only_if_the_next_one_is_small_too():
    theta = nn.Parameter(torch.zeros(1, 1, dtype=torch.float64))
    decreases = iter([0.5, 1e-9, 0.5, 1e-9, 1e-9, 0.5])

    class Falling(LeastSquares):
        """A loss that falls by what the list says, wherever theta is."""

        level = 100.0

        def loss(self, theta, members=None):
            self.level -= next(decreases)
            return torch.full((1,), self.level, dtype=theta.dtype)

        def linearize(self, theta, members=None):
            linear = super().linearize(theta)
            return type(linear)(torch.full((1,), self.level, dtype=theta.dtype), linear.gradient, linear.curvature)

    objective = Falling(lambda theta: 1e-3 * (theta - 1.0))
    solver = LevenbergMarquardt([theta], objective, damping=10.0, stopping=Stopping(gradient=0.0, step=0.0))
    for _ in range(6):
        solver.step()
    assert solver.iterations == 5
    assert "in two steps" in solver.status


@pytest.mark.parametrize("solver", SOLVERS)
def test_a_member_that_no_step_promises_anything_has_converged_and_says_so(solver):
    class Rounded(LeastSquares):
        """A loss whose slope is rounding: wherever theta moves, it is larger by the last digits."""

        def loss(self, theta, members=None):
            return 1.0 + 1e-12 * (theta != start).any(-1)

        def gradient(self, theta, members=None):
            return self.loss(theta), 1e-9 * theta

        def linearize(self, theta, members=None):
            linear = super().linearize(theta)
            return type(linear)(self.loss(theta), 1e-9 * theta, 1e-9 * linear.curvature)

    start = real(2.0, 3.0)[None]
    few = {"trials": 6} if solver is LevenbergMarquardt else {"search": 6}  # before a trial is so short that it stays at the start
    solution = minimize(
        Rounded(lambda theta: theta), start, lambda p, o: solver(p, o, stopping=Stopping(gradient=0.0, step=0.0), **few)
    )
    assert torch.equal(solution.theta, start)
    sentence = "no step promises to lower the loss by more than its rounding or 1e-07 of itself"
    assert solution.status == f"converged after 0 iterations: {sentence}"


def test_every_status_has_a_sentence():
    for status in Status:
        text = describe(Stopping(max_seconds=5.0), torch.tensor([status]), torch.tensor([2]))
        assert text.startswith(f"{status.verb} after 2 iterations: ")
