"""One inversion from numbers to numbers, against closed forms and known truths."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from lightning.pytorch.callbacks import Callback, EarlyStopping, ModelCheckpoint, TQDMProgressBar
from lightning.pytorch.profilers import SimpleProfiler

from lit_invert.assembly import Record, build_problem, default_terms
from lit_invert.driving import REDRAWS, build_trainer
from lit_invert.errors import ConfigError, DivergenceError, SurrogateError
from lit_invert.extensions import Solver
from lit_invert.inversion import invert
from lit_invert.losses import Boundary, LossTerm, Misfit
from lit_invert.observations import Observations
from lit_invert.results import InversionStatus
from lit_invert.settings import ClipSettings, ConvergenceSettings, InversionSettings, StopSettings
from lit_invert.solvers import SOLVERS
from lit_invert.surrogates.base import FrozenSurrogate, weights_hash
from lit_invert.transforms import LogTransform, SigmoidTransform, SoftplusTransform

QUIET = {"accelerator": "cpu", "enable_progress_bar": False}


def settings(**changes):
    return InversionSettings(**{"lr": 0.05, "max_iters": 400, "lambda_prior": 0.0, **changes})


def run(twin, chosen=None, **changes):
    arguments = {"select": twin.select, "trainer": QUIET, **changes}
    return invert(twin.surrogate, twin.table, twin.forcing, twin.fit, chosen or settings(), **arguments)


def ridge(twin, weight):
    """Minimise the mean square plus weight |z|^2 in closed form: the toy's NEP is linear in its scaled parameters z."""
    problem = build_problem(twin.surrogate, twin.table, [Record(twin.forcing, twin.fit)], settings())
    days = twin.fit.mask[:, 2]

    def nep(z):
        return problem.simulate(z[None])[0, days, 2].double().detach().numpy()

    zero = nep(torch.zeros(3))
    design = np.stack([nep(row) - zero for row in torch.eye(3)], axis=1)
    n = days.sum()
    left = design.T @ design / n + weight * np.eye(3)
    return np.linalg.solve(left, design.T @ (twin.fit.values[days, 2] - zero) / n)


def test_a_noise_free_truth_is_recovered(twin):
    result = run(twin)
    assert result.optimum.numpy() == pytest.approx(twin.truth.numpy(), abs=1e-3)
    assert result.loss_optimum["loss/total"] < 1e-8 < result.loss_prior["loss/total"]


@pytest.mark.parametrize("weight", [0.01, 0.1, 1.0])
def test_misfit_and_prior_meet_where_the_ridge_says(twin, weight):
    result = run(twin, settings(lambda_prior=weight, max_iters=800, early_stopping=StopSettings(monitor="loss")))
    assert result.optimum_scaled.numpy() == pytest.approx(ridge(twin, weight), abs=2e-3)


@pytest.mark.parametrize("transform", [SigmoidTransform, SoftplusTransform, LogTransform])
@pytest.mark.parametrize("solver", SOLVERS, ids=lambda solver: solver.name)
def test_every_transform_and_solver_reaches_the_truth(twin, transform, solver):
    result = run(twin, settings(max_iters=800), transform=transform, solver=solver)
    assert result.optimum.numpy() == pytest.approx(twin.truth.numpy(), abs=5e-3)


def test_the_same_inputs_give_the_same_bits(twin):
    assert torch.equal(run(twin).optimum, run(twin).optimum)


