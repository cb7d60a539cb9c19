"""What every solver promises, on problems whose answer is known."""

from __future__ import annotations

import copy
import io
import itertools
import pickle

import pytest
import torch
from torch import nn

from lit_invert.errors import ConfigError, DivergenceError, ShapeError
from lit_invert.solvers import BoundedLBFGS, LeastSquares, LevenbergMarquardt, QuasiNewton, Stopping, minimize
from tests.solvers.problems import (
    SOLVERS,
    TIGHT,
    Recording,
    WithTerm,
    best_of_all_active_sets,
    draw,
    linear,
    real,
    rosenbrock,
)

every_solver = pytest.mark.parametrize("solver", SOLVERS)


def tight(solver):
    return lambda parameters, objective: solver(parameters, objective, stopping=TIGHT)


def run(solver, steps=200):
    for _ in range(steps):
        if solver.finished:
            return
        solver.step()


@every_solver
@pytest.mark.parametrize("start", [(-1.2, 1.0, -1.2), (3.0, -4.0, 0.0)])
def test_finds_the_end_of_a_curved_valley(solver, start):
    # with four parameters or more the valley has a second minimum
    solution = minimize(rosenbrock(parameters=3), real(*start)[None], tight(solver), max_iters=300)
    torch.testing.assert_close(solution.theta, torch.ones(1, 3, dtype=torch.float64), rtol=0, atol=1e-6)
    assert solution.status.startswith("converged")


@every_solver
@pytest.mark.parametrize("seed", [0, 1, 2, 3, 5, 6])
def test_a_linear_problem_in_a_box_ends_at_the_best_active_set(solver, seed):
    matrix, right, objective = linear(seed)
    expected = best_of_all_active_sets(matrix, right, objective.lower, objective.upper)
    assert (expected.abs() == 0.3).any()
    solution = minimize(objective, draw(1, 5, seed=seed + 7).clamp(-0.3, 0.3), tight(solver), max_iters=200)
    torch.testing.assert_close(solution.theta[0], expected, rtol=0, atol=1e-8)


@every_solver
def test_the_lowest_point_of_the_valley_below_a_bound_satisfies_the_optimality_conditions(solver):
    objective = rosenbrock(-2.0, 0.7)
    theta = minimize(objective, real(-1.2, 0.5, -1.2, 0.5)[None], tight(solver), max_iters=300).theta
    _, gradient = objective.gradient(theta)
    resting = theta == 0.7
    assert resting.any()
    assert not resting.all()
    assert (gradient[resting] < 0).all()
    # the loss is of order 1 here, with curvatures up to 1,000: a loss flat to rounding leaves gradients of this size
    torch.testing.assert_close(gradient[~resting], torch.zeros_like(gradient[~resting]), rtol=0, atol=1e-5)


@every_solver
def test_a_parameter_leaves_its_bound_when_the_gradient_turns(solver):
    # at the start the first parameter's best place lies below its bound, at the end, with the second at 2, well above it
    objective = LeastSquares(
        lambda theta: torch.stack([theta[:, 0] - theta[:, 1] ** 2 / 2 + 1, theta[:, 1] - 2], dim=1),
        lower=real(0.0, -9.0),
        upper=real(9.0, 9.0),
    )
    _, gradient = objective.gradient(real(0.0, 0.0)[None])
    assert gradient[0, 0] > 0
    solution = minimize(objective, real(0.0, 0.0)[None], tight(solver), max_iters=100)
    torch.testing.assert_close(solution.theta, real(1.0, 2.0)[None], rtol=0, atol=1e-6)


@every_solver
def test_no_trial_leaves_the_box(solver):
    seen = []

    class Watching(LeastSquares):
        def loss(self, theta, members=None):
            seen.append(theta.detach().clone())
            return super().loss(theta)

    box = torch.full((4,), 1.5, dtype=torch.float64)
    minimize(Watching(rosenbrock().residuals, lower=-box, upper=box), draw(3, 4, seed=1) * 3, solver)
    assert torch.cat(seen).abs().max() <= 1.5


