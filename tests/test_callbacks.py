"""What the callbacks do to theta, on hand-made steps and in a Trainer."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint

from lit_invert.assembly import Record, build_problem
from lit_invert.callbacks import ClipToBounds, KeepBest, LogToTensorBoard, RecordHistory, StopOnDivergence
from lit_invert.inversion import invert
from lit_invert.module import InversionModule
from lit_invert.settings import InversionSettings, StopSettings
from lit_invert.solvers import SOLVERS

QUIET = {"accelerator": "cpu", "enable_progress_bar": False}


def make_module(twin, theta):
    problem = build_problem(twin.surrogate, twin.table, [Record(twin.forcing, twin.fit)], InversionSettings())
    return InversionModule(problem, torch.as_tensor(theta, dtype=torch.float32), SOLVERS[0].build, 0.1)


def test_clipping_moves_only_what_is_outside(twin):
    """Bounds 0.5 and 3.5 are -3 and 3 in scaled space."""
    inside = [0.123456789, 2.9999]
    module = make_module(twin, [[*inside, 4.0], [-9.0, *inside]])
    before = module.theta.detach().clone()
    clip = ClipToBounds()
    clip.on_train_batch_end(None, module, None, None, 0)
    assert clip.clipped.tolist() == [[False, False, True], [True, False, False]]
    assert module.theta[0, 2].item() == pytest.approx(3.0)
    assert module.theta[1, 0].item() == pytest.approx(-3.0)
    assert torch.equal(module.theta[~clip.clipped], before[~clip.clipped])
    assert clip.share == pytest.approx(2 / 6)


def test_clipping_leaves_the_gradient_machinery_alone(twin):
    module = make_module(twin, [[9.0, 0.0, 0.0]])
    ClipToBounds().on_train_batch_end(None, module, None, None, 0)
    module.problem(module.theta).total.sum().backward()
    assert module.theta.is_leaf
    assert bool(torch.isfinite(module.theta.grad).all())


def test_the_best_member_is_kept_member_by_member(twin):
    """Three offers to two members: each keeps its own lowest."""
    keep = KeepBest("loss")
    for theta, values, step in [([[1.0], [1.0]], [5.0, 1.0], 0), ([[2.0], [2.0]], [3.0, 2.0], 1), ([[3.0], [3.0]], [4.0, 0.5], 2)]:
        keep._offer(torch.tensor(theta), torch.tensor(values), step)
    assert keep.theta.tolist() == [[2.0], [3.0]]
    assert keep.value.tolist() == [3.0, 0.5]
    assert keep.iteration.tolist() == [1, 2]


def test_a_value_that_is_not_finite_never_wins(twin):
    keep = KeepBest("loss")
    keep._offer(torch.tensor([[1.0]]), torch.tensor([torch.nan]), 0)
    keep._offer(torch.tensor([[2.0]]), torch.tensor([7.0]), 1)
    keep._offer(torch.tensor([[3.0]]), torch.tensor([-torch.inf]), 2)
    assert keep.theta.tolist() == [[2.0]]


def test_a_gradient_that_is_not_finite_leaves_theta_where_it_was(twin):
    module, stop = make_module(twin, [[0.0, 1.0, 0.0]]), StopOnDivergence()
    adam = torch.optim.Adam([module.theta], lr=0.1)
    module.theta.grad = torch.ones(1, 3)
    adam.step()
    before = module.theta.detach().clone()
    module.last_loss, module.theta.grad = module.problem(module.theta), torch.full((1, 3), torch.nan)
    trainer = SimpleNamespace(global_step=1, should_stop=False, precision_plugin=None)
    stop.on_before_optimizer_step(trainer, module, adam)
    adam.step()
    assert torch.equal(module.theta, before)
    assert trainer.should_stop


def test_an_overflow_that_the_gradient_scaler_mends_is_no_divergence(twin):
    module, stop = make_module(twin, [[0.0, 1.0, 0.0]]), StopOnDivergence()
    module.last_loss, module.theta.grad = module.problem(module.theta), torch.full((1, 3), torch.inf)
    trainer = SimpleNamespace(global_step=0, should_stop=False, precision_plugin=SimpleNamespace(scaler=object()))
    stop.on_before_optimizer_step(trainer, module, None)
    assert stop.reasons == {}
    assert not trainer.should_stop


def test_the_history_counts_the_free_parameters_at_each_bound(twin):
    """Bounds 0.5 and 3.5 are -3 and 3 in scaled space; the third parameter is fixed at its prior."""
    twin.table.fixed[2] = True
    module, history = make_module(twin, [[3.0, 4.0, 3.0], [-3.0, 2.999, -3.0]]), RecordHistory()
    module.last_loss = module.problem(module.theta)
    history.on_before_optimizer_step(None, module, torch.optim.Adam([module.theta], lr=0.25))
    history.on_train_batch_end(SimpleNamespace(global_step=1), module, None, None, 0)
    counts = [history.frame(member)[["at_lower", "at_upper"]].iloc[0].tolist() for member in range(2)]
    assert counts == [[0, 2], [1, 0]]
    assert history.frame(1)["lr"].tolist() == [0.25]


@pytest.mark.parametrize(("solver", "rates"), [("adam", [0.25] * 3), ("levenberg_marquardt", [None] * 3)])
def test_the_history_has_the_learning_rate_of_solvers_that_have_one(twin, solver, rates):
    chosen = InversionSettings(lr=0.25, max_iters=3, solver=solver, lambda_prior=0.1)
    history = invert(twin.surrogate, twin.table, twin.forcing, twin.fit, chosen, trainer=QUIET).history
    assert [None if value != value else value for value in history["lr"]] == rates


class Memory:
    """A logger that remembers."""

    def __init__(self):
        self.rows = []

    def log_metrics(self, metrics, step):
        self.rows.append((step, metrics))


def test_scalars_are_sent_only_when_due(twin):
    module, log, memory = make_module(twin, [[0.0, 1.0, 0.0]]), LogToTensorBoard(), Memory()
    module.last_loss = module.problem(module.theta)
    for step in range(1, 8):
        trainer = SimpleNamespace(global_step=step, loggers=[memory], log_every_n_steps=3)
        log.on_train_batch_end(trainer, module, None, None, 0)
    assert [step for step, _ in memory.rows] == [2, 5]
    shown = memory.rows[0][1]
    assert shown["theta/s2"] == pytest.approx(2.5)  # physical: 2 + 0.5 * 1
    assert shown["loss/total"] == module.last_loss.total.item()
    assert shown["fit/rmse"] == pytest.approx(module.last_loss.terms["misfit"].item() ** 0.5)


def test_no_scalar_is_sent_where_the_trainer_logs_nothing(twin):
    module, log, memory = make_module(twin, [[0.0, 1.0, 0.0]]), LogToTensorBoard(), Memory()
    module.last_loss = module.problem(module.theta)
    log.on_train_batch_end(SimpleNamespace(global_step=1, loggers=[memory], log_every_n_steps=0), module, None, None, 0)
    assert memory.rows == []


class Watch(EarlyStopping):
    """Never stops; remembers the loss that it is told at the end of each epoch, and the one that it should be told."""

    def __init__(self):
        super().__init__("loss/total", patience=1000)
        self.seen, self.true = [], []

    def on_train_epoch_end(self, trainer, pl_module):
        self.seen.append(trainer.callback_metrics["loss/total"].item())
        self.true.append(pl_module.last_loss.total.item())


def fit_to_the_end(twin, iterations, **trainer):
    chosen = InversionSettings(lr=0.05, max_iters=iterations, early_stopping=StopSettings(enabled=False))
    return invert(twin.surrogate, twin.table, twin.forcing, twin.fit, chosen, trainer={**QUIET, **trainer})


def test_who_watches_the_loss_at_the_end_of_an_epoch_sees_the_last_iteration(twin):
    """Though it is shown every tenth iteration only; the second epoch ends in its fifth."""
    watch = Watch()
    fit_to_the_end(twin, 55, callbacks=[watch])
    assert len(watch.seen) == 2
    assert watch.seen == watch.true


def test_a_checkpoint_inside_an_epoch_is_chosen_by_its_own_iteration(twin, tmp_path):
    own = ModelCheckpoint(tmp_path, monitor="loss/total", every_n_train_steps=7, save_top_k=-1)
    history = fit_to_the_end(twin, 21, callbacks=[own], enable_checkpointing=True).history
    assert sorted(value.item() for value in own.best_k_models.values()) == sorted(history["loss/total"][[6, 13, 20]])


def test_monitoring_the_loss_counts_every_iterate(twin):
    stay = StopSettings(enabled=False, monitor="loss")
    result = invert(
        twin.surrogate, twin.table, twin.forcing, twin.fit,
        InversionSettings(lr=1.0, max_iters=30, lambda_prior=0.0, early_stopping=stay), trainer=QUIET,
    )  # fmt: skip
    losses = result.history["loss/total"]
    assert losses.argmin() < len(losses) - 1  # a rate this large overshoots
    assert result.best_iteration == losses.argmin()
    assert result.loss_optimum["loss/total"] == pytest.approx(losses.min(), rel=1e-4)