def test_weights_are_the_same_bytes_after_a_fit(twin):
    """An LSTM with dropout and a batch norm, whose statistics would move if the Trainer's `.train()` reached them."""

    class Restless(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.lstm = torch.nn.LSTM(3 + 3, 8, num_layers=2, dropout=0.5, batch_first=True)
            self.norm = torch.nn.BatchNorm1d(8)
            self.head = torch.nn.Linear(8, 4)

        def forward(self, static, forcing):
            hidden, _ = self.lstm(torch.cat([forcing, static[:, None].expand(-1, forcing.shape[1], -1)], dim=-1))
            return self.head(self.norm(hidden.transpose(1, 2)).transpose(1, 2))

    twin.surrogate = FrozenSurrogate(Restless(), twin.surrogate.spec)
    before = weights_hash(twin.surrogate.network)
    result = run(twin, settings(max_iters=60))
    assert result.loss_optimum["loss/total"] < result.loss_prior["loss/total"]
    assert weights_hash(twin.surrogate.network) == before


def test_the_optimum_stays_inside_the_bounds_and_final_loss_belongs_to_it(twin):
    twin.table.bounds.upper[:] = 2.2  # the truth has a parameter above it
    result = run(twin)
    assert float(result.optimum.max()) == 2.2
    problem = build_problem(twin.surrogate, twin.table, [Record(twin.forcing, twin.fit)], settings())
    again = problem(problem.space.to_theta(result.optimum.float())[None]).total.item()
    assert again == pytest.approx(result.loss_optimum["loss/total"], rel=1e-5)


def test_without_clipping_the_optimum_may_leave_the_bounds(twin):
    twin.table.bounds.upper[:] = 2.2
    result = run(twin, settings(clip_raw_params=ClipSettings(enabled=False)))
    assert result.history["clipped_share"].max() == 0
    assert float(result.optimum.max()) > 2.3
    scaled = twin.surrogate.static_scaler.to_scaled(result.optimum.float())
    assert result.optimum_scaled.numpy() == pytest.approx(scaled.numpy(), abs=1e-5)  # what is reported is what was simulated


def test_fixed_parameters_do_not_move(twin):
    twin.table.fixed[0] = True
    result = run(twin)
    assert result.optimum[0].item() == twin.table.prior[0].item()
    assert abs(result.optimum[1].item() - 2.0) > 0.05


def test_the_best_iterate_is_kept_not_the_last(twin):
    """A learning rate that is far too large makes the loss jump; the lowest of all iterates must be returned."""
    result = run(twin, settings(lr=0.9, max_iters=60, early_stopping=StopSettings(enabled=False, monitor="loss")))
    lowest = result.history["loss/total"].min()
    assert result.loss_optimum["loss/total"] <= lowest * (1 + 1e-5)
    assert result.history["loss/total"].iloc[-1] > lowest


def test_the_best_iterate_on_select_is_at_least_as_good_as_the_prior(twin):
    result = run(twin, settings(lr=5.0, max_iters=100))
    days = twin.select.mask[:, 2]

    def rmse(simulated):
        return np.sqrt(np.mean((simulated[days, 2] - twin.select.values[days, 2]) ** 2))

    assert result.monitor == "select/rmse"
    assert rmse(result.simulated_optimum) <= rmse(result.simulated_prior)


def test_select_days_do_not_touch_the_loss(twin):
    """The same fit days with other select values make the same iterations."""
    other = Observations(twin.select.dates, twin.select.names, twin.select.values + 50, twin.select.mask)
    stay = settings(early_stopping=StopSettings(enabled=False))
    first, second = run(twin, stay), run(twin, stay, select=other)
    assert first.history["loss/total"].equals(second.history["loss/total"])


def test_an_epoch_is_fifty_iterations_unless_the_trainer_says_otherwise(twin):
    class Count(Callback):
        epochs = 0

        def on_train_epoch_end(self, trainer, pl_module):
            self.epochs += 1

    stay = settings(max_iters=120, early_stopping=StopSettings(enabled=False))
    default, ten = Count(), Count()
    run(twin, stay, callbacks=[default])
    run(twin, stay, callbacks=[ten], trainer={**QUIET, "limit_train_batches": 10})
    assert (default.epochs, ten.epochs) == (3, 12)


def test_early_stopping_is_lightnings_own_and_says_so(twin):
    result = run(twin, settings(max_iters=5000, early_stopping=StopSettings(patience=2, min_delta=1e-3)))
    assert result.status is InversionStatus.EARLY_STOPPED
    assert result.iterations < 1000
    assert "the RMSE on the select days did not fall for 2 epochs" in result.message


def test_a_callback_that_watches_what_is_not_logged_is_refused_before_the_run():
    callbacks = {**QUIET, "callbacks": [EarlyStopping("val_loss")]}
    with pytest.raises(ConfigError, match=r"EarlyStopping watches 'val_loss'. Known: fit/rmse, loss/total, select/rmse"):
        build_trainer(settings(), callbacks, [], False, None, "loss")


def test_max_iters_and_max_steps_must_agree():
    with pytest.raises(ConfigError, match=r"`inversion.max_iters` is 10 but `trainer.max_steps` is 20"):
        build_trainer(settings(max_iters=10), {"max_steps": 20}, [], False, None, "loss")


@pytest.mark.parametrize(("own", "trainers", "steps"), [(10, 10, 10), (None, 20, 20), (30, None, 30), (None, None, 500)])
def test_the_number_of_iterations_is_whoever_gave_it(own, trainers, steps):
    trainer = build_trainer(settings(max_iters=own), {**QUIET, "max_steps": trainers}, [], False, None, "loss")
    assert trainer.max_steps == steps


def test_epochs_limit_a_fit_whose_iterations_nobody_gave(twin):
    """Twelve epochs of fifty are more than the 500 iterations that hold when nothing is given."""
    trainer = {**QUIET, "max_epochs": 12}
    result = run(twin, settings(max_iters=None, early_stopping=StopSettings(enabled=False)), trainer=trainer)
    assert (result.iterations, result.status) == (600, InversionStatus.STOPPED)


def test_the_users_trainer_arguments_are_not_overruled(tmp_path):
    own = ModelCheckpoint(dirpath=tmp_path)
    arguments = {
        **QUIET,
        "limit_train_batches": 7,
        "log_every_n_steps": 3,
        "max_epochs": 2,
        "callbacks": [own],
        "precision": "64-true",
    }
    trainer = build_trainer(settings(), arguments, [EarlyStopping("loss/total")], False, tmp_path, "loss")
    assert (trainer.limit_train_batches, trainer.log_every_n_steps, trainer.max_epochs, trainer.precision) == (7, 3, 2, "64-true")
    assert trainer.checkpoint_callbacks == [own]


def test_the_users_progress_bar_and_profiler_take_the_place_of_ours():
    bar, profiler = TQDMProgressBar(refresh_rate=3), SimpleProfiler()
    trainer = build_trainer(settings(), {"accelerator": "cpu", "callbacks": bar, "profiler": profiler}, [], False, None, "loss")
    assert (trainer.progress_bar_callback, trainer.profiler) == (bar, profiler)
    assert build_trainer(settings(), {"accelerator": "cpu"}, [], False, None, "loss").progress_bar_callback.refresh_rate == REDRAWS


def test_what_lightning_takes_as_trainer_arguments_is_taken():
    """One callback without a list, and a logger."""
    trainer = build_trainer(settings(), {**QUIET, "callbacks": EarlyStopping("fit/rmse"), "logger": False}, [], True, None, "loss")
    assert trainer.early_stopping_callback.monitor == "fit/rmse"
    assert trainer.loggers == []


def test_the_users_early_stopping_takes_the_place_of_ours(twin):
    own = EarlyStopping("select/rmse", patience=2, min_delta=1e-3)
    result = run(twin, settings(max_iters=5000), trainer={**QUIET, "callbacks": [own]})
    assert result.status is InversionStatus.EARLY_STOPPED
    assert "the RMSE on the select days did not fall for 2 epochs" in result.message


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"accumulate_grad_batches": 4}, "`trainer.accumulate_grad_batches` is 4"),
        ({"limit_train_batches": 0}, "`trainer.limit_train_batches` is 0, expected 1 or more"),
    ],
)
def test_arguments_that_make_no_iterations_are_refused(arguments, message):
    with pytest.raises(ConfigError, match=message):
        build_trainer(settings(), {**QUIET, **arguments}, [], False, None, "loss")


