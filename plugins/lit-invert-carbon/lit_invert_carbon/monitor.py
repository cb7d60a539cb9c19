"""Watching the carbon budget while a fit moves the parameters.

NEP can improve while GPP and respiration run away together; the curves show it as it happens.
"""

from __future__ import annotations

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback

from lit_invert import Evaluation

from .budget import OUTPUTS, to_annual


class LogBudget(Callback):
    """Send the yearly budget of the current iterate to the Trainer's loggers after each epoch.

    `carbon/GPP`, `carbon/NPP`, `carbon/NEP`, `carbon/Rh` [gC m-2 yr-1] and `carbon/CUE` [-], as far as the surrogate has
    the fluxes. They come from what the epoch's last iteration has simulated, so that looking costs no forward pass.
    """

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log the budget of the last iteration, if there was one."""
        loss = getattr(pl_module, "last_loss", None)
        if loss is None:
            return
        scalars = {f"carbon/{label}": value for label, value in simulated_budget(loss.evaluation).items()}
        if not scalars:
            return
        for logger in trainer.loggers:
            logger.log_metrics(scalars, step=trainer.global_step - 1)


def simulated_budget(evaluation: Evaluation) -> dict[str, float]:
    """Return the yearly budget of what was simulated, over all days that count and all members.

    Args:
        evaluation: Simulated fluxes at some theta, observed or not.

    Returns:
        Sums [gC m-2 yr-1] and CUE [-] by label, empty without any carbon flux.

    Example:
        >>> import torch
        >>> from lit_invert.testing import toy_problem
        >>> budget = simulated_budget(toy_problem().evaluate(torch.zeros(1, 3).double()))
        >>> {label: round(value, 2) for label, value in budget.items()}
        {'GPP': 1826.25, 'NPP': 913.12, 'NEP': 365.25, 'Rh': 547.88, 'CUE': 0.5}
    """
    names = [name for name in OUTPUTS if name in evaluation.outputs]
    return to_annual({name: evaluation.mean(evaluation.flux(name).detach().double()).mean().item() for name in names})
