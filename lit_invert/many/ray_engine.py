"""Chunks as tasks of Ray: on the cores or GPUs of this machine, or of a cluster that shares its files.

Ray schedules the tasks and runs again those whose worker was lost. What this module adds is what Ray cannot know: that few tasks
are handed over at a time, so that memory stays flat; that a worker reads the surrogate once, not once a task; and what becomes of
the sites of a chunk whose worker is lost every time. Workers write their rows themselves, so the folder of the run, the surrogate
and the data must be at the same paths everywhere.

A Ray of our own listens on this machine alone, and asks for a token that no one else has: whoever may talk to Ray may run code.
"""

from __future__ import annotations

import functools
import importlib.util
import os
import pickle
import secrets
import socket
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

from ..errors import ConfigError, LitInvertError
from ..fit import FitConfig
from ..plugins import load_plugins
from ..settings import ScaleSettings
from .chunk import Chunk, ChunkFitter, ChunkSummary
from .rows import failed_row, to_tables
from .store import Store

#: Room for what goes from process to process, which is little: configs and summaries [bytes].
_OBJECT_STORE = 200 * 2**20
#: Longest wait for a cluster [s].
_ANSWERS_WITHIN = 10.0
#: Where `trainer.accelerator` says so, each task has a GPU of its own.
_ON_GPU = ("gpu", "cuda")


class RayEngine:
    """Runs chunks as tasks of Ray, and yields summaries in the order in which they are finished.

    Args:
        config: The config of the run.
        folder: Folder of the run.

    Raises:
        ConfigError: If Ray is not installed, or the config cannot be sent to a worker.
    """

    def __init__(self, config: FitConfig, folder: Path) -> None:
        self._ray = load_ray(config.scale)
        self._store, self._scale = Store(folder.absolute()), config.scale
        threads = config.inversion.kernel_threads or 1  # several processes share the cores
        inversion = replace(config.inversion, kernel_threads=threads, cpu_threads=config.inversion.cpu_threads or 1)
        self._demand = {"CPU": threads, "GPU": int(config.trainer.get("accelerator") in _ON_GPU)}
        self._config = _pickled(self._ray, replace(config, inversion=inversion, logger=False))

    def run(self, chunks: Sequence[Chunk]) -> Iterator[ChunkSummary]:
        """Fit the chunks; a chunk whose worker was lost more often than `scale.retries` leaves rows of failed sites.

        Raises:
            ConfigError: If there is no Ray at the address, or none of its machines has what a task needs.
            LitInvertError: If a worker finds fault with what all sites share.
        """
        with connected(self._ray, self._scale, self._demand["CPU"]):
            _check_machines(self._ray, self._demand)
            task = self._ray.remote(_fit_chunk).options(
                num_cpus=self._demand["CPU"], num_gpus=self._demand["GPU"], max_retries=self._scale.retries
            )
            waiting = iter(chunks)
            running: dict[Any, Chunk] = {}
            try:
                while True:
                    for chunk in islice(waiting, max(0, self._room() - len(running))):
                        running[task.remote(self._config, self._store.folder, chunk)] = chunk
                    if not running:
                        return
                    (done, *_), _ = self._ray.wait(list(running))
                    yield self._summary(done, running.pop(done))
            finally:
                for unfinished in running:
                    self._ray.cancel(unfinished, force=True)

    def _room(self) -> int:
        """Return how many tasks may be under way: enough that no core waits, on a cluster that may have grown."""
        if self._scale.workers:
            return self._scale.workers
        there = self._ray.cluster_resources()
        return 2 * max(1, min(int(there.get(name, 0) / amount) for name, amount in self._demand.items() if amount))

    def _summary(self, done: Any, chunk: Chunk) -> ChunkSummary:
        """Return what a task has to say, or write the rows of a chunk that failed for good."""
        try:
            summary: ChunkSummary = self._ray.get(done)
            return summary
        except self._ray.exceptions.RayError as error:
            cause = getattr(error, "cause", None)
            if isinstance(cause, LitInvertError):
                raise cause from None
            reason = _reason(error, cause, self._scale.retries)
        if self._store.has(chunk.name):  # the worker was lost after its last write
            return ChunkSummary(chunk.name, len(chunk.entries), {}, 0.0)
        failures = {entry.name: reason for entry in chunk.entries}
        self._store.write(chunk.name, to_tables([failed_row(entry, reason) for entry in chunk.entries], [], []))
        return ChunkSummary(chunk.name, len(chunk.entries), failures, 0.0)