def test_every_epoch_length_makes_all_iterations(twin):
    result = run(twin, settings(max_iters=30), trainer={**QUIET, "overfit_batches": 1})
    assert result.iterations == 30


def test_a_strategy_that_would_lose_the_best_iterate_is_refused(twin):
    with pytest.raises(ConfigError, match="the best iterate with them, do not come back"):
        run(twin, trainer={**QUIET, "strategy": "ddp_spawn"})


def test_the_settings_name_the_solver(twin):
    with pytest.raises(ConfigError, match=r"`inversion.solver`: 'adm' is not one of ours. Did you mean 'adam'\?"):
        run(twin, settings(solver="adm"))


def test_output_weights_name_outputs(twin):
    with pytest.raises(ConfigError, match=r"`inversion.output_weights`: 'gppp' is not an output"):
        run(twin, settings(output_weights={"nep": 1.0, "gppp": 0.5}))


def test_a_solver_with_a_line_search_keeps_the_best_too(twin):
    """It evaluates the loss several times a step; the loss of an iteration is the one that it started from."""
    line_search = Solver("lbfgs", lambda parameters, lr: torch.optim.LBFGS(parameters, max_iter=5))
    result = run(twin, settings(max_iters=5, early_stopping=StopSettings(monitor="loss")), solver=line_search)
    assert result.history["loss/total"][0] == pytest.approx(result.loss_prior["loss/total"])
    assert result.loss_optimum["loss/total"] <= result.history["loss/total"].min() * (1 + 1e-5)


