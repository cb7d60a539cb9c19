"""Stop when the solver says that it has finished."""

from __future__ import annotations

from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback

from ..solvers import BoundedSolver


class StopWhenFinished(Callback):
    """End the fit when every member of a solver that tests for convergence has finished; other optimisers never do.

    A stop that somebody else asked for is not its own, and is never taken back.
    """

    def __init__(self) -> None:
        #: The solver's own words, once it has finished.
        self.reason: str | None = None
        #: Whether that was by convergence, and not by time or for want of a better step.
        self.converged = False
        self._stopped: tuple[Trainer, BoundedSolver] | None = None

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Ask the solver."""
        solver = pl_module.optimizers(use_pl_optimizer=False)
        if isinstance(solver, BoundedSolver) and solver.finished:
            self.reason, self.converged = solver.status, solver.converged
            if not trainer.should_stop:
                trainer.should_stop, self._stopped = True, (trainer, solver)

    def forget_losses(self) -> None:
        """Take its own stop back where the solver runs on with another loss."""
        if self._stopped is None or self._stopped[1].finished:
            return
        trainer, _ = self._stopped
        trainer.should_stop, self._stopped, self.reason, self.converged = False, None, None, False
