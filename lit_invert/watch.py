"""Our own callbacks around a fit, and what they say of its end."""

from __future__ import annotations

from dataclasses import dataclass

from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import Callback, EarlyStopping

from .callbacks import ClipToBounds, KeepBest, LogToTensorBoard, RecordHistory, StopOnDivergence, StopWhenFinished
from .driving import METRICS, WATCHED, build_early_stopping
from .module import InversionModule
from .outcomes import Ending
from .results import InversionStatus
from .settings import InversionSettings
from .solvers import BoundedSolver


@dataclass(frozen=True)
class Watch:
    """Our own callbacks of one fit."""

    clipping: ClipToBounds | None
    divergence: StopOnDivergence
    best: KeepBest
    history: RecordHistory
    finish: StopWhenFinished
    stopping: EarlyStopping | None

    @classmethod
    def of(cls, settings: InversionSettings, monitor: str, members: int = 1, clips: bool = True) -> Watch:
        """Build them.

        Args:
            settings: How to invert.
            monitor: `select` or `loss`.
            members: Members of the batch; early stopping, which looks at one number, is left out where there are several.
            clips: Whether parameters are clipped to their bounds after each step, where the settings want it.
        """
        clipping = ClipToBounds() if clips and settings.clip_raw_params.enabled else None
        stopping = build_early_stopping(settings.early_stopping, monitor) if members == 1 else None
        return cls(clipping, StopOnDivergence(), KeepBest(monitor), RecordHistory(clipping), StopWhenFinished(), stopping)

    @property
    def callbacks(self) -> list[Callback]:
        """In the order in which they act."""
        each = [
            self.clipping,
            self.divergence,
            self.best,
            self.history,
            LogToTensorBoard(self.clipping),
            self.finish,
            self.stopping,
        ]
        return [callback for callback in each if callback is not None]

    def ending(self, module: InversionModule, driver: Trainer, member: int, how: str, monitor: str, seconds: float) -> Ending:
        """Return how the fit of a member ended.

        Args:
            module: The module that was fitted.
            driver: Its Trainer.
            member: The member.
            how: How its start was found, in words, and why this solver; may be empty.
            monitor: `select` or `loss`.
            seconds: Its share of the wall time [s].
        """
        status, message = self._outcome(module, driver, member)
        history = self.history.frame(member)
        ended = self.divergence.steps.get(member)
        history = history.iloc[: _steps(module, member, len(history)) if ended is None else ended + 1]
        best = len(history) if self.best.iteration is None else int(self.best.iteration[member])
        if ended is not None:  # where it was kept has been looked at again and again
            best = min(best, ended)
        words = "; ".join(part for part in (message, how) if part)
        return Ending(status, words, history, best, METRICS[monitor], seconds)

    def _outcome(self, module: InversionModule, driver: Trainer, member: int) -> tuple[InversionStatus, str]:
        """Say how the fit of a member ended, as a status and the numbers behind it."""
        step, reason = driver.global_step, self.divergence.reasons.get(member)
        if reason is not None:
            return InversionStatus.DIVERGED, f"{reason}; the best iterate before that is kept"
        if driver.interrupted:
            return InversionStatus.INTERRUPTED, f"stopped by the user after {step} iterations"
        solver = module.optimizers(use_pl_optimizer=False)
        if isinstance(solver, BoundedSolver) and not bool(solver.running[member]):
            state, sentence = solver.describe(member)
            return InversionStatus.CONVERGED if state.verb == "converged" else InversionStatus.STOPPED, sentence
        stopping = driver.early_stopping_callback
        if stopping is not None and stopping.stopped_epoch > 0:
            return InversionStatus.EARLY_STOPPED, (
                f"{WATCHED.get(stopping.monitor, stopping.monitor)} did not fall for {stopping.patience} epochs; "
                f"stopped after {step} iterations"
            )
        if driver.max_steps == step:
            return InversionStatus.STEP_LIMIT, f"all {step} iterations were used"
        return InversionStatus.STOPPED, f"the Trainer stopped after {step} iterations"


def _steps(module: InversionModule, member: int, iterations: int) -> int:
    """Return how many iterations a member took part in: one that has finished waits for the others."""
    solver = module.optimizers(use_pl_optimizer=False)
    if not isinstance(solver, BoundedSolver) or bool(solver.running[member]):
        return iterations
    return min(iterations, int(solver.steps[member]) + 1)