@pytest.mark.parametrize("precision", ["32-true", "64-true", "bf16-mixed"])
def test_every_precision_improves_the_fit_and_leaves_the_surrogate(twin, precision):
    before = weights_hash(twin.surrogate.network)
    result = run(twin, settings(max_iters=100), trainer={**QUIET, "precision": precision})
    assert result.loss_optimum["loss/total"] < 0.05 * result.loss_prior["loss/total"]
    assert math.isfinite(result.loss_optimum["loss/total"])
    assert weights_hash(twin.surrogate.network) == before


def test_fast_dev_run_makes_one_iteration(twin, tmp_path):
    result = run(twin, trainer={**QUIET, "fast_dev_run": True}, checkpoints=tmp_path / "checkpoints")
    assert result.iterations == 1
    assert list(tmp_path.rglob("*.ckpt")) == []


def test_a_resumed_fit_equals_an_uninterrupted_one(twin, tmp_path):
    stay = {"early_stopping": StopSettings(enabled=False)}
    whole = run(twin, settings(max_iters=200, **stay))
    run(twin, settings(max_iters=100, **stay), checkpoints=tmp_path / "checkpoints")
    rest = run(
        twin, settings(max_iters=200, **stay), checkpoints=tmp_path / "rest", ckpt_path=tmp_path / "checkpoints" / "last.ckpt"
    )
    assert torch.equal(rest.optimum, whole.optimum)
    assert rest.history["loss/total"].tolist() == whole.history["loss/total"].tolist()
    assert rest.best_iteration == whole.best_iteration


def test_last_is_the_end_though_no_epoch_ends_there(twin, tmp_path):
    stay = {"early_stopping": StopSettings(enabled=False)}
    run(twin, settings(max_iters=60, **stay), checkpoints=tmp_path)
    assert torch.load(tmp_path / "last.ckpt", weights_only=True)["global_step"] == 60
    rest = run(twin, settings(max_iters=130, **stay), ckpt_path=tmp_path / "last.ckpt")
    whole = run(twin, settings(max_iters=130, **stay))
    assert rest.history["loss/total"].tolist() == whole.history["loss/total"].tolist()
    assert torch.equal(rest.optimum, whole.optimum)


def test_a_resumed_fit_may_have_other_terms_monitor_and_epochs(twin, tmp_path):
    ten = {**QUIET, "limit_train_batches": 10}
    run(twin, settings(max_iters=50), trainer=ten, checkpoints=tmp_path)
    chosen = settings(max_iters=100, lambda_prior=1.0, early_stopping=StopSettings(monitor="loss"))
    rest = run(twin, chosen, terms=[Boundary()], ckpt_path=tmp_path / "last.ckpt")
    assert rest.history["loss/boundary"].isna().sum() == 50
    assert len(rest.history) == 100
    assert rest.best_iteration > 50  # the RMSE of before is no loss of now


