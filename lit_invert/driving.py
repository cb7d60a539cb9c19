"""Driving a fit: Lightning's Trainer with the user's arguments as they are, and what must hold around it."""

from __future__ import annotations

import logging
import math
import signal
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import Callback, EarlyStopping, ModelCheckpoint, ProgressBar, RichProgressBar
from lightning.pytorch.profilers import Profiler

from .callbacks import SaveCheckpoints, StopEarly
from .errors import ConfigError, suggest
from .memory import keeping_freed_memory
from .settings import InversionSettings, StopSettings

#: Iterations of a fit when neither `inversion.max_iters` nor `trainer.max_steps` is given.
DEFAULT_ITERATIONS = 500
#: Iterations of an epoch when `trainer.limit_train_batches` is not given.
DEFAULT_EPOCH = 50
#: Iterations from one that is logged to the next when `trainer.log_every_n_steps` is not given.
LOG_EVERY = 10
#: Redraws of the progress bar a second; Lightning's hundred take a sixth more time of a short fit.
REDRAWS = 5
#: What is logged for each thing that can be monitored.
METRICS = {"select": "select/rmse", "loss": "loss/total"}
#: The same in words.
WATCHED = {"select/rmse": "the RMSE on the select days", "loss/total": "the total loss"}
#: What callbacks may watch.
LOGGED = ("fit/rmse", *METRICS.values())


class NoProfiler(Profiler):
    """Measures nothing, at no cost: Lightning's own opens some sixty contexts an iteration to measure nothing."""

    _nothing = nullcontext()

    def profile(self, action_name: str) -> AbstractContextManager[None]:  # type: ignore[override]
        """Return a context that does nothing."""
        return self._nothing

    def start(self, action_name: str) -> None:
        """Do nothing."""

    def stop(self, action_name: str) -> None:
        """Do nothing."""

    def summary(self) -> str:
        """Have nothing to say."""
        return ""


def build_trainer(
    settings: InversionSettings,
    arguments: Mapping[str, Any],
    callbacks: Sequence[Callback],
    logger: Any,
    checkpoints: Path | None,
    monitor: str,
    resumes: bool = False,
    log_every: int = LOG_EVERY,
    ends_epochs: bool = False,
) -> Trainer:
    """Build Lightning's Trainer from the user's arguments, filling only what the user left open.

    Args:
        settings: How to invert; gives the number of iterations.
        arguments: The user's arguments of the Trainer; none is overruled.
        callbacks: Callbacks beside the user's own.
        logger: A Lightning logger, several, or False.
        checkpoints: Folder for checkpoints, or None.
        monitor: `select` or `loss`.
        resumes: Whether the fit goes on from a checkpoint, whose epochs may have had another length.
        log_every: Iterations from one that is logged to the next.
        ends_epochs: Whether the solver may finish in the middle of an epoch, and go on in the next with other weights.

    Raises:
        ConfigError: If `inversion.max_iters` and `trainer.max_steps` differ, or an iteration would not be one step.
    """
    given = {key: value for key, value in arguments.items() if value is not None}
    steps = given.pop("max_steps", -1)
    if settings.max_iters is not None and steps not in (-1, settings.max_iters):
        raise ConfigError(
            f"`inversion.max_iters` is {settings.max_iters} but `trainer.max_steps` is {steps}; "
            "give one of them, or the same number."
        )
    _check_steps(given)
    logger = given.pop("logger", logger)
    own = given.pop("callbacks", [])
    own = list(own) if isinstance(own, (list, tuple)) else [own]
    _check_monitors(own)
    if any(isinstance(callback, EarlyStopping) for callback in own):  # the user's takes the place of ours
        callbacks = [callback for callback in callbacks if not isinstance(callback, EarlyStopping)]
    writes = bool(given.get("enable_checkpointing", True)) and not given.get("fast_dev_run")
    if checkpoints is not None and writes and not any(isinstance(c, ModelCheckpoint) for c in own):
        own.append(SaveCheckpoints(checkpoints, METRICS[monitor]))
    if given.get("enable_progress_bar", True) and not any(isinstance(c, ProgressBar) for c in [*callbacks, *own]):
        own.append(RichProgressBar(refresh_rate=REDRAWS))
    if steps == -1 and settings.max_iters is not None:
        steps = settings.max_iters
    elif steps == -1 and not given.keys() & {"max_epochs", "max_time"}:
        steps = DEFAULT_ITERATIONS
    epoch = given.get("limit_train_batches", DEFAULT_EPOCH)
    is_known = steps > 0 and isinstance(epoch, int) and not given.get("overfit_batches") and not resumes
    defaults = {
        "max_epochs": (steps if ends_epochs else math.ceil(steps / epoch)) if is_known else -1,  # for the progress bar
        "limit_train_batches": epoch,
        "num_sanity_val_steps": 0,
        "log_every_n_steps": log_every,
        "enable_model_summary": False,
        "profiler": NoProfiler(),
        "enable_checkpointing": checkpoints is not None and writes,
        "use_distributed_sampler": False,
        "default_root_dir": checkpoints.parent if checkpoints is not None else None,
    }
    return Trainer(**{**defaults, **given}, max_steps=steps, callbacks=[*callbacks, *own], logger=logger)


