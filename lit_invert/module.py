"""The LightningModule: the static parameters around a frozen problem, and nothing else that learns."""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping
from dataclasses import replace
from typing import Any, Protocol, runtime_checkable

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import Tensor, nn
from torch.optim import Optimizer

from .errors import ConfigError, SurrogateError, suggest
from .losses.misfit import masked_mean_square
from .problem import InversionProblem, Loss
from .solvers import BoundedSolver

_HASH_KEY, _SPACE_KEY, _SOLVER_KEY = "surrogate_sha256", "theta_space", "solver"


class TermwiseObjective(Protocol):
    """An objective, see :mod:`lit_invert.objective`, that can tell its loss term by term."""

    def loss_at(self, theta: Tensor) -> Loss:
        """Return the loss of all members."""
        ...

    def forget(self) -> None:
        """Forget every answer, because the weight of a term has changed."""
        ...


@runtime_checkable
class ComparesLosses(Protocol):
    """A callback that compares losses of several iterations, or acts on one, which a change of weights makes void."""

    def forget_losses(self) -> None:
        """Forget the losses so far, and what followed from them."""
        ...


class InversionModule(LightningModule):
    """Static parameters that a Trainer moves to fit a frozen surrogate to observations.

    Args:
        problem: What to minimise; it sees only the `fit` days.
        theta: Where to start, a (B, P)-dim tensor in the optimiser's coordinates.
        build_optimizer: From the parameters and the learning rate to an optimiser.
        lr: Learning rate.
        target: Name of the flux whose RMSE is shown and selected on.
        select: Observed fluxes and their mask on the `select` days, each (1 or B, T, V) [gC m-2 d-1]; None if there are none.
        objective: The problem as the optimiser asks it, where the optimiser does.
    """

    select_observed: Tensor
    select_mask: Tensor

    def __init__(
        self,
        problem: InversionProblem,
        theta: Tensor,
        build_optimizer: Callable[[list[nn.Parameter], float], Optimizer],
        lr: float,
        target: str = "nep",
        select: tuple[Tensor, Tensor] | None = None,
        objective: TermwiseObjective | None = None,
    ) -> None:
        super().__init__()
        self.strict_loading = False  # checkpoints hold theta alone
        self.problem = problem
        self.theta = nn.Parameter(theta.clone())
        self.lr, self._build_optimizer, self.objective = lr, build_optimizer, objective
        self.target = target
        self._place = problem.surrogate.spec.output_names.index(target)
        self.has_select = select is not None
        if select is not None:
            self.register_buffer("select_observed", select[0], persistent=False)
            self.register_buffer("select_mask", select[1], persistent=False)
        #: The loss of this iteration at the theta that it started from, for callbacks.
        self.last_loss: Loss | None = None
        #: The RMSE of each member on the `select` days when it was last looked at, for callbacks.
        self.last_select: Tensor | None = None
        #: Class of the optimiser, or of the one that a checkpoint was made with until there is one.
        self._solver: str | None = None
        self._watched: set[str | None] = set()
        self._is_watched_always = False

    def reweight(self, weights: Mapping[str, float]) -> None:
        """Change the weights of loss terms between two iterations.

        A solver that knows the objective forgets what it learnt of the old loss and goes on from where it stands, unless its time
        is up, and our callbacks that compare losses forget those so far. The loss of the last iteration is weighed anew for those
        that look at the end of an epoch. Callbacks of others that watch `loss/total` do not forget, so let them watch
        `select/rmse`, which is the same number before and after.

        Args:
            weights: New weights by the names of the terms; the others keep theirs.

        Raises:
            ConfigError: If there is no term of that name.
        """
        terms = {term.name: term for term in self.problem.loss_terms}
        for name in weights:
            if name not in terms:
                raise ConfigError(f"{name!r} is not a term of this loss.{suggest(name, terms)}")
        for name, weight in weights.items():
            terms[name].weight = weight
        if self.objective is not None:
            self.objective.forget()
        solver = self.optimizers(use_pl_optimizer=False)
        if isinstance(solver, BoundedSolver):
            solver.renew()
        if self.last_loss is not None:
            self.last_loss = self._weigh(self.last_loss)
        for callback in self.trainer.callbacks:  # type: ignore[attr-defined]
            if isinstance(callback, ComparesLosses):
                callback.forget_losses()

    def _weigh(self, loss: Loss) -> Loss:
        """Return a loss with the present weights: its terms stay what they are."""
        weighted = {term.name: term.weight * loss.terms[term.name] for term in self.problem.loss_terms}
        return replace(loss, total=torch.stack(list(weighted.values())).sum(0), weighted=weighted)

    def on_fit_start(self) -> None:
        """Note what callbacks watch, and whether one of them looks inside an epoch: a checkpoint every so many steps."""
        callbacks = self.trainer.callbacks  # type: ignore[attr-defined]
        self._watched = {getattr(callback, "monitor", None) for callback in callbacks}
        self._is_watched_always = any(isinstance(c, ModelCheckpoint) and c.every_n_epochs == 0 for c in callbacks)

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        """Forget the last iteration."""
        self.last_loss = None

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        """Return the summed loss of all members, whose gradient keeps the members apart."""
        if self.objective is not None:
            total, loss = self._look(self.objective)
        else:
            loss = self.problem(self.theta)
            total = loss.total.sum()
        if self.last_loss is None:  # a solver with a line search comes here again, at other thetas
            self.last_loss = loss
            if self._is_watched_always or is_due(self.trainer, self.trainer.global_step + 1):
                self._log_fit({"loss/total", "fit/rmse"})
        return total

    def _look(self, objective: TermwiseObjective) -> tuple[Tensor, Loss]:
        """Return the loss as its tangent plane: the solver has value and gradient already, and backward costs nothing."""
        solver = self.optimizers(use_pl_optimizer=False)
        assert isinstance(solver, BoundedSolver)
        value, gradient = solver.look()
        loss = objective.loss_at(self.theta.detach())
        return value.sum() + ((self.theta - self.theta.detach()) * gradient).sum(), loss

    def on_train_epoch_end(self) -> None:
        """Tell the callbacks that watch the fit of the last iteration."""
        self._log_fit(self._watched)

    def on_validation_epoch_end(self) -> None:
        """Tell those that look right after validation, before the epoch has ended."""
        self._log_fit(self._watched)

    def _log_fit(self, names: Container[str | None]) -> None:
        """Give the progress bar and callbacks the numbers of this iteration; loggers have them from `LogToTensorBoard`.

        Each number costs Lightning half a millisecond or more, so only those that somebody sees are given.
        """
        if self.last_loss is None:
            return
        if "loss/total" in names:
            self.log("loss/total", self.last_loss.total.detach().sum(), prog_bar=True, logger=False, batch_size=1)
        if "fit/rmse" in names:
            self.log("fit/rmse", self.fit_rmse(self.last_loss).min(), prog_bar=True, logger=False, batch_size=1)

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        """Log the RMSE on the `select` days, that of the best member; without such days there is nothing to look at."""
        if not self.has_select:
            return
        self.last_select = self.select_rmse()
        self.log("select/rmse", self.last_select.min(), prog_bar=True, batch_size=1, sync_dist=True)

    @torch.no_grad()
    def fit_rmse(self, loss: Loss) -> Tensor:
        """Return the target's RMSE on the `fit` days, a (B,)-dim tensor [gC m-2 d-1]."""
        return self._rmse(loss.evaluation.simulated, loss.evaluation.observed, loss.evaluation.mask)

    @torch.no_grad()
    def select_rmse(self) -> Tensor:
        """Return the target's RMSE on the `select` days at the present theta, a (B,)-dim tensor [gC m-2 d-1]."""
        return self.select_rmse_of(self.loss_here())

    @torch.no_grad()
    def select_rmse_of(self, loss: Loss) -> Tensor:
        """Return the same where a loss has been computed."""
        return self._rmse(loss.evaluation.simulated, self.select_observed, self.select_mask)

    @torch.no_grad()
    def loss_here(self) -> Loss:
        """Return the loss at the present theta."""
        theta = self.theta.detach()
        return self.problem(theta) if self.objective is None else self.objective.loss_at(theta)

    def _rmse(self, simulated: Tensor, observed: Tensor, mask: Tensor) -> Tensor:
        place = self._place
        return masked_mean_square(simulated[..., place], observed[..., place], mask[..., place]).sqrt()

    def configure_optimizers(self) -> Optimizer:
        """Build the solver over theta alone.

        Raises:
            ConfigError: If the checkpoint to go on from was made with another solver, whose state means nothing to this one.
        """
        optimizer = self._build_optimizer([self.theta], self.lr)
        here = type(optimizer).__name__
        if self._solver not in (None, here):
            raise ConfigError(
                f"checkpoint was made with solver {self._solver!r}, this run uses {here!r}. "
                "Resume with `inversion.solver` as it was."
            )
        self._solver = here
        return optimizer

    def configure_gradient_clipping(
        self, optimizer: Optimizer, gradient_clip_val: float | None = None, gradient_clip_algorithm: str | None = None
    ) -> None:
        """Clip the gradient of each member by itself, so that a member does not feel its neighbours."""
        gradient = self.theta.grad
        if gradient is None or not gradient_clip_val:
            return
        if gradient_clip_algorithm == "value":
            gradient.clamp_(-gradient_clip_val, gradient_clip_val)
        else:
            gradient.mul_((gradient_clip_val / (gradient.norm(dim=-1, keepdim=True) + 1e-6)).clamp_max(1.0))

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Store theta and which surrogate it belongs to, not the weights, which never change."""
        checkpoint["state_dict"] = {"theta": checkpoint["state_dict"]["theta"]}
        checkpoint[_HASH_KEY] = self.problem.surrogate.sha256
        checkpoint[_SPACE_KEY] = _name_space(self.problem)
        checkpoint[_SOLVER_KEY] = self._solver

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuse theta of another surrogate, or in other coordinates; see :func:`check_checkpoint`."""
        check_checkpoint(checkpoint, self.problem)
        self._solver = checkpoint.get(_SOLVER_KEY)


