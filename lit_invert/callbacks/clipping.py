"""Keep parameters inside their bounds by clipping in physical space after each step."""

from __future__ import annotations

from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from torch import Tensor

from ..module import InversionModule


class ClipToBounds(Callback):
    """After each step: theta to physical space, clip, and back.

    Parameters inside their bounds keep theta to the last bit; the share that was clipped is in `clipped`.
    """

    def __init__(self) -> None:
        #: True where the last step left the bounds, (B, P).
        self.clipped: Tensor | None = None

    @torch.no_grad()
    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Project theta onto the bounds."""
        assert isinstance(pl_module, InversionModule)
        theta, self.clipped = pl_module.problem.space.project(pl_module.theta)
        pl_module.theta.copy_(theta)

    @property
    def share(self) -> float:
        """Share of the parameters that the last step had to clip."""
        return 0.0 if self.clipped is None else self.clipped.float().mean().item()
