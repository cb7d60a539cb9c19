"""The LightningModule of parameters that sites share: what the Trainer moves is the shared vector, and the sites follow.

Every iteration asks a :class:`~lit_invert.sharing.SharedObjective`, whatever the solver: a least-squares one asks by itself, and
Adam gets the gradient of the same function. So the sites' own parameters are always at the lowest loss that the shared ones leave
them, and there is one module for both.

On several devices (`trainer.strategy: ddp`) each process holds sites of its own. The objective sums over processes, so each has the
whole gradient already, and the mean over processes that DDP takes of equal gradients changes nothing. All that differs from
process to process, the sites' forcing and observations, is kept out of DDP's sight, which would give every process those of the
first.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer

from .errors import ConfigError
from .losses import Evaluation
from .module import InversionModule
from .problem import Loss
from .sharing import SharedObjective, SharingPlan
from .solvers import BoundedSolver

_LABELS_KEY = "shared"


class SharedInversionModule(InversionModule):
    """Parameters that sites share, which a Trainer moves; its `theta` is the shared vector, (1, G).

    It logs and selects on the RMSE over the days of all sites together. Bounds are kept here, after each step; the callback that
    clips the parameters of a single site has no place beside it.

    Args:
        objective: The sites, and how they share parameters.
        gamma: Where to start, (G,).
        build_optimizer: From the parameters and the learning rate to an optimiser.
        lr: Learning rate.
        target: Name of the flux whose RMSE is shown and selected on.
        select: Observed fluxes of this process's sites and their mask on the `select` days, (S, T, V) each [gC m-2 d-1].
    """

    def __init__(
        self,
        objective: SharedObjective,
        gamma: Tensor,
        build_optimizer: Callable[[list[nn.Parameter], float], Optimizer],
        lr: float,
        target: str = "nep",
        select: tuple[Tensor, Tensor] | None = None,
    ) -> None:
        super().__init__(objective.problem, gamma[None], build_optimizer, lr, target, select, objective)
        self.shared = objective
        self._scored: tuple[Evaluation, Tensor, Tensor] | None = None
        own = [name for name, _ in (*self.named_parameters(), *self.named_buffers()) if name != "theta"]
        DistributedDataParallel._set_params_and_buffers_to_ignore_for_model(self, own)

    @property
    def plan(self) -> SharingPlan:
        """How the sites of this process share parameters."""
        return self.shared.plan

    def sites_theta(self) -> Tensor:
        """Return the parameters of this process's sites at the present shared vector, (S, P)."""
        return self.shared.finish(self.theta.detach())

    def _look(self, objective: Any) -> tuple[Tensor, Loss]:
        if isinstance(self.optimizers(use_pl_optimizer=False), BoundedSolver):
            return super()._look(objective)
        here = self.theta.detach()
        value, gradient = self.shared.gradient(here)
        return value.to(here).sum() + ((self.theta - here) * gradient.to(here)).sum(), self.shared.loss_at(here)

    @torch.no_grad()
    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Keep the shared vector inside its bounds: not every solver does."""
        self.theta.copy_(self.shared.project(self.theta))

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        """Return the loss of all sites, and score them here: whether a callback wants scores differs from process to process."""
        total = super().training_step(batch, batch_idx)
        assert self.last_loss is not None
        self._score(self.last_loss)
        return total

    def fit_rmse(self, loss: Loss) -> Tensor:
        """Return the target's RMSE over the `fit` days of all sites of all processes, (1,) [gC m-2 d-1]."""
        return self._score(loss)[0]

    def select_rmse_of(self, loss: Loss) -> Tensor:
        """Return the same over the `select` days."""
        return self._score(loss)[1]

    @torch.no_grad()
    def _score(self, loss: Loss) -> tuple[Tensor, Tensor]:
        """Return both scores; all processes must ask for those of an evaluation that is new."""
        evaluation = loss.evaluation
        if self._scored is None or self._scored[0] is not evaluation:
            days = [(evaluation.observed, evaluation.mask)]
            days += [(self.select_observed, self.select_mask)] if self.has_select else []
            sums = torch.stack([self._sums(evaluation.simulated, *part) for part in days])
            if distributed.is_available() and distributed.is_initialized():
                distributed.all_reduce(sums)
            scores = (sums[:, 0] / sums[:, 1].clamp_min(1)).sqrt().to(evaluation.simulated)
            self._scored = evaluation, scores[:1], scores[-1:]
        return self._scored[1:]

    def _sums(self, simulated: Tensor, observed: Tensor, mask: Tensor) -> Tensor:
        """Return the sum of squares over the observed days of this process's sites, and their number, (2,)."""
        days = mask[..., self._place]
        square = torch.where(days, simulated[..., self._place] - observed[..., self._place], 0.0).square()
        return torch.stack([square.double().sum(), days.double().sum()])

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Store the shared vector and what its values are; the sites' own follow from it."""
        super().on_save_checkpoint(checkpoint)
        checkpoint[_LABELS_KEY] = list(self.plan.labels)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuse a vector of other values.

        Raises:
            ConfigError: If the checkpoint's sites share other parameters.
        """
        super().on_load_checkpoint(checkpoint)
        there, here = checkpoint.get(_LABELS_KEY), list(self.plan.labels)
        if there != here:
            raise ConfigError(
                f"checkpoint was made with the shared values {there!r}, this run has {here!r}. Resume with `sharing` as it was."
            )