def test_a_resumed_fit_obeys_its_own_patience_and_says_how_it_ended(twin, tmp_path):
    first = run(twin, settings(max_iters=5000, early_stopping=StopSettings(patience=2, min_delta=1e-3)), checkpoints=tmp_path)
    assert first.status is InversionStatus.EARLY_STOPPED
    patient = settings(max_iters=first.iterations + 200, early_stopping=StopSettings(patience=40))
    rest = run(twin, patient, ckpt_path=tmp_path / "last.ckpt")
    assert (rest.status, rest.iterations) == (InversionStatus.STEP_LIMIT, first.iterations + 200)


def test_a_checkpoint_in_other_coordinates_is_refused(twin, tmp_path):
    run(twin, settings(max_iters=50), checkpoints=tmp_path)
    with pytest.raises(ConfigError, match="checkpoint was made with the transform 'scaled', this run uses 'sigmoid'"):
        run(twin, transform=SigmoidTransform, ckpt_path=tmp_path / "last.ckpt")


@pytest.mark.parametrize(
    ("made", "resumed"), [("adam", "LevenbergMarquardt"), ("lbfgs", "QuasiNewton"), ("levenberg_marquardt", "Adam")]
)
def test_a_checkpoint_of_another_solver_is_refused(twin, tmp_path, made, resumed):
    names = {"LevenbergMarquardt": "levenberg_marquardt", "QuasiNewton": "quasi_newton", "Adam": "adam"}
    first = {"adam": "Adam", "lbfgs": "BoundedLBFGS", "levenberg_marquardt": "LevenbergMarquardt"}[made]
    run(twin, settings(solver=made, max_iters=2), checkpoints=tmp_path)
    message = f"checkpoint was made with solver '{first}', this run uses '{resumed}'. Resume with `inversion.solver` as it was."
    with pytest.raises(ConfigError, match=message):
        run(twin, settings(solver=names[resumed], max_iters=4), ckpt_path=tmp_path / "last.ckpt")


def test_checkpoints_hold_theta_and_the_surrogates_hash_not_its_weights(twin, tmp_path):
    run(twin, settings(max_iters=50), checkpoints=tmp_path)
    checkpoint = torch.load(tmp_path / "last.ckpt", weights_only=True)
    assert list(checkpoint["state_dict"]) == ["theta"]
    assert checkpoint["surrogate_sha256"] == twin.surrogate.sha256
    assert {"best.ckpt", "last.ckpt"} == {p.name for p in tmp_path.iterdir()}


def test_a_checkpoint_of_another_surrogate_is_refused(twin, tmp_path):
    run(twin, settings(max_iters=50), checkpoints=tmp_path)
    twin.surrogate.sha256 = "0" * 64
    with pytest.raises(SurrogateError, match="checkpoint belongs to a surrogate with SHA-256"):
        run(twin, ckpt_path=tmp_path / "last.ckpt")


class Explodes(LossTerm):
    """Becomes NaN once theta has moved away from the prior."""

    name = "explodes"

    def forward(self, evaluation):
        moved = evaluation.scaled[:, 0].abs()
        return torch.where(moved > 0.3, torch.nan, 0.0) * moved


class Raises(LossTerm):
    """Fails after so many evaluations."""

    name = "raises"

    def __init__(self, after=10_000):
        super().__init__()
        self.after, self.calls = after, 0

    def forward(self, evaluation):
        self.calls += 1
        if self.calls > self.after:
            raise RuntimeError("no more")
        return 0.0 * evaluation.scaled[:, 0]


def test_a_run_that_fails_leaves_where_it_stood(twin, tmp_path):
    stay = {"early_stopping": StopSettings(enabled=False)}
    with pytest.raises(RuntimeError, match="no more"):
        run(twin, settings(max_iters=80, **stay), terms=[Raises(after=30)], checkpoints=tmp_path)
    rest = run(
        twin, settings(max_iters=80, **stay), terms=[Raises()], checkpoints=tmp_path / "rest", ckpt_path=tmp_path / "last.ckpt"
    )
    whole = run(twin, settings(max_iters=80, **stay))
    assert rest.history["loss/total"].tolist() == whole.history["loss/total"].tolist()


class NeverFinite(LossTerm):
    name = "never_finite"

    def forward(self, evaluation):
        return evaluation.scaled[:, 0] * torch.nan


