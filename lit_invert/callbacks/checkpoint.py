"""Checkpoints of a fit: the best, the last, and the state in which a run failed."""

from __future__ import annotations

from pathlib import Path

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint


class SaveCheckpoints(ModelCheckpoint):
    """Lightning's own, told what to watch; when a run fails, `last.ckpt` is where it stood, so that nothing is lost.

    Args:
        folder: Where to.
        metric: What `best.ckpt` has the lowest of, `select/rmse` or `loss/total`.
    """

    def __init__(self, folder: Path, metric: str) -> None:
        super().__init__(
            dirpath=folder,
            filename="best",
            monitor=metric,
            save_last=True,
            save_on_train_epoch_end=metric.startswith("loss/"),
            enable_version_counter=False,
        )

    def forget_losses(self) -> None:
        """Let the next end of an epoch be the best where the loss is watched."""
        if self.monitor == "loss/total":
            self.best_k_models, self.kth_best_model_path, self.kth_value = {}, "", torch.tensor(torch.inf)
            self.best_model_path, self.best_model_score = "", None

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save the end as well, which need not be the end of an epoch."""
        super().on_train_end(trainer, pl_module)
        self._save_last(trainer)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Save where the run stood, unless it had not made a step."""
        self._save_last(trainer)

    def _save_last(self, trainer: Trainer) -> None:
        if trainer.global_step > 0 and self.dirpath is not None:
            trainer.save_checkpoint(Path(self.dirpath) / "last.ckpt")