def is_due(trainer: Trainer, step: int) -> bool:
    """Say whether `trainer.log_every_n_steps` shows the iteration that makes so many steps; 0 shows none.

    Args:
        trainer: The Trainer.
        step: Steps after the iteration, from 1.
    """
    every: int = trainer.log_every_n_steps  # type: ignore[attr-defined]
    return every > 0 and step % every == 0


def check_checkpoint(checkpoint: Mapping[str, Any], problem: InversionProblem) -> None:
    """Check that a checkpoint's theta means what this problem's theta means.

    Raises:
        SurrogateError: If it was made with other weights.
        ConfigError: If it was made with another transform or other parameters.
    """
    found, expected = checkpoint.get(_HASH_KEY), problem.surrogate.sha256
    if found != expected:
        raise SurrogateError(
            f"checkpoint belongs to a surrogate with SHA-256 {found!r}, this run uses {expected!r}. "
            "Resume with the surrogate that the checkpoint was made with."
        )
    there, here = checkpoint.get(_SPACE_KEY) or ["unknown"], _name_space(problem)
    if there != here:
        what = f"the transform {there[0]!r}, this run uses {here[0]!r}" if there[0] != here[0] else "other parameters"
        raise ConfigError(f"checkpoint was made with {what}. Resume with `constraints` and `parameters` as they were.")


def _name_space(problem: InversionProblem) -> list[str]:
    """Name what theta means: the transform, and the parameters in order."""
    return [problem.space.transform.name, *problem.space.table.names]