def test_divergence_keeps_the_best_iterate_and_names_the_term(twin):
    result = run(twin, terms=[Explodes()])
    assert result.status is InversionStatus.DIVERGED
    assert "loss term 'explodes' was not finite at iteration" in result.message
    assert bool(torch.isfinite(result.optimum).all())
    assert result.loss_optimum["loss/misfit"] < result.loss_prior["loss/misfit"]


def test_divergence_at_the_start_is_an_error(twin):
    with pytest.raises(DivergenceError, match="loss term 'never_finite' was not finite at iteration 0"):
        run(twin, terms=[NeverFinite()])


def test_an_empty_mask_is_an_error(twin):
    twin.fit.mask[:] = False
    with pytest.raises(ConfigError, match="no observed day of 'nep' is left for the fit"):
        run(twin)


def test_a_mask_of_fourteen_days_is_enough(twin):
    twin.fit.mask[14:] = False
    result = run(twin, select=None)
    assert result.loss_optimum["loss/total"] < 0.01 * result.loss_prior["loss/total"]


def test_warm_up_days_never_count(twin):
    surrogate = type(twin.surrogate)(
        twin.surrogate.network, type(twin.surrogate.spec)(**{**vars(twin.surrogate.spec), "warmup_days": 30})
    )
    problem = build_problem(surrogate, twin.table, [Record(twin.forcing, twin.fit)], settings())
    assert not bool(problem.mask[:, :30].any())
    assert bool(problem.mask[:, 30:].any())


def test_use_mask_false_counts_every_day_with_a_value(twin):
    twin.fit.mask[::2] = False
    problem = build_problem(twin.surrogate, twin.table, [Record(twin.forcing, twin.fit)], settings(use_mask=False))
    assert int(problem.mask[..., 2].sum()) == int(np.isfinite(twin.fit.values[:, 2]).sum())


def test_history_has_a_row_an_iteration_whose_weighted_terms_sum_to_the_total(twin):
    result = run(twin, settings(max_iters=60, lambda_prior=0.3), terms=[Boundary(weight=2.0)])
    frame = result.history
    weighted = frame[["weighted/misfit", "weighted/prior", "weighted/boundary"]].sum(axis=1)
    assert len(frame) == 60
    assert weighted.to_numpy() == pytest.approx(frame["loss/total"].to_numpy(), rel=1e-5)
    assert frame["weighted/prior"].to_numpy() == pytest.approx(0.3 * frame["loss/prior"].to_numpy(), rel=1e-5)


def test_a_term_of_the_same_name_takes_our_terms_place():
    own = Misfit(target="gpp")
    terms = default_terms(settings(), [own])
    assert [t for t in terms if t.name == "misfit"] == [own]
    with pytest.raises(ConfigError, match="2 terms named 'misfit'"):
        default_terms(settings(), [own, Misfit()])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"lr": 0.0}, "`inversion.lr` is 0.0, expected a positive number"),
        ({"max_iters": 0}, "`inversion.max_iters` is 0"),
        ({"lambda_prior": -1.0}, "`inversion.lambda_prior` is -1.0"),
        ({"early_stopping": StopSettings(patience=0)}, "`inversion.early_stopping.patience` is 0"),
    ],
)
def test_settings_that_make_no_sense_name_their_key(change, message):
    with pytest.raises(ConfigError, match=message):
        settings(**change)


def test_an_unknown_target_names_the_outputs(twin):
    with pytest.raises(ConfigError, match=r"'nee' is not an output of the surrogate. Did you mean 'nep'\?"):
        run(twin, settings(target_variable="nee"))


def test_select_days_without_the_target_cannot_choose(twin):
    twin.select.mask[:] = np.arange(4) == 0
    assert run(twin, settings(max_iters=50)).monitor == "loss/total"


def test_monitoring_select_without_select_days_is_an_error(twin):
    with pytest.raises(ConfigError, match="no day has that role"):
        run(twin, settings(early_stopping=StopSettings(monitor="select")), select=None)


SECOND_ORDER = ["lbfgs", "levenberg_marquardt", "quasi_newton"]


