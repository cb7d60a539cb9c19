"""Stop when a number is no longer a number."""

from __future__ import annotations

from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from torch import Tensor

from ..errors import DivergenceError
from ..module import InversionModule
from ..problem import Loss


class StopOnDivergence(Callback):
    """Keep members where their loss and its gradient were last finite, once they are not any more; stop when none is left.

    The best iterate before that stays, and `reasons` says at which iteration it was, and by which term. A loss that is not finite
    at the start has no such iterate, so it is an error.
    """

    def __init__(self) -> None:
        #: What was not finite, and when, of each member of which something was not.
        self.reasons: dict[int, str] = {}
        #: The iteration at which it was not.
        self.steps: dict[int, int] = {}
        self._kept: dict[int, Tensor] = {}
        self._finite: Tensor | None = None

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Any) -> None:
        """Look at the loss and the gradient before they move theta.

        Raises:
            DivergenceError: If they are not finite at the first iteration of all.
        """
        assert isinstance(pl_module, InversionModule)
        gradient, loss = pl_module.theta.grad, pl_module.last_loss
        if gradient is None or loss is None or len(self.reasons) == len(gradient):
            return
        finite = (loss.total.detach().to(gradient) + gradient.sum(-1)).isfinite()
        if bool(finite.all()):
            self._finite = pl_module.theta.detach().clone()
            return
        is_scaled = getattr(trainer.precision_plugin, "scaler", None) is not None
        if is_scaled and bool(torch.isfinite(loss.total).all()):
            return  # with `precision: 16-mixed` the scaler skips this step and lowers its scale
        step, last = trainer.global_step, pl_module.theta.detach() if self._finite is None else self._finite
        for member in (~finite).nonzero().flatten().tolist():
            if member not in self.reasons:
                self.reasons[member], self.steps[member] = f"{_blame(loss, member)} was not finite at iteration {step}", step
                self._kept[member] = last[member].clone()
        if step == 0:
            raise DivergenceError(
                f"{next(iter(self.reasons.values()))}, at the start. Check the prior, the forcing and the terms; "
                "`trainer.detect_anomaly: true` names the operation.",
                step,
            )
        if len(self.reasons) == len(gradient):
            pl_module.theta.grad = None  # leave theta where it was last finite; zeros would let momentum go on
            trainer.should_stop = True
        else:
            pl_module.theta.grad = torch.where(finite[:, None], gradient, 0.0)
            self._finite = torch.where(finite[:, None], pl_module.theta.detach(), last)

    @torch.no_grad()
    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Put those members back to where their loss was last finite; an optimiser's momentum would move them on."""
        assert isinstance(pl_module, InversionModule)
        for member, theta in self._kept.items():
            pl_module.theta[member] = theta


def _blame(loss: Loss, member: int) -> str:
    def is_bad(value: Tensor) -> bool:
        return not bool(value.expand_as(loss.total)[member].isfinite())

    bad = [name for name, value in loss.terms.items() if is_bad(value)]
    return f"loss term {', '.join(map(repr, bad))}" if bad else "the gradient of the loss"
