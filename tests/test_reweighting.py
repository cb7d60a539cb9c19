"""Changing a term's weight during a fit: every solver ends at the optimum of the new loss, as if it had known it all along."""

from __future__ import annotations

import pytest
import torch
from lightning.pytorch.callbacks import Callback
from torch import nn

from lit_invert import invert
from lit_invert.builtin import register_solvers
from lit_invert.errors import ConfigError
from lit_invert.losses import Misfit, Prior
from lit_invert.problem_objective import ProblemObjective
from lit_invert.settings import ConvergenceSettings, InversionSettings, StopSettings
from lit_invert.solvers import BoundedLBFGS, LevenbergMarquardt, QuasiNewton, Stopping
from lit_invert.solvers.stopping import Status
from lit_invert.testing import toy_problem

OLD, NEW = 2.0, 0.05
SOLVERS = [LevenbergMarquardt, QuasiNewton, BoundedLBFGS]
TIGHT = Stopping(gradient=1e-12, step=1e-12, loss=1e-14)


def closed_form(problem, weight):
    """Return the optimum of mean((A z + b - y)^2) + weight z'z, whose normal equations are linear."""
    parameters = len(problem.space.table)
    points = torch.cat([torch.zeros(1, parameters), torch.eye(parameters)]).to(problem.observed)
    nep = problem.simulate(points)[..., 2]
    mask = problem.mask[0, :, 2]
    slope, gap = (nep[1:] - nep[0]).T[mask], (problem.observed[0, :, 2] - nep[0])[mask]
    normal = slope.T @ slope / len(gap) + weight * torch.eye(parameters).to(slope)
    return torch.linalg.solve(normal, slope.T @ gap / len(gap))


def make(weight):
    problem = toy_problem(terms=[Misfit(), Prior(weight=weight)])
    return problem, ProblemObjective(problem)


def run(solver, steps=200):
    path = []
    while not solver.finished and len(path) < steps:
        solver.step()
        path.append(solver._theta.detach().clone())
    return path


def reweighted(build, old=OLD, new=NEW):
    """Return a solver that has finished with the old weight and been told of the new one."""
    problem, objective = make(old)
    theta = nn.Parameter(torch.zeros(1, 3, dtype=torch.float64))
    solver = build([theta], objective, stopping=TIGHT)
    run(solver)
    problem.loss_terms[1].weight = new
    objective.forget()
    solver.renew()
    return problem, theta, solver


@pytest.mark.parametrize("build", SOLVERS)
def test_a_finished_solver_runs_on_to_the_optimum_of_the_new_loss(build):
    problem, theta, solver = reweighted(build)
    old, new = closed_form(problem, OLD), closed_form(problem, NEW)
    torch.testing.assert_close(theta[0].detach(), old, rtol=0, atol=1e-6)
    assert (old - new).abs().max() > 0.3
    assert not solver.finished
    run(solver)
    assert solver.finished
    torch.testing.assert_close(theta[0].detach(), new, rtol=0, atol=1e-6)


@pytest.mark.parametrize("build", SOLVERS)
def test_a_renewed_solver_takes_the_path_of_a_fresh_one(build):
    _, theta, solver = reweighted(build)
    _, objective = make(NEW)
    fresh = build([nn.Parameter(theta.detach().clone())], objective, stopping=TIGHT)
    for here, there in zip(run(solver, 4), run(fresh, 4), strict=True):
        assert torch.equal(here, there)


@pytest.mark.parametrize("build", SOLVERS)
def test_a_member_that_was_left_stays_where_it_was(build):
    problem = toy_problem(terms=[Misfit(), Prior(weight=OLD)])
    objective = ProblemObjective(problem)
    theta = nn.Parameter(torch.zeros(2, 3, dtype=torch.float64))
    solver = build([theta], objective, stopping=TIGHT)
    solver.step()
    solver.leave(torch.tensor([True, False]))
    left = theta[0].detach().clone()
    problem.loss_terms[1].weight = NEW
    objective.forget()
    solver.renew()
    run(solver)
    assert torch.equal(theta[0].detach(), left)
    assert solver.describe(0)[0] is Status.LEFT
    torch.testing.assert_close(theta[1].detach(), closed_form(problem, NEW), rtol=0, atol=1e-6)


@pytest.mark.parametrize("build", SOLVERS)
def test_members_whose_time_is_up_stay_where_they_are(build):
    _, objective = make(OLD)
    theta = nn.Parameter(torch.zeros(1, 3, dtype=torch.float64))
    solver = build([theta], objective, stopping=Stopping(max_seconds=1e-9))
    assert len(run(solver)) == 2  # the clock starts with the first
    stayed = theta.detach().clone()
    solver.renew()
    assert solver.finished
    assert solver.describe(0)[0] is Status.TIME
    solver.step()
    assert torch.equal(theta.detach(), stayed)


def test_an_objective_forgets_every_answer():
    problem, objective = make(OLD)
    theta = torch.full((1, 3), 0.5, dtype=torch.float64)
    before = objective.loss_at(theta).total, objective.gradient(theta)[1], objective.linearize(theta).curvature
    problem.loss_terms[1].weight = NEW
    objective.forget()
    after = objective.loss_at(theta).total, objective.gradient(theta)[1], objective.linearize(theta).curvature
    change = OLD - NEW
    torch.testing.assert_close(before[0] - after[0], change * theta.square().sum(-1))
    torch.testing.assert_close(before[1] - after[1], 2 * change * theta)
    torch.testing.assert_close(before[2] - after[2], 2 * change * torch.eye(3, dtype=torch.float64)[None])