@every_solver
def test_a_batch_gives_the_numbers_of_its_members_alone(solver):
    starts = draw(5, 4, seed=3)
    together = minimize(rosenbrock(), starts, solver, max_iters=12)
    for member, start in enumerate(starts):
        alone = minimize(rosenbrock(), start[None], solver, max_iters=12)
        # batched linear algebra adds in another order; twelve steps down the valley amplify that rounding
        torch.testing.assert_close(together.theta[member], alone.theta[0], rtol=1e-6, atol=1e-6)


@every_solver
def test_a_finished_member_is_never_evaluated_again(solver):
    recording = Recording(rosenbrock())
    theta = nn.Parameter(torch.cat([draw(1, 4, seed=4), torch.ones(1, 4, dtype=torch.float64), draw(1, 4, seed=5)]))
    engine = solver([theta], recording)
    while not engine.finished:
        running = set(engine.running.nonzero()[:, 0].tolist())
        first = len(recording.calls)
        engine.step()
        asked = set(itertools.chain.from_iterable(members for _, members in recording.calls[first:]))
        assert asked == running or (first > 0 and asked < running)
    calls = len(recording.calls)
    engine.step()
    assert len(recording.calls) == calls
    members = [members for _, members in recording.calls]
    assert members[0] == [0, 1, 2]
    assert all(1 not in later for later in members[1:])


@every_solver
def test_evaluations_count_each_member(solver):
    recording = Recording(rosenbrock())
    solution = minimize(recording, draw(3, 4, seed=6), solver)
    for kind, count in solution.evaluations.items():
        assert count == sum(len(members) for name, members in recording.calls if name == kind)


@every_solver
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_a_saved_state_goes_on_bit_for_bit(solver, dtype):
    def objective():
        return LeastSquares(rosenbrock().residuals)

    start = draw(2, 4, seed=8).to(dtype)
    theta = nn.Parameter(start.clone())
    first = solver([theta], objective())
    run(first, 4)
    file = io.BytesIO()
    torch.save(first.state_dict(), file)
    copy = nn.Parameter(theta.detach().clone())
    run(first, 5)
    file.seek(0)
    second = solver([copy], objective())
    second.load_state_dict(torch.load(file, weights_only=True))
    run(second, 5)
    assert torch.equal(theta, copy)
    assert torch.equal(first.loss, second.loss)
    assert first.evaluations == second.evaluations
    assert first.status == second.status


@every_solver
def test_tighter_tolerances_take_a_finished_fit_further(solver):
    theta = nn.Parameter(real(-1.2, 1.0, 0.5)[None])
    loose = solver([theta], rosenbrock(parameters=3), stopping=Stopping(gradient=1e-2, step=1e-2, loss=1e-2))
    run(loose)
    assert (theta - 1).abs().max() > 1e-6
    same, tighter = (solver([theta], rosenbrock(parameters=3), stopping=stopping) for stopping in (loose.stopping, TIGHT))
    same.load_state_dict(loose.state_dict())
    assert same.finished
    tighter.load_state_dict(loose.state_dict())
    run(tighter)
    torch.testing.assert_close(theta.detach(), torch.ones(1, 3, dtype=torch.float64), rtol=0, atol=1e-6)
    assert tighter.iterations > loose.iterations


@every_solver
def test_more_time_lets_a_stopped_fit_go_on(solver):
    theta = nn.Parameter(draw(2, 4, seed=9))
    stopped = solver([theta], rosenbrock(), stopping=Stopping(max_seconds=0.0))
    stopped.step()
    assert stopped.finished
    patient = solver([theta], rosenbrock(), stopping=Stopping(max_seconds=3600.0))
    patient.load_state_dict(stopped.state_dict())
    patient.step()
    assert patient.iterations == 1


