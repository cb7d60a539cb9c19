"""Fitting some sites: read them, share them out between batches, invert, write their rows.

A site that cannot be read, or whose inversion ends in an error, leaves a row with its reason. A batch that ends in an error is cut
in halves until the guilty site is alone, so that its neighbours lose nothing but time.
"""

from __future__ import annotations

import copy
import gc
import time
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from lightning.pytorch import seed_everything

from ..assembly import Record, build_problem, is_padded_exactly
from ..atomic import write_text
from ..catalogue import SiteEntry, load_priors
from ..config import config_text
from ..driving import without_banners
from ..errors import LitInvertError
from ..extensions import RunInfo, Verdict
from ..fit import (
    FitConfig,
    Inputs,
    describe_run,
    draw_report,
    model_provenance,
    quantify_site,
    read_model,
    read_site_inputs,
    tabulate_site,
)
from ..inversion import invert_sites
from ..plugins import Registry
from ..problem import InversionProblem
from ..results import InversionResult, InversionStatus, RunTables, write_results
from ..simulators import Simulator
from ..sites import SealedObservations, Site
from .batches import most_days, plan_batches
from .reading import remembering
from .rows import failed_row, metric_rows, parameter_rows, site_row, to_tables
from .store import Store, chunk_name

_FEW_DAYS = 30
#: What a batch among many needs of the Trainer: one device, and no bar or checkpoints of its own.
_IN_A_BATCH = {"num_nodes": 1, "strategy": "auto", "enable_progress_bar": False, "enable_checkpointing": False}


@dataclass(frozen=True)
class Chunk:
    """Sites that are fitted together."""

    first: int
    """Place of the first in the catalogue."""
    entries: tuple[SiteEntry, ...]

    @property
    def name(self) -> str:
        """Name of its parts."""
        return chunk_name(self.first, [entry.name for entry in self.entries])


@dataclass(frozen=True)
class ChunkSummary:
    """What became of a chunk."""

    name: str
    sites: int
    failures: Mapping[str, str]
    """Reasons by site."""
    seconds: float


@dataclass(frozen=True)
class ReadySite:
    """A site that was read and checked."""

    entry: SiteEntry
    site: Site
    sealed: SealedObservations
    record: Record
    verdicts: tuple[Verdict, ...]