def _fit_chunk(config: bytes, folder: Path, chunk: Chunk) -> ChunkSummary:
    """Fit a chunk, in a worker."""
    return _fitter(config, folder).fit(chunk)


@functools.lru_cache(maxsize=1)
def _fitter(config: bytes, folder: Path) -> ChunkFitter:
    """Return the fitter of a run: a worker builds it once, for whatever chunks it is given."""
    return ChunkFitter(pickle.loads(config), load_plugins(), folder)  # from our own driver


def _pickled(ray: Any, config: FitConfig) -> bytes:
    try:
        data: bytes = ray.cloudpickle.dumps(config)
    except (TypeError, pickle.PicklingError) as error:
        raise ConfigError(f"the config holds what no worker can be sent ({error}). Use engine: local, or leave it out.") from error
    return data


def load_ray(scale: ScaleSettings) -> Any:
    """Import Ray.

    Raises:
        ConfigError: If it is not installed.
    """
    if importlib.util.find_spec("ray") is None:
        raise ConfigError('`scale.engine: ray` needs Ray. Run: pip install "lit-invert[ray]", or use engine: local.')
    if scale.ray_address is None and "ray" not in sys.modules:  # it reads the environment when it is imported
        _keep_private(scale.retries)
    import ray

    return ray


def _keep_private(retries: int) -> None:
    """Have a Ray that is started here listen on this machine alone, with a token of its own, and tell nobody of it."""
    for name, value in (
        ("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0"),  # its name is older than its use: 127.0.0.1 alone, on every system
        ("RAY_AUTH_MODE", "token"),
        ("RAY_AUTH_TOKEN", secrets.token_hex(32)),
        ("RAY_USAGE_STATS_ENABLED", "0"),
        ("RAY_task_oom_retries", str(retries)),  # for ever, if Ray is not told
    ):
        os.environ.setdefault(name, value)


@contextmanager
def connected(ray: Any, scale: ScaleSettings, threads: int) -> Iterator[None]:
    """Connect to Ray for a while: to the one that the caller has, else to the cluster at the address, else to one started here.

    Args:
        ray: The module.
        scale: Address and workers.
        threads: Cores of a task.

    Raises:
        ConfigError: If there is no Ray at the address.
    """
    if scale.ray_address is not None:
        _check_answers(scale.ray_address)
    if ray.is_initialized():
        yield
        return
    quiet: dict[str, Any] = {"log_to_driver": False, "configure_logging": False}
    if scale.ray_address is None:
        cores = (scale.workers * threads) or max(threads, os.cpu_count() or 1)
        ray.init("local", num_cpus=cores, object_store_memory=_OBJECT_STORE, include_dashboard=False, **quiet)
    else:
        _connect(ray, scale.ray_address, quiet)
    try:
        yield
    finally:
        ray.shutdown()


def _connect(ray: Any, address: str, quiet: dict[str, Any]) -> None:
    try:
        ray.init(address, **quiet)
    except (OSError, RuntimeError, ValueError, ImportError, ray.exceptions.RayError) as error:
        raise _no_cluster(address, error) from error


def _check_answers(address: str) -> None:
    """Check that someone listens at `host:port`; Ray itself would try for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if host and port.isdecimal():
        try:
            socket.create_connection((host, int(port)), timeout=_ANSWERS_WITHIN).close()
        except OSError as error:
            raise _no_cluster(address, error) from error


def _no_cluster(address: str, error: Exception) -> ConfigError:
    reason = " ".join(str(error).split())
    return ConfigError(
        f"`scale.ray_address`: no Ray cluster answers at {address!r} ({reason}). "
        "Start one with `ray start --head`, or leave the address out."
    )


def _check_machines(ray: Any, demand: dict[str, int]) -> None:
    """Check that some machine has what a task asks for; it would wait for ever otherwise."""
    machines = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    if any(all(machine.get(name, 0) >= amount for name, amount in demand.items()) for machine in machines):
        return
    wanted = " and ".join(f"{amount} {name}" for name, amount in demand.items() if amount)
    raise ConfigError(
        f"a batch of sites needs {wanted} on one machine (`inversion.kernel_threads`, `trainer.accelerator`), and Ray has none."
    )


def _reason(error: Exception, cause: Exception | None, retries: int) -> str:
    if cause is not None:
        return f"{type(cause).__name__}: {cause}"
    return f"its worker was lost, also in {retries} retries ({type(error).__name__}); see `scale.memory_gb` and `scale.batch_sites`"