@every_solver
def test_the_state_of_another_solver_is_refused(solver):
    theta = nn.Parameter(draw(2, 4, seed=8))
    other = BoundedLBFGS if solver is LevenbergMarquardt else LevenbergMarquardt
    adam = torch.optim.Adam([theta])
    theta.grad = torch.ones_like(theta)
    adam.step()
    for state, name in ((other([theta], rosenbrock()).state_dict(), repr(other.__name__)), (adam.state_dict(), "None")):
        with pytest.raises(ConfigError, match=f"{solver.__name__}: expected its own state, found that of solver {name}"):
            solver([theta], rosenbrock()).load_state_dict(state)


@every_solver
@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda solver: pickle.loads(pickle.dumps(solver))])
def test_a_copied_solver_goes_its_own_way_with_the_same_numbers(solver, duplicate):
    matrix = draw(12, 4, seed=13)
    theta = nn.Parameter(draw(2, 4, seed=8))
    first = solver([theta], LeastSquares(Sine(matrix)), stopping=TIGHT)
    first.step()
    second = duplicate(first)
    (twin,) = second.param_groups[0]["params"]
    before = twin.detach().clone()
    run(first, 4)
    assert torch.equal(twin, before)
    run(second, 4)
    assert torch.equal(twin, theta)
    assert second.stopping == TIGHT


class Sine:
    """A function that can be pickled."""

    def __init__(self, matrix):
        self.matrix = matrix

    def __call__(self, theta):
        return torch.sin(theta @ self.matrix.T) - 0.1


@pytest.mark.parametrize(("solver", "first"), [(BoundedLBFGS, "gradients"), (QuasiNewton, "linearizations")])
def test_looking_costs_nothing_after_the_first_step_unless_theta_was_moved(solver, first):
    recording = Recording(rosenbrock())
    theta = nn.Parameter(draw(3, 4, seed=14))
    engine = solver([theta], recording)
    engine.look()
    assert [name for name, _ in recording.calls] == [first]
    engine.step()
    asked = len(recording.calls)
    torch.testing.assert_close(engine.look(), rosenbrock().gradient(theta.detach()))
    assert len(recording.calls) == asked
    with torch.no_grad():
        theta.add_(0.1)
    torch.testing.assert_close(engine.look(), rosenbrock().gradient(theta.detach()))
    assert len(recording.calls) == asked + 1


@every_solver
def test_a_loaded_state_is_a_copy(solver):
    theta = nn.Parameter(draw(2, 4, seed=8))
    first = solver([theta], rosenbrock())
    first.step()
    second = solver([nn.Parameter(theta.detach().clone())], rosenbrock())
    second.load_state_dict(first.state_dict())
    before = first.loss
    run(second, 3)
    assert torch.equal(first.loss, before)
    assert first.iterations == 1


@every_solver
def test_a_region_without_a_loss_is_walked_around(solver):
    # the logarithm does not exist below zero, where a full first step leads
    objective = LeastSquares(lambda theta: torch.cat([torch.log(theta[:, :1]) - 1, 3 * (theta[:, 1:] - theta[:, :1])], dim=1))
    with torch.no_grad():
        assert objective.loss(real(-1.0, 0.0)[None]).isnan().all()
    start = real(60.0, 20.0)[None]
    solution = minimize(objective, start, tight(solver), max_iters=200)
    torch.testing.assert_close(solution.theta, torch.full((1, 2), torch.e, dtype=torch.float64), rtol=1e-6, atol=0)


@every_solver
def test_a_start_without_a_loss_is_refused_by_name(solver):
    objective = LeastSquares(lambda theta: torch.log(theta))
    with pytest.raises(DivergenceError, match=f"{solver.__name__}: .* loss nan for member 1 of 2. Start elsewhere"):
        minimize(objective, real(1.0, -1.0)[:, None], solver)


@every_solver
def test_a_time_limit_stops_all_members(solver):
    theta = nn.Parameter(draw(2, 4, seed=9))
    engine = solver([theta], rosenbrock(), stopping=Stopping(max_seconds=0.0))
    before = theta.detach().clone()
    engine.step()
    assert engine.finished
    assert torch.equal(theta, before)
    assert engine.status == "2 members after 0 to 0 iterations: 2 stopped"


