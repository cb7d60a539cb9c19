r"""Steering the weight of the loss term `invariance` while a fit runs.

After each epoch the parameters of the moment simulate the weather that other instruments would have reported, other ones than those
of the penalty, so that a fit cannot learn them by heart. A *sample* is a window of a member under one such set of instruments; it
passes where every flux changes by no more than the tolerance. Retention is the share that passes, and
:class:`~lit_invert_invariance.lambda_optimizer.InvarianceLambdaOptimizer` makes the next weight of it. Nothing is inverted again
in the loop: retention here is that of predictions.
"""

from __future__ import annotations

from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback

from lit_invert import InversionModule

from .lambda_optimizer import InvarianceLambdaOptimizer
from .penalty import Invariance
from .perturbation import draw_factors
from .settings import InvarianceSettings
from .weather_retention import Retention, measure_retention

#: Sets of instruments that retention is measured with, and how far their seed is from that of the settings: not the penalty's own.
DRAWS, SEED_OFFSET = 32, 7919


class SteerLambda(Callback):
    """Set the weight of the term `invariance` after each epoch, and show it with the retention that it follows.

    The first weight is `steering.initial_lambda`, whatever the term's own in the config; a resumed fit goes on with the weight that
    it had. Members of one batch share the weight. A fit without the term is left alone.

    Losses of two weights cannot be compared, so the best iterate should be chosen by the `select` days, whose RMSE knows no weight;
    it need not be one of the last, at whose retention the weight has come to rest. With `trainer.precision: bf16-true` rounding
    moves the drivers further than instruments do: retention is zero, and the weight rises to its limit.

    Args:
        settings: The block `invariance` of the config.
    """

    def __init__(self, settings: InvarianceSettings) -> None:
        self.settings = settings
        self.steering = InvarianceLambdaOptimizer(settings.steering.control)
        #: The last measurement, None before the first.
        self.retention: Retention | None = None
        self._step = 0

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Set the first weight, or the one that a checkpoint had, whose losses are of that weight already."""
        term = find_term(pl_module)
        if term is not None and self._step:
            term.weight = self.steering.current_lambda
        self._set_weight(pl_module)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Measure retention, show it with the weight that led to it, and set the next weight."""
        term = find_term(pl_module)
        if term is None or trainer.global_step == self._step:  # a resumed fit ends the epoch of its checkpoint once more
            return
        self._step = trainer.global_step
        self.retention = _sum_over_processes(measure(pl_module, term, self.settings), trainer)
        if not self.retention.samples:
            return  # nothing is finite, or no window is long enough: nothing to steer by
        scalars = {"invariance/lambda": term.weight, "invariance/retention": self.retention.share}
        for logger in trainer.loggers:
            logger.log_metrics(scalars, step=trainer.global_step - 1)
        self.steering.update_lambda(self.retention.share)
        self._set_weight(pl_module)

    def state_dict(self) -> dict[str, Any]:
        """Return the weight and when it was set, for the checkpoint."""
        return {"lambda": self.steering.current_lambda, "step": self._step}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take the weight from a checkpoint."""
        self.steering.current_lambda, self._step = state_dict["lambda"], state_dict["step"]

    def _set_weight(self, module: LightningModule) -> None:
        """Give the term the present weight; one that it has already would make a solver start anew for nothing."""
        term, weight = find_term(module), self.steering.current_lambda
        if term is not None and term.weight != weight:
            assert isinstance(module, InversionModule)
            module.reweight({term.name: weight})


def _sum_over_processes(own: Retention, trainer: Trainer) -> Retention:
    """Return the retention of the sites of all processes, of which all must make the same weight."""
    counts = torch.tensor([own.passed, own.samples, own.left_out], device=trainer.strategy.root_device)
    return Retention(*trainer.strategy.reduce(counts, reduce_op="sum").tolist())


def find_term(module: LightningModule) -> Invariance | None:
    """Return the penalty of a fit, None where it has none."""
    terms = [part for part in module.modules() if isinstance(part, Invariance)]
    return terms[0] if terms else None


def measure(module: LightningModule, term: Invariance, settings: InvarianceSettings) -> Retention:
    """Measure the retention of a fit's present parameters on the windows that hold `select` days, or on all where there are none.

    Args:
        module: The module that is fitted.
        term: Its penalty, whose spread the changes have.
        settings: The block `invariance` of the config.
    """
    assert isinstance(module, InversionModule)
    evaluation = module.loss_here().evaluation
    factors = draw_factors(module.problem.surrogate.spec.drivers, DRAWS, term.spread, settings.seed + SEED_OFFSET)
    days = module.select_mask.any(-1) if module.has_select else None
    return measure_retention(evaluation, factors, settings.window_days, settings.steering.tolerance, days)