class Reweight(Callback):
    """Change the prior's weight at the end of one epoch, the first unless told otherwise."""

    def __init__(self, weight, epoch=0):
        self.weight, self.epoch = weight, epoch

    def on_train_epoch_end(self, trainer, pl_module):
        if trainer.current_epoch == self.epoch:
            pl_module.reweight({"prior": self.weight})


class Alternate(Callback):
    """Change the prior's weight at the end of every epoch until so many have passed, and then to `NEW`."""

    def __init__(self, epochs):
        self.epochs, self.passed = epochs, 0

    def on_train_epoch_end(self, trainer, pl_module):
        self.passed += 1
        if trainer.current_epoch < self.epochs:
            is_last = trainer.current_epoch == self.epochs - 1
            pl_module.reweight({"prior": NEW if is_last else OLD + trainer.current_epoch})


class AskToStop(Callback):
    """Ask the Trainer to stop before an iteration."""

    def __init__(self, iteration):
        self.iteration = iteration

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if trainer.global_step == self.iteration:
            trainer.should_stop = True


def fit(twin, solver, weight, callbacks=(), epoch=40, patience=None, max_seconds=None, **options):
    """Invert the twin in epochs of so many iterations; without patience to the end."""
    settings = InversionSettings(
        lr=0.1,
        max_iters=400,
        lambda_prior=weight,
        solver=solver,
        early_stopping=StopSettings(patience is not None, "loss", patience or 1),
        convergence=ConvergenceSettings(max_seconds=max_seconds),
        coarse_start=False,
    )
    chosen = next(each for each in register_solvers() if each.name == solver)
    # in float32 the loss is flat within 2e-4 of the optimum
    trainer = {"accelerator": "cpu", "precision": "64-true", "enable_progress_bar": False, "limit_train_batches": epoch}
    return invert(
        twin.surrogate,
        twin.table,
        twin.forcing,
        twin.fit,
        settings,
        solver=chosen,
        trainer=trainer,
        callbacks=list(callbacks),
        **options,
    )


@pytest.mark.parametrize(("old", "new"), [(OLD, NEW), (NEW, OLD)])
@pytest.mark.parametrize("solver", ["adam", "lbfgs", "levenberg_marquardt", "quasi_newton"])
def test_a_fit_ends_where_one_with_the_new_weight_ends(twin, solver, old, new):
    moved, fresh = fit(twin, solver, old, [Reweight(new)]), fit(twin, solver, new)
    assert moved.iterations > 1
    torch.testing.assert_close(moved.optimum_scaled, fresh.optimum_scaled, rtol=0, atol=1e-4)
    assert (moved.optimum_scaled - fit(twin, solver, old).optimum_scaled).abs().max() > 0.3


@pytest.mark.parametrize("solver", ["lbfgs", "levenberg_marquardt", "quasi_newton"])
def test_epochs_that_a_solver_cuts_short_do_not_use_up_the_iterations(twin, solver):
    """Ten epochs of forty would be the 400 iterations."""
    moved, fresh = fit(twin, solver, OLD, [Alternate(14)]), fit(twin, solver, NEW)
    assert moved.iterations < 400
    assert moved.status.name == "CONVERGED"
    torch.testing.assert_close(moved.optimum_scaled, fresh.optimum_scaled, rtol=0, atol=1e-4)


def test_the_best_checkpoint_is_of_the_loss_that_counts(twin, tmp_path):
    """Losses of the smaller weight, before, are all lower."""
    found = fit(twin, "levenberg_marquardt", NEW, [Reweight(OLD, epoch=2)], epoch=1, checkpoints=tmp_path)
    kept = torch.load(tmp_path / "best.ckpt", weights_only=True)["state_dict"]["theta"]
    torch.testing.assert_close(kept[0], found.optimum_scaled, rtol=0, atol=1e-9, check_dtype=False)
    assert (kept[0] - fit(twin, "levenberg_marquardt", NEW).optimum_scaled).abs().max() > 0.3


def test_early_stopping_counts_from_the_loss_that_counts(twin):
    """Losses of the smaller weight, before, are all lower, and must not use up the patience."""
    moved, fresh = (fit(twin, "adam", weight, more, epoch=5, patience=1) for weight, more in ((NEW, [Reweight(OLD)]), (OLD, [])))
    assert moved.iterations > 15
    torch.testing.assert_close(moved.optimum_scaled, fresh.optimum_scaled, rtol=0, atol=0.05)


def test_a_stop_that_somebody_else_asked_for_holds(twin):
    """Also where the solver finishes in the same iteration."""
    alone = fit(twin, "levenberg_marquardt", OLD)
    last = alone.iterations - 1
    stopped = fit(twin, "levenberg_marquardt", OLD, [AskToStop(last), Reweight(NEW)])
    assert stopped.iterations == alone.iterations > 1
    torch.testing.assert_close(stopped.optimum_scaled, alone.optimum_scaled, rtol=0, atol=1e-9)


def test_a_fit_whose_time_is_up_ends_with_the_epoch(twin):
    alternate = Alternate(5)
    assert fit(twin, "levenberg_marquardt", OLD, [alternate], max_seconds=1e-9).status.name == "STOPPED"
    assert alternate.passed == 1


def test_an_unknown_term_is_one_line_and_changes_no_weight(twin):
    class Wrong(Callback):
        def on_train_epoch_end(self, trainer, pl_module):
            pl_module.reweight({"prior": 9.0, "proir": 0.1})

    settings = InversionSettings(max_iters=1)
    with pytest.raises(ConfigError, match=r"'proir' is not a term of this loss\. Did you mean 'prior'\? Known: misfit, prior\."):
        invert(twin.surrogate, twin.table, twin.forcing, twin.fit, settings, callbacks=[Wrong()])
