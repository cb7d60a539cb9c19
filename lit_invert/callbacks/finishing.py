"""Stop when the solver says that it has finished."""

from __future__ import annotations

from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback

from ..solvers import BoundedSolver


class StopWhenFinished(Callback):
    """End the fit when every member of a solver that tests for convergence has finished; other optimisers never do."""

    def __init__(self) -> None:
        #: The solver's own words, once it has finished.
        self.reason: str | None = None
        #: Whether that was by convergence, and not by time or for want of a better step.
        self.converged = False

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Ask the solver."""
        solver = pl_module.optimizers(use_pl_optimizer=False)
        if isinstance(solver, BoundedSolver) and solver.finished:
            self.reason, self.converged = solver.status, solver.converged
            trainer.should_stop = True
