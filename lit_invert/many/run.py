"""A run over all sites of a catalogue, from files to the folder of results.

All that can be checked without reading a site is checked before anything is written. From then on rows are written as chunks end,
so that a run which is stopped, or killed, goes on where it was: `--ckpt_path last` takes the newest run of that name, leaves sites
with a result as they are, and fits the others, those that had failed among them.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import yaml
from lightning.pytorch import seed_everything
from lightning.pytorch.callbacks import ModelCheckpoint

from ..assembly import check_outputs, check_prior_weight
from ..atomic import write_text
from ..catalogue import SiteEntry, load_catalogue, load_priors
from ..choosing import check_starts
from ..config import parse_fit
from ..errors import ConfigError, ResultsError
from ..fit import UNDRAWN, FitConfig, describe_run, is_first_process, model_provenance, read_model, run_folder
from ..plugins import Registry
from ..report import write_sites_report
from ..results import InversionStatus, list_versions, to_json, write_status
from ..settings import ScaleSettings
from .chunk import Chunk
from .engines import build_engine
from .store import FAILED, Store, check_parquet
from .together import check_together, fit_together

#: Fewest chunks for each worker, where there are several.
_CHUNKS_A_WORKER = 4
#: Blocks of the config that say how sites are worked through, not what becomes of them.
_HOW = ("scale", "ckpt_path", "logs", "name", "logger")


@dataclass(frozen=True)
class Progress:
    """How far a run is."""

    done: int
    total: int
    failed: int


@dataclass(frozen=True)
class SitesOutcome:
    """What a run over many sites leaves."""

    folder: Path
    sites: pd.DataFrame
    """The table of sites, as sites.csv has it."""
    report: Path | None
    """The page of all sites; None where it could not be drawn."""
    fault: str = ""
    """Why not."""

    @property
    def failed(self) -> pd.DataFrame:
        """Rows of the sites that have no result."""
        return self.sites[self.sites["status"] == FAILED]


def fit_sites(
    config: FitConfig, registry: Registry, show: Callable[[Progress], None] = lambda progress: None
) -> SitesOutcome | None:
    """Fit every site of a catalogue.

    Args:
        config: The parsed config, with `data.sites`.
        registry: What the plugins registered.
        show: Told how far the run is, each time a chunk has been written.

    Returns:
        The outcome; it may hold sites that failed. None in the second and further processes of a run on several devices.

    Raises:
        LitInvertError: If the config, the catalogue or anything that all sites share is wrong; nothing is written then.
        KeyboardInterrupt: If the user stopped the run, which can go on later.
    """
    is_joint = config.sharing.shares or bool(config.attributes.columns)
    (check_together if is_joint else _check_apart)(config)
    seed_everything(config.seed_everything, verbose=False)
    surrogate, table = read_model(config, registry)
    check_outputs(surrogate, config.inversion)
    if config.inversion.solver in registry.solvers:
        check_starts(registry.solvers[config.inversion.solver], config.inversion)
    if config.scale.parquet:
        check_parquet()
    priors = load_priors(config.data.priors, table)
    entries = load_catalogue(config.data, registry.data_readers)
    check_prior_weight(config.inversion, len(entries))
    for entry in entries:
        priors.of(entry)
    files = {"catalogue": _file(config.data.sites), "priors": config.data.priors}
    provenance = model_provenance(config, registry, surrogate, config.inversion.kernel, files)
    folder = _folder(config, registry, provenance)
    run = describe_run(config, registry, folder)
    if not is_first_process():
        if is_joint:
            fit_together(config, registry, entries, folder)
        return None
    try:
        registry.run_started(run)
        sites = (fit_together if is_joint else partial(_run, show=show))(config, registry, entries, folder)
        succeeded = int((sites["status"] != FAILED).sum())
        write_status(folder, "finished", f"{succeeded} of {len(sites)} sites have a result; {len(sites) - succeeded} failed.")
        report, fault = _report(folder)
    except KeyboardInterrupt:
        ends = "its tables hold the best until then" if is_joint else "--ckpt_path last goes on with it"
        write_status(folder, InversionStatus.INTERRUPTED, f"The run was interrupted; {ends}.")
        raise
    except Exception as error:
        write_status(folder, InversionStatus.FAILED, str(error))
        registry.run_failed(run, error)
        raise
    registry.run_finished(run)
    return SitesOutcome(folder, sites, report, fault)


def _report(folder: Path) -> tuple[Path | None, str]:
    """Draw the page of all sites; where that fails the run keeps its results, and the reason is returned."""
    try:
        return write_sites_report(folder), ""
    except Exception as error:
        return None, f"{UNDRAWN} ({error}). Once that is mended, run `lit-invert report {folder}`."


def _check_apart(config: FitConfig) -> None:
    """Refuse what makes no sense for sites on their own."""
    devices = config.trainer.get("devices")
    if devices not in (None, "auto", 1, "1") and not (isinstance(devices, list) and len(devices) == 1):
        raise ConfigError(
            "`trainer.devices`: sites that share nothing run on one device each. Use `scale.engine: ray` for several."
        )
    callbacks = config.trainer.get("callbacks") or []
    if any(isinstance(callback, ModelCheckpoint) for callback in (callbacks if isinstance(callbacks, list) else [callbacks])):
        raise ConfigError(
            "`trainer.callbacks`: ModelCheckpoint has no place in a run over many sites, whose rows are written as batches end. "
            "Leave it out."
        )


def _run(
    config: FitConfig, registry: Registry, entries: Sequence[SiteEntry], folder: Path, show: Callable[[Progress], None]
) -> pd.DataFrame:
    store = Store(folder)
    store.forget_failures()
    finished = store.finished()
    waiting = [(i, entry) for i, entry in enumerate(entries) if entry.name not in finished]
    chunks = _chunks(waiting, _chunk_size(len(waiting), config.scale))
    done, failed = len(entries) - len(waiting), 0
    show(Progress(done, len(entries), failed))
    for summary in build_engine(config, registry, folder).run(chunks):
        done, failed = done + summary.sites, failed + len(summary.failures)
        show(Progress(done, len(entries), failed))
    return store.join(config.scale.parquet, [entry.name for entry in entries])


def _chunk_size(sites: int, scale: ScaleSettings) -> int:
    """Return how many sites a chunk has: with several workers few enough that none waits long for the last."""
    if scale.engine == "local":
        return scale.batch_sites
    workers = scale.workers or os.cpu_count() or 1
    return max(1, min(scale.batch_sites, -(-sites // (_CHUNKS_A_WORKER * workers))))


def _chunks(waiting: Sequence[tuple[int, SiteEntry]], size: int) -> list[Chunk]:
    parts = [waiting[i : i + size] for i in range(0, len(waiting), size)]
    return [Chunk(part[0][0], tuple(entry for _, entry in part)) for part in parts]


def _folder(config: FitConfig, registry: Registry, provenance: dict[str, Any]) -> Path:
    """Open the folder of a new run, or that of the one to go on with."""
    logs = Path(os.path.normpath(config.logs))
    if config.ckpt_path is None:
        folder = run_folder(config)
        if not is_first_process():
            return folder
        write_text(folder / "config.yaml", config.text)
        write_text(folder / "provenance.json", to_json(provenance))
        return folder
    if config.ckpt_path != "last":
        raise ResultsError(f"`--ckpt_path` is {config.ckpt_path!r}; a run over many sites goes on with `last` alone.")
    versions = list_versions(logs / config.name)
    if not versions:
        raise ResultsError(f"`--ckpt_path last`: {logs / config.name} has no run. Start without it.")
    _check_same(versions[-1], config, registry, provenance)
    return versions[-1]


def _check_same(folder: Path, config: FitConfig, registry: Registry, provenance: dict[str, Any]) -> None:
    """Check that a run goes on as it began: rows of one table must mean the same.

    The config that it began with is parsed anew, so that a key which is younger than the run has its default.

    Raises:
        ResultsError: If surrogate, parameters, priors or settings are others now, or the folder is no run over many sites.
    """
    try:
        before = json.loads((folder / "provenance.json").read_text(encoding="utf-8"))["sha256"]
        (folder / "config.yaml").stat()  # that it is there
    except (OSError, ValueError, KeyError, TypeError):
        raise ResultsError(f"{folder}: is no run over many sites. Start without `--ckpt_path`.") from None
    for what in ("surrogate_weights", "surrogate_spec", "parameters", "priors"):
        if before.get(what) != provenance["sha256"].get(what):
            raise ResultsError(f"{folder}: was made with another {what.replace('_', ' ')}. Start without `--ckpt_path`.")
    begun = parse_fit(["--config", str(folder / "config.yaml")], registry, config.trust)
    settings, now = yaml.safe_load(begun.text), yaml.safe_load(config.text)
    changed = [key for key in {**settings, **now} if key not in _HOW and settings.get(key) != now.get(key)]
    if changed:
        raise ResultsError(
            f"{folder}: was made with another `{changed[0]}`. Go on with the config as it was, or start without `--ckpt_path`."
        )


def _file(path: str | None) -> str | None:
    return None if path is None or Path(path).is_dir() else path
