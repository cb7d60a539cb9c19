"""Keep the best iterate, not the last one."""

from __future__ import annotations

from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from torch import Tensor

from ..module import InversionModule


class KeepBest(Callback):
    """Remember theta where the monitored number was lowest, always after clipping.

    With `select` the number is the target's RMSE on the `select` days, looked at before the first and after each epoch; with `loss`
    it is the total loss, looked at in each iteration. A solver that takes few and long steps has both looked at in each.

    Args:
        monitor: `select` or `loss`.
    """

    def __init__(self, monitor: str) -> None:
        self.monitor = monitor
        self.theta: Tensor | None = None
        self.value: Tensor | None = None
        self.iteration: Tensor | None = None
        self._candidate: Tensor | None = None

    @property
    def state_key(self) -> str:
        """Key in a checkpoint: a best of one number says nothing about another."""
        return self._generate_state_key(monitor=self.monitor)

    def _offer(self, theta: Tensor, value: Tensor, iteration: int) -> None:
        """Take theta where the value is lower than before, without waiting for the device."""
        value = torch.where(torch.isfinite(value), value, torch.inf)
        if self.theta is None or self.value is None or self.iteration is None:
            self.theta, self.value = theta.clone(), value
            self.iteration = torch.full_like(value, iteration, dtype=torch.long)
            return
        better = value < self.value
        self.theta = torch.where(better.unsqueeze(-1), theta, self.theta)
        self.iteration = torch.where(better, iteration, self.iteration)
        self.value = torch.where(better, value, self.value)

    @torch.no_grad()
    def _look(self, trainer: Trainer, module: InversionModule) -> None:
        value = module.select_rmse() if self.monitor == "select" else module.loss_here().total
        self._offer(module.theta.detach(), value, trainer.global_step)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Offer the start itself."""
        assert isinstance(pl_module, InversionModule)
        if self.theta is not None:  # resumed from a checkpoint, perhaps on another device
            self.theta = self.theta.to(pl_module.theta)
            self.value = self.value.to(pl_module.device) if self.value is not None else None
            self.iteration = self.iteration.to(pl_module.device) if self.iteration is not None else None
        elif self.monitor == "select":
            self._look(trainer, pl_module)

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Keep theta before the step: the loss of this iteration belongs to it."""
        assert isinstance(pl_module, InversionModule)
        if self.monitor == "loss" or pl_module.objective is not None:
            self._candidate = pl_module.theta.detach().clone()

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Offer the iterate whose loss has just been computed."""
        assert isinstance(pl_module, InversionModule)
        loss = pl_module.last_loss
        if self._candidate is None or loss is None:
            return
        value = loss.total.detach() if self.monitor == "loss" else pl_module.select_rmse_of(loss)
        self._offer(self._candidate, value, trainer.global_step - 1)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Offer the iterate that was just scored on the `select` days."""
        assert isinstance(pl_module, InversionModule)
        if self.monitor == "select" and pl_module.last_select is not None:
            self._offer(pl_module.theta.detach(), pl_module.last_select, trainer.global_step)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Offer the last iterate."""
        assert isinstance(pl_module, InversionModule)
        self._look(trainer, pl_module)

    def forget_losses(self) -> None:
        """Forget the best of a loss that is no more; the RMSE on the `select` days stays what it is."""
        if self.monitor == "loss":
            self.theta = self.value = self.iteration = None

    def state_dict(self) -> dict[str, Any]:
        """Return the best so far, for the checkpoint."""
        return {"theta": self.theta, "value": self.value, "iteration": self.iteration}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take the best so far from a checkpoint."""
        self.theta, self.value, self.iteration = (state_dict[k] for k in ("theta", "value", "iteration"))
