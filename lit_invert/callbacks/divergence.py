"""Stop when a number is no longer a number."""

from __future__ import annotations

import math
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback

from ..errors import DivergenceError
from ..module import InversionModule


class StopOnDivergence(Callback):
    """Stop the fit, and say at which iteration and by which term, when the loss or its gradient is not finite.

    The best iterate before that stays. A loss that is not finite at the start has no such iterate, so it is an error.
    """

    def __init__(self) -> None:
        #: What was not finite, and when; None while all is well.
        self.reason: str | None = None

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Any) -> None:
        """Look at the loss and the gradient before they move theta.

        Raises:
            DivergenceError: If they are not finite at the first iteration of all.
        """
        assert isinstance(pl_module, InversionModule)
        gradient, loss = pl_module.theta.grad, pl_module.last_loss
        if gradient is None or loss is None or self.reason is not None:
            return
        if math.isfinite((loss.total.detach().sum() + gradient.sum()).item()):
            return
        is_scaled = getattr(trainer.precision_plugin, "scaler", None) is not None
        if is_scaled and bool(torch.isfinite(loss.total).all()):
            return  # with `precision: 16-mixed` the scaler skips this step and lowers its scale
        step = trainer.global_step
        bad = [name for name, value in loss.terms.items() if not bool(torch.isfinite(value).all())]
        what = f"loss term {', '.join(map(repr, bad))}" if bad else "the gradient of the loss"
        self.reason = f"{what} was not finite at iteration {step}"
        if step == 0:
            raise DivergenceError(
                f"{self.reason}, at the start. Check the prior, the forcing and the terms; "
                "`trainer.detect_anomaly: true` names the operation.",
                step,
            )
        pl_module.theta.grad = None  # leave theta where it was last finite; zeros would let momentum go on
        trainer.should_stop = True