class ChunkFitter:
    """Fits chunks one after the other; what all sites share is read once.

    Args:
        config: The config of the run.
        registry: What the plugins registered.
        folder: Folder of the run.
    """

    def __init__(self, config: FitConfig, registry: Registry, folder: Path) -> None:
        # A batch has no one number to stop by, and whether a site has neighbours must not matter.
        settings = replace(config.inversion, early_stopping=replace(config.inversion.early_stopping, enabled=False))
        self.config, self.registry = replace(config, inversion=settings), remembering(registry)
        self.store = Store(folder)
        self.surrogate, self.table = read_model(config, registry)
        self.priors = load_priors(config.data.priors, self.table)

    @property
    def run_info(self) -> RunInfo:
        """The run, as plugins see it."""
        return describe_run(self.config, self.registry, self.store.folder)

    def fit(self, chunk: Chunk) -> ChunkSummary:
        """Fit the sites of a chunk and write their rows, unless they are there.

        Raises:
            KeyboardInterrupt: If the user stopped it; no row of the chunk is written then.
        """
        start = time.perf_counter()
        if self.store.has(chunk.name):  # whoever ran it before was lost after its last write
            return ChunkSummary(chunk.name, len(chunk.entries), {}, 0.0)
        seed_everything(self.config.seed_everything, verbose=False)
        failures: dict[str, str] = {}
        ready = self.read(chunk.entries, failures)
        found: dict[str, RunTables] = {}
        for batch in self.batches(ready):
            self._fit_batch(batch, found, failures)
        self.store.write(chunk.name, self.rows(chunk.entries, found, failures))
        return ChunkSummary(chunk.name, len(chunk.entries), failures, time.perf_counter() - start)

    def read(self, entries: Sequence[SiteEntry], failures: dict[str, str]) -> list[ReadySite]:
        """Read and check sites; of those that cannot be read the reason is put among the failures."""
        ready = []
        for entry in entries:
            config = replace(self.config, data=entry.data)
            try:
                prior = self.priors.of(entry)
                inputs = read_site_inputs(config, self.registry, self.surrogate, self.table, prior)
            except Exception as error:
                failures[entry.name] = self.explain(entry, error)
            else:
                ready.append(ReadySite(entry, inputs.site, inputs.sealed, inputs.record, inputs.verdicts))
        return ready

    def batches(self, ready: Sequence[ReadySite]) -> list[list[ReadySite]]:
        """Share sites out between batches; those with `select` days and those without have none in common."""
        groups = ([item for item in ready if (item.record.select is not None) == has_select] for has_select in (True, False))
        return [batch for group in groups for batch in self._batches_of(group)]

    def _batches_of(self, ready: Sequence[ReadySite]) -> list[list[ReadySite]]:
        scale = self.config.scale
        days = most_days(scale.memory_gb, self.surrogate.width, self.config.inversion.starts)

        def pads_exactly(shortest: int, longest: int) -> bool:
            try:
                return self.pads_exactly(ready[shortest].record, ready[longest].record)
            except Exception:  # whichever site is to blame will say so in a batch of its own
                return False

        lengths = [item.record.days for item in ready]
        return [[ready[i] for i in batch] for batch in plan_batches(lengths, scale.batch_sites, days, pads_exactly)]

    def pads_exactly(self, shorter: Record, longer: Record) -> bool:
        """Say whether the shorter of two records has the same fluxes in a batch with the longer as alone."""
        return is_padded_exactly(self._problem([shorter, longer]), self._problem([shorter]), 0)

    def _problem(self, records: Sequence[Record]) -> InversionProblem:
        config, registry = self.config, self.registry
        terms, transform = registry.guard_terms(config.loss_terms), registry.transforms[config.constraints.transform]
        return build_problem(self.surrogate, self.table, records, config.inversion, terms, transform)

    def _fit_batch(self, batch: Sequence[ReadySite], found: dict[str, RunTables], failures: dict[str, str]) -> None:
        results = self.invert_each(batch, failures)
        for item in batch:
            if item.entry.name not in results:
                continue
            try:
                found[item.entry.name] = self.finish(item, results[item.entry.name])
            except Exception as error:
                failures[item.entry.name] = self.explain(item.entry, error)

    def invert_each(self, batch: Sequence[ReadySite], failures: dict[str, str]) -> dict[str, InversionResult]:
        """Invert the sites of a batch together, in halves where that ends in an error, and return the results by site."""
        try:
            results = self.invert([item.record for item in batch])
        except Exception as error:
            if len(batch) == 1:
                failures[batch[0].entry.name] = self.explain(batch[0].entry, error)
                return {}
            middle = len(batch) // 2
            return self.invert_each(batch[:middle], failures) | self.invert_each(batch[middle:], failures)
        return {item.entry.name: result for item, result in zip(batch, results, strict=True)}

    def invert(self, records: Sequence[Record]) -> list[InversionResult]:
        """Invert a batch, each site as if it were alone.

        Raises:
            KeyboardInterrupt: If the user stopped it.
        """
        config, registry = self.config, self.registry
        with without_banners():
            results = invert_sites(
                self.surrogate,
                self.table,
                records,
                config.inversion,
                terms=registry.guard_terms(config.loss_terms),
                transform=registry.transforms[config.constraints.transform],
                solver=registry.solvers.get(config.inversion.solver),
                trainer=self._trainer(),
                callbacks=registry.callbacks(self.run_info),
            )
        gc.collect()  # module and Trainer know each other, and would keep the batch until somebody looks
        if any(result.status is InversionStatus.INTERRUPTED for result in results):
            raise KeyboardInterrupt
        return results

    def _trainer(self) -> dict[str, Any]:
        """Return the user's arguments of the Trainer for one batch, with callbacks that know nothing of the batches before."""
        given = self.config.trainer
        devices = given.get("devices")
        one = {} if isinstance(devices, list) else {"devices": 1}  # a list names the one device
        return {**given, **_IN_A_BATCH, **one, "callbacks": copy.deepcopy(given.get("callbacks"))}

    def finish(self, item: ReadySite, result: InversionResult) -> RunTables:
        """Re-simulate, score, quantify the uncertainty, and write the site's folder where folders are asked for."""
        problem = self._problem([item.record])
        inputs = Inputs(self.surrogate, self.table, item.site, item.sealed, item.record, problem, item.verdicts)
        tables = quantify_site(self.config, inputs, result, tabulate_site(self.config, self.registry, inputs, result))
        return self._write_folder(item, tables) if self.config.scale.site_folders else tables

    def _write_folder(self, item: ReadySite, tables: RunTables) -> RunTables:
        folder = self.store.folder / "sites" / item.entry.name
        folder.mkdir(parents=True, exist_ok=True)
        data = item.entry.data
        files = {"data": data.path, "drivers": data.drivers_path}
        provenance = model_provenance(self.config, self.registry, self.surrogate, self.kernel, files)
        write_results(folder, tables, config_text=self._config_text(item, folder), provenance=provenance)
        return draw_report(folder, self.registry, tables)

    def _config_text(self, item: ReadySite, folder: Path) -> str:
        """Return the config that fits this site alone, for its folder."""
        data, values = item.entry.data, self.config.values
        own = {key: getattr(data, key) for key in ("path", "drivers_path", "site", "latitude", "query", "years")}
        read = {key: value for key, value in asdict(data).items() if key in ("observed", "quality")}
        alone = {**values.get("data", {}), **own, **read, "sites": None, "priors": None}
        table = {} if item.record.prior is None else {"parameters": str(folder / "parameters.csv")}  # it has the site's priors
        return config_text({**values, "data": alone, **table}, folder)

    @cached_property
    def kernel(self) -> str:
        """What runs the surrogate on this machine."""
        inversion = self.config.inversion
        forcing = torch.zeros(1, self.surrogate.spec.fixed_length or _FEW_DAYS, len(self.surrogate.spec.drivers))
        return Simulator(self.surrogate, forcing, inversion.kernel, inversion.arithmetic, inversion.kernel_threads).kernel

    @staticmethod
    def rows(entries: Sequence[SiteEntry], found: Mapping[str, RunTables], failures: Mapping[str, str]) -> dict[str, pd.DataFrame]:
        """Return the rows of sites in the three tables, in the order of the catalogue."""
        done = [(entry, found[entry.name]) for entry in entries if entry.name in found]
        sites = [
            site_row(entry, found[entry.name]) if entry.name in found else failed_row(entry, failures[entry.name])
            for entry in entries
        ]
        metrics = [row for entry, tables in done for row in metric_rows(entry, tables)]
        return to_tables(sites, metrics, [parameter_rows(entry, tables) for entry, tables in done])

    def explain(self, entry: SiteEntry, error: Exception) -> str:
        """Return an error as a reason; the traceback of one that is ours is kept in a file."""
        if isinstance(error, LitInvertError):
            return str(error)
        folder = self.store.folder / "errors"
        folder.mkdir(exist_ok=True)
        write_text(folder / f"{entry.name}.txt", "".join(traceback.format_exception(error)))
        return f"{type(error).__name__}: {error} (see errors/{entry.name}.txt)"