def _check_monitors(callbacks: Sequence[Callback]) -> None:
    """Check that what the user's callbacks watch is logged; Lightning would say so only in the middle of a run."""
    for callback in callbacks:
        monitor = getattr(callback, "monitor", None)
        if isinstance(callback, (EarlyStopping, ModelCheckpoint)) and monitor is not None and monitor not in LOGGED:
            raise ConfigError(f"`trainer.callbacks`: {type(callback).__name__} watches {monitor!r}.{suggest(monitor, LOGGED)}")


def _check_steps(arguments: Mapping[str, Any]) -> None:
    if arguments.get("accumulate_grad_batches", 1) != 1:
        raise ConfigError(
            f"`trainer.accumulate_grad_batches` is {arguments['accumulate_grad_batches']!r}, but every iteration sees all days and "
            "is one step. Leave it out."
        )
    if arguments.get("limit_train_batches", 1) == 0:
        raise ConfigError("`trainer.limit_train_batches` is 0, expected 1 or more iterations an epoch.")


def choose_monitor(asked: str, has_select: bool) -> str:
    """Return what the fit watches, `select` or `loss`.

    Raises:
        ConfigError: If `select` is asked for and no day has that role, or the word is unknown.
    """
    if asked not in ("auto", *METRICS):
        raise ConfigError(f"`inversion.early_stopping.monitor` is {asked!r}, expected one of auto, {', '.join(METRICS)}.")
    if asked == "select" and not has_select:
        raise ConfigError(
            "`inversion.early_stopping.monitor` is 'select' but no day has that role. Use 'loss', or a split with `select` days."
        )
    return ("select" if has_select else "loss") if asked == "auto" else asked


def build_early_stopping(settings: StopSettings, monitor: str) -> EarlyStopping | None:
    """Return Lightning's own callback, or none where the fit may not stop early."""
    if not settings.enabled:
        return None
    return StopEarly(
        METRICS[monitor],
        min_delta=settings.min_delta,
        patience=settings.patience,
        check_finite=False,  # StopOnDivergence says more
        check_on_train_epoch_end=monitor == "loss",
    )


@contextmanager
def fitting(cpu_threads: int) -> Iterator[None]:
    """Hold what must hold around `Trainer.fit`: threads, a gentle Ctrl-C, and no advice that does not apply.

    Args:
        cpu_threads: Threads on the CPU; 0 leaves torch's own.

    Raises:
        ConfigError: If Lightning finds that its arguments do not go together.
    """
    with computing(cpu_threads), _keep_after_interrupt(), warnings.catch_warnings():
        _silence_what_does_not_apply()
        try:
            yield
        except MisconfigurationException as error:
            raise ConfigError(f"`trainer`: Lightning refuses to go on: {' '.join(str(error).split())}") from error


@contextmanager
def without_banners() -> Iterator[None]:
    """Keep Lightning from telling a script about devices and tips at every call."""
    logger = logging.getLogger("lightning.pytorch")
    before = logger.level
    logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        logger.setLevel(before)


@contextmanager
def _keep_after_interrupt() -> Iterator[None]:
    """Let Ctrl-C end the fit and not the program, which has the best iterate to write.

    Lightning stops the fit gracefully, but then exits the process, and leaves Ctrl-C switched off.
    """
    handler = signal.getsignal(signal.SIGINT)
    try:
        yield
    except SystemExit as error:
        if not isinstance(error.__context__, KeyboardInterrupt):
            raise
        signal.signal(signal.SIGINT, handler)


@contextmanager
def computing(count: int) -> Iterator[None]:
    """Compute with so many CPU threads for a while, 0 for torch's own, and keep freed memory for the next iteration."""
    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        with keeping_freed_memory():
            yield
    finally:
        torch.set_num_threads(before)


def _silence_what_does_not_apply() -> None:
    """Silence Lightning's advice that does not fit a full-batch problem without workers."""
    for message in (
        ".*smaller than the logging interval.*",
        ".*in eval mode at the start.*",
        ".*LeafSpec.*",
        ".*dirpath has changed.*",
        ".*dataloader is not resumable.*",
        # A resumed fit may watch another number, or write no checkpoints.
        ".*callbacks used to create the checkpoint need to be provided.*(KeepBest|StopEarly|SaveCheckpoints).*",
    ):
        warnings.filterwarnings("ignore", message)