def newton(name="levenberg_marquardt", **changes):
    return settings(
        solver=name, **{"max_iters": 60, "lambda_prior": 0.1, "early_stopping": StopSettings(monitor="loss"), **changes}
    )


@pytest.mark.parametrize("name", SECOND_ORDER)
def test_second_order_solvers_converge_to_the_ridge_and_say_so(twin, name):
    result = run(twin, newton(name))
    assert result.status is InversionStatus.CONVERGED
    assert result.iterations < 15
    steps = int(result.message.removeprefix("converged after ").split()[0])
    assert result.iterations - steps in (0, 1)  # the gradient may be found flat before another step
    assert result.optimum_scaled.numpy() == pytest.approx(ridge(twin, 0.1), abs=2e-3)
    assert len(result.history) == result.iterations


def test_auto_says_what_it_chose_and_why(twin):
    result = run(twin, newton("auto"))
    assert result.message.endswith("levenberg_marquardt was chosen for 3 free parameters and a sum of squares")
    with pytest.raises(
        ConfigError, match=r"`inversion.solver`: 'levenberg' is not one of ours\. Did you mean 'levenberg_marquardt'\?"
    ):
        run(twin, newton("levenberg"))


class Quartic(LossTerm):
    """A price that is no sum of squares."""

    name = "quartic"

    def forward(self, evaluation):
        return (evaluation.scaled - 0.5).pow(4).sum(-1)


@pytest.mark.parametrize("name", SECOND_ORDER)
def test_a_term_without_residuals_is_minimised_too(twin, name):
    changes = {"lambda_prior": 0.0, "max_iters": 200}
    result = run(twin, newton(name, **changes), terms=[Quartic(5.0)])
    slow = run(twin, settings(max_iters=3000, lr=0.01, early_stopping=StopSettings(enabled=False)), terms=[Quartic(5.0)])
    assert result.loss_optimum["loss/total"] <= 1.0001 * slow.loss_optimum["loss/total"]
    assert result.loss_optimum["weighted/quartic"] > 0.01


def test_the_iteration_limit_holds_for_every_solver(twin):
    result = run(twin, newton(max_iters=2))
    assert (result.status, result.iterations) == (InversionStatus.STEP_LIMIT, 2)


@pytest.mark.parametrize("name", SECOND_ORDER)
def test_a_resumed_second_order_fit_equals_an_uninterrupted_one(twin, tmp_path, name):
    whole = run(twin, newton(name))
    run(twin, newton(name, max_iters=2), checkpoints=tmp_path)
    resumed = run(twin, newton(name), ckpt_path=tmp_path / "last.ckpt")
    assert torch.equal(resumed.optimum, whole.optimum)
    assert resumed.message == whole.message


def test_the_best_iterate_on_select_is_looked_for_in_every_iteration(twin):
    scores = []

    class Watch(Callback):
        def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
            scores.append(pl_module.select_rmse_of(pl_module.last_loss).item())

    result = run(twin, newton(early_stopping=StopSettings(monitor="select")), callbacks=[Watch()])
    assert result.best_iteration == int(np.argmin([*scores, math.inf])) or result.best_iteration == result.iterations
    recorded = result.history["select/rmse"].to_numpy()
    assert recorded[:-1] == pytest.approx(scores[1:])  # beside the iteration that led there
    assert np.isfinite(recorded[-1])


def test_a_solver_whose_time_is_up_has_not_converged(twin):
    result = run(twin, newton(convergence=ConvergenceSettings(max_seconds=1e-9)))
    assert result.status is InversionStatus.STOPPED
    assert "the limit of 1e-09 s was reached" in result.message
    with pytest.raises(ConfigError, match=r"`inversion.convergence.max_seconds` is 0, expected a positive number or null"):
        ConvergenceSettings(max_seconds=0)


def test_several_starts_leave_one(twin):
    result = run(twin, newton(starts=4))
    assert "best of 4 starts" in result.message
    assert result.optimum_scaled.numpy() == pytest.approx(ridge(twin, 0.1), abs=2e-3)


def test_a_solver_has_one_builder():
    with pytest.raises(ConfigError, match="solver 'mine': expected one of `build` and `build_over`, found none"):
        Solver("mine")