@every_solver
def test_the_time_limit_counts_what_passed_before_a_saved_state(solver):
    theta = nn.Parameter(draw(1, 4, seed=9))
    engine = solver([theta], rosenbrock())
    engine.step()
    state = engine.state_dict()
    state["state"][0]["seconds"] = 3600.0
    resumed = solver([theta], rosenbrock(), stopping=Stopping(max_seconds=3600.0))
    resumed.load_state_dict(state)
    resumed.step()
    assert resumed.status == "stopped after 1 iteration: the limit of 3600.0 s was reached"


@every_solver
def test_a_closure_is_called_once_first_and_its_value_returned(solver):
    theta = nn.Parameter(draw(2, 4, seed=10))
    before, calls = theta.detach().clone(), []

    def closure():
        calls.append(torch.is_grad_enabled() and torch.equal(theta, before))
        return torch.tensor(7.0)

    engine = solver([theta], rosenbrock())
    assert engine.step(closure) == 7.0
    assert calls == [True]
    assert not torch.equal(theta, before)


@every_solver
def test_without_a_closure_a_step_returns_the_summed_loss(solver):
    objective = rosenbrock()
    theta = nn.Parameter(draw(3, 4, seed=11))
    engine = solver([theta], objective)
    returned = engine.step()
    torch.testing.assert_close(returned, objective.loss(theta.detach()).sum())
    torch.testing.assert_close(engine.loss, objective.loss(theta.detach()))


@every_solver
def test_a_loss_never_rises_in_float32(solver):
    objective = LeastSquares(rosenbrock().residuals)
    theta = nn.Parameter(draw(4, 4, seed=12).float())
    engine = solver([theta], objective)
    last = objective.loss(theta.detach())
    for _ in range(60):
        engine.step()
        loss = objective.loss(theta.detach())
        assert (loss <= last).all()
        last = loss
    assert theta.dtype == torch.float32


@every_solver
def test_parameters_of_another_shape_are_refused(solver):
    with pytest.raises(ShapeError, match=r"expected one parameter of shape \(members, parameters\), found \[\(4,\)\]"):
        solver([nn.Parameter(torch.zeros(4))], rosenbrock())
    with pytest.raises(ShapeError, match="Stack the members"):
        solver([nn.Parameter(torch.zeros(1, 4)), nn.Parameter(torch.zeros(1, 4))], rosenbrock())


@every_solver
def test_parameters_without_effect_stay_where_they_are(solver):
    objective = LeastSquares(lambda theta: theta[:, :1] ** 2 - 2)
    solution = minimize(objective, real(1.0, 0.25)[None], solver)
    assert solution.theta[0, 1] == 0.25
    torch.testing.assert_close(solution.theta[0, 0], real(2.0).sqrt()[0], rtol=1e-5, atol=0)


@every_solver
@pytest.mark.parametrize("bound", [10.0, torch.inf])
@pytest.mark.parametrize("weight", [1.0, 0.0])
def test_parameters_that_only_terms_without_residuals_see_reach_their_minimum(solver, bound, weight):
    # with weight 0 no residual sees anything, and the term has both parameters to itself
    def term(theta):
        return 1 + torch.cosh(theta[:, 1] - 3) + (1 - weight) * (theta[:, 0] - 1).cosh()

    objective = WithTerm(lambda theta: weight * (theta[:, :1] - 1), term)
    objective.lower, objective.upper = real(-bound, -bound), real(bound, bound)
    solution = minimize(objective, real(0.0, 0.0)[None], tight(solver))
    torch.testing.assert_close(solution.theta, real(1.0, 3.0)[None], rtol=0, atol=1e-6)
    assert solution.status.startswith("converged")
    assert solution.iterations < 40


def test_a_solution_says_what_it_cost_and_leaves_the_start_alone():
    start = real(-1.2, 1.0)[None]
    solution = minimize(rosenbrock(parameters=2), start, LevenbergMarquardt, max_iters=3)
    assert solution.iterations == 3
    assert solution.evaluations["linearizations"] == 3
    assert solution.status == "running after 3 iterations: no test of convergence is met yet"
    assert torch.equal(start, real(-1.2, 1.0)[None])
