"""Show a fit in TensorBoard while it runs."""

from __future__ import annotations

from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import TensorBoardLogger

from ..module import InversionModule, is_due
from .clipping import ClipToBounds


class LogToTensorBoard(Callback):
    """Scalars every `trainer.log_every_n_steps` iterations, to whatever loggers the Trainer has.

    `loss/total`, `loss/<term>` unweighted, `weighted/<term>` (these sum to the total), `fit/rmse`, `gradient_norm`,
    `clipped_share`, and every parameter in its physical unit as `theta/<name>`. They go straight to the loggers:
    `LightningModule.log` would flush the file each time.

    Args:
        clipping: The callback that clips, if any.
    """

    def __init__(self, clipping: ClipToBounds | None = None) -> None:
        self._clipping = clipping
        self._gradient_norm = float("nan")

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Any) -> None:
        """Keep the norm of the gradient where it will be shown."""
        assert isinstance(pl_module, InversionModule)
        if is_due(trainer, trainer.global_step + 1) and pl_module.theta.grad is not None:
            self._gradient_norm = pl_module.theta.grad.norm().item()

    @torch.no_grad()
    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Send the scalars of this iteration."""
        assert isinstance(pl_module, InversionModule)
        step, loss = trainer.global_step, pl_module.last_loss
        if loss is None or not trainer.loggers or not is_due(trainer, step):
            return
        physical = loss.evaluation.physical.mean(0).tolist()
        scalars = {
            "loss/total": loss.total.sum().item(),
            "fit/rmse": pl_module.fit_rmse(loss).min().item(),
            **{f"loss/{name}": value.mean().item() for name, value in loss.terms.items()},
            **{f"weighted/{name}": value.mean().item() for name, value in loss.weighted.items()},
            **{f"theta/{name}": value for name, value in zip(loss.evaluation.parameters, physical, strict=True)},
            "gradient_norm": self._gradient_norm,
            "clipped_share": self._clipping.share if self._clipping is not None else 0.0,
        }
        for logger in trainer.loggers:
            logger.log_metrics(scalars, step=step - 1)


def log_outcome(logger: Any, figure: Any, step: int, hyperparameters: dict[str, Any], metrics: dict[str, float]) -> None:
    """Put the NEP figure and the hyper-parameters with their before/after metrics where TensorBoard shows them.

    Args:
        logger: A logger; anything but TensorBoard's is left alone.
        figure: The matplotlib figure.
        step: Last iteration.
        hyperparameters: Settings of the inversion.
        metrics: Scores, e.g. `select/rmse_before` and `select/rmse_after`.
    """
    if isinstance(logger, TensorBoardLogger):
        logger.experiment.add_figure("nep", figure, global_step=step)
        logger.log_hyperparams(hyperparameters, metrics)
        logger.save()
