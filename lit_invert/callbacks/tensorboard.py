"""Show a fit in TensorBoard while it runs."""

from __future__ import annotations

from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import TensorBoardLogger

from ..module import InversionModule
from .clipping import ClipToBounds


class LogToTensorBoard(Callback):
    """Scalars every `trainer.log_every_n_steps` iterations, to whatever loggers the Trainer has.

    `loss/<term>` unweighted, `weighted/<term>` (these sum to `loss/total`), `gradient_norm`, `clipped_share`, and every parameter
    in its physical unit as `theta/<name>`. The total and the RMSE are logged by the module itself.

    Args:
        clipping: The callback that clips, if any.
    """

    def __init__(self, clipping: ClipToBounds | None = None) -> None:
        self._clipping = clipping
        self._gradient_norm = float("nan")

    def _is_due(self, trainer: Trainer, step: int) -> bool:
        return bool(trainer.loggers) and step % trainer.log_every_n_steps == 0  # type: ignore[attr-defined]

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Any) -> None:
        """Keep the norm of the gradient where it will be shown."""
        assert isinstance(pl_module, InversionModule)
        if self._is_due(trainer, trainer.global_step + 1) and pl_module.theta.grad is not None:
            self._gradient_norm = pl_module.theta.grad.norm().item()

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Send the scalars of this iteration."""
        assert isinstance(pl_module, InversionModule)
        step, loss = trainer.global_step, pl_module.last_loss
        if loss is None or not self._is_due(trainer, step):
            return
        physical = loss.evaluation.physical.detach().mean(0).tolist()
        scalars = {
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
