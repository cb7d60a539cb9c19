"""A run over sites that share parameters: one fit of all, and what sharing costs and is worth.

Beside the tables of every run over many sites it leaves `shared.csv`, the shared values; `skill.csv`, each site's error fitted
alone and together; and, where it was asked for, `unseen.csv`, each site's error with parameters of a fit that had not seen it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from ..assembly import build_problem
from ..atomic import write_text
from ..attributes import LearnedParameters, learn_parameters
from ..catalogue import SiteEntry
from ..driving import METRICS
from ..errors import ConfigError
from ..fit import FitConfig, is_first_process, run_logger
from ..joint import JointResult, invert_jointly, shared_values
from ..metrics import rmse
from ..outcomes import Ending, results_at
from ..plugins import Registry
from ..results import InversionResult, InversionStatus, RunTables, to_csv
from ..results.summary import ROLES
from ..sharing import leave_one_out
from .chunk import ChunkFitter, ReadySite
from .store import Store, chunk_name

#: Columns of unseen.csv of a network of attributes, and the runs that they are of.
_UNSEEN = {"prior": "prior", "unseen": "optimum"}


def fit_together(config: FitConfig, registry: Registry, entries: Sequence[SiteEntry], folder: Path) -> pd.DataFrame:
    """Fit all sites of a catalogue at once, and write every table.

    Args:
        config: The config, whose block `sharing` or `attributes` ties the sites together.
        registry: What the plugins registered.
        entries: The sites.
        folder: Folder of the run.

    Returns:
        The table of sites; empty in the second and further processes of a run on several devices, which write nothing.

    Raises:
        ConfigError: If fewer than two sites can be read, or the blocks of the config do not go together.
    """
    fitter, failures = ChunkFitter(config, registry, folder), dict[str, str]()
    ready = fitter.read(entries, failures)
    _check_sites(config, fitter, ready, failures)
    run = _Together(config, fitter, ready)
    results = run.learn() if config.attributes.columns else run.share()
    if not is_first_process():
        return pd.DataFrame()
    found = {}
    for item, result in zip(ready, results, strict=True):
        try:
            found[item.entry.name] = fitter.finish(item, result)
        except Exception as error:
            failures[item.entry.name] = fitter.explain(item.entry, error)
    store = Store(folder)
    store.write(chunk_name(0, [entry.name for entry in entries]), fitter.rows(entries, found, failures))
    sites = store.join(config.scale.parquet, [entry.name for entry in entries])
    for name, table in run.tables():  # what took longest is safe by now
        write_text(folder / f"{name}.csv", to_csv(table))
    if any(result.status is InversionStatus.INTERRUPTED for result in results):
        raise KeyboardInterrupt
    for name, table in run.comparisons(found):
        write_text(folder / f"{name}.csv", to_csv(table))
    return sites


class _Together:
    """One joint fit under way."""

    def __init__(self, config: FitConfig, fitter: ChunkFitter, ready: Sequence[ReadySite]) -> None:
        self.config, self.fitter, self.ready = config, fitter, ready
        self.joint: JointResult | None = None
        self.learned: LearnedParameters | None = None

    def share(self) -> list[InversionResult]:
        """Fit the sites and what they share."""
        config, registry, fitter = self.config, self.fitter.registry, self.fitter
        groups = [item.entry.label(config.sharing.group_by) for item in self.ready]
        result = invert_jointly(
            fitter.surrogate,
            fitter.table,
            [item.record for item in self.ready],
            groups,
            config.inversion,
            config.sharing,
            terms=registry.guard_terms(config.loss_terms),
            transform=registry.transforms[config.constraints.transform],
            solver=registry.solvers.get(config.inversion.solver),
            trainer=config.trainer,
            logger=run_logger(config, fitter.store.folder),
            callbacks=registry.callbacks(fitter.run_info),
            checkpoints=fitter.store.folder / "checkpoints",
        )
        self.joint = result
        return [] if result is None else result.sites

    def learn(self) -> list[InversionResult]:
        """Learn the sites' parameters from their attributes; some sites are held out, and say when to stop."""
        config, registry, fitter = self.config, self.fitter.registry, self.fitter
        records = [item.record for item in self.ready]
        terms, transform = registry.guard_terms(config.loss_terms), registry.transforms[config.constraints.transform]
        problem = build_problem(fitter.surrogate, fitter.table, records, config.inversion, terms, transform)
        attributes = attribute_table([item.entry for item in self.ready], config.attributes.columns)
        target = config.inversion.target_variable
        learned = learn_parameters(
            problem, torch.tensor(attributes.to_numpy()), config.attributes, target=target, trainer=config.trainer
        )
        self.learned = learned
        held = set(learned.held_out.tolist())
        tables = [fitter.table if r.prior is None else fitter.table.with_prior(r.prior.double()) for r in records]
        history = learned.history.rename(columns={"epoch": "iteration", "loss": "loss/total", "watched": "select/rmse"})
        epochs = len(history)
        status = InversionStatus.STEP_LIMIT if epochs == config.attributes.epochs else InversionStatus.EARLY_STOPPED
        status = InversionStatus.INTERRUPTED if learned.interrupted else status
        endings = [Ending(status, _learnt(epochs, i in held), history, epochs, METRICS["loss"], 0.0) for i in range(len(records))]
        return results_at(problem, learned.theta, tables, endings, target, config.inversion.clip_raw_params.enabled)

    def tables(self) -> Iterator[tuple[str, pd.DataFrame]]:
        """Yield what the fit found beside the sites, by the name of its file."""
        if self.joint is not None:
            yield "shared", shared_values(self.joint)

    def comparisons(self, found: Mapping[str, RunTables]) -> Iterator[tuple[str, pd.DataFrame]]:
        """Yield what further fits say of this one, by the names of the files."""
        if self.learned is not None and len(self.learned.held_out):
            held = {self.ready[i].entry.name for i in self.learned.held_out.tolist()}
            rows = [_unseen_row(name, site) for name, site in found.items() if name in held]
            yield "unseen", pd.DataFrame(rows, columns=["site", "n", *_UNSEEN])
        if self.config.sharing.compare:
            yield "skill", self._skill(found)
        if self.joint is not None and self.config.sharing.leave_one_out:
            yield "unseen", self._left_out(self.joint, found)

    def _skill(self, found: Mapping[str, RunTables]) -> pd.DataFrame:
        """Fit each site alone, and compare its error with that of the joint fit on the days of each role."""
        alone: dict[str, InversionResult] = {}
        for batch in self.fitter.batches(self.ready):
            alone |= self.fitter.invert_each(batch, {})
        rows = [row for name, tables in found.items() if name in alone for row in _skill_rows(name, tables, alone[name])]
        return pd.DataFrame(rows, columns=["site", "role", "n", "prior", "alone", "together", "loss"])

    def _left_out(self, joint: JointResult, found: Mapping[str, RunTables]) -> pd.DataFrame:
        target = self.config.inversion.target_variable
        observed = torch.full_like(joint.problem.observed, torch.nan)
        place = joint.problem.surrogate.spec.output_names.index(target)
        for row, item in zip(observed, self.ready, strict=True):
            if item.entry.name not in found:
                continue
            fluxes = found[item.entry.name].fluxes
            seen = np.where(fluxes[f"{target}_mask"], fluxes[f"{target}_observed"], np.nan)
            row[: len(seen), place] = torch.as_tensor(seen)
        mask = observed.isfinite() & joint.problem.days[..., None]
        bounded = self.config.inversion.clip_raw_params.enabled
        table = leave_one_out(joint.problem, joint.plan, joint.fitted, observed, mask, target, is_bounded=bounded)
        table.insert(0, "site", [item.entry.name for item in self.ready])
        return table


def attribute_table(entries: Sequence[SiteEntry], columns: Sequence[str]) -> pd.DataFrame:
    """Return attributes of sites as numbers, (S, A): a column of words becomes one column of zeros and ones for each word.

    Raises:
        ConfigError: If a site has no value in one of the columns.
    """
    parts: list[pd.DataFrame] = []
    for column in columns:
        numbers = pd.Series([entry.number(column) for entry in entries])
        labels = pd.Series([entry.label(column) for entry in entries])
        if numbers.notna().all():
            parts.append(numbers.to_frame(column))
        elif numbers.isna().all() and (labels != "").all():
            parts.append(pd.get_dummies(labels, prefix=column, dtype=float))
        else:
            lacking = numbers.isna() if numbers.notna().any() else labels == ""
            first = entries[int(lacking.to_numpy().argmax())]
            raise ConfigError(
                f"`attributes.columns`: expected a {'number' if numbers.notna().any() else 'value'} in {column!r} for every site, "
                f"found {first.label(column)!r} for site {first.name!r}, and such for {int(lacking.sum())} in all. Mend the column."
            )
    return pd.concat(parts, axis=1)


def check_together(config: FitConfig) -> None:
    """Refuse blocks of the config that do not go together.

    Raises:
        ConfigError: If there are any.
    """
    if config.scale.engine != "local":
        raise ConfigError("`scale.engine` is 'ray', but sites that share parameters are one fit. Use `trainer.strategy: ddp`.")
    if config.uncertainty.method != "none":
        raise ConfigError("`uncertainty.method`: sites that share parameters have one posterior together. Use none, or no sharing.")
    if config.ckpt_path is not None:
        raise ConfigError("`--ckpt_path`: a fit of sites that share parameters starts anew. Leave it out.")
    if config.sharing.shares and config.attributes.columns:
        raise ConfigError("`sharing` and `attributes.columns` are two ways to tie sites together. Keep one.")


def _check_sites(config: FitConfig, fitter: ChunkFitter, ready: Sequence[ReadySite], failures: Mapping[str, str]) -> None:
    if len(ready) < 2:
        reason = next(iter(failures.values()), "the catalogue names one site.")
        raise ConfigError(f"`sharing`: {len(ready)} sites can be read, expected two or more. {reason}")
    if len({item.record.select is None for item in ready}) > 1:
        raise ConfigError(
            "`sharing`: some sites have `select` days and others have none. Choose a split that gives all of them some."
        )
    of_length = {item.record.days: item.record for item in ready}
    longest = of_length.pop(max(of_length))
    changed = [days for days, record in of_length.items() if not fitter.pads_exactly(record, longest)]
    if changed:
        raise ConfigError(
            f"`sharing`: the surrogate looks ahead, so records of {changed[0]} and {longest.days} days cannot be fitted "
            "together. Choose years of the same length by the catalogue's column `years`."
        )
    unnamed = [item.entry.name for item in ready if not item.entry.label(config.sharing.group_by)]
    needs_group = {config.sharing.default, *config.sharing.parameters.values()} & {"group", "hierarchical"}
    if needs_group and unnamed:
        raise ConfigError(f"`sharing.group_by`: the catalogue has no {config.sharing.group_by!r} for site {unnamed[0]!r}. Fill it.")


def _learnt(epochs: int, is_held_out: bool) -> str:
    role = "held out: its parameters follow from its attributes alone" if is_held_out else "one of those that it learnt from"
    return f"a network of attributes learnt for {epochs} passes; this site was {role}"


def _skill_rows(name: str, tables: RunTables, alone: InversionResult) -> list[dict[str, object]]:
    """Return a site's errors by role [gC m-2 d-1]; `loss` is what sharing costs it."""
    target = tables.result.target
    place = [str(column) for column in tables.fluxes if str(column).endswith("_prior")].index(f"{target}_prior")
    runs = tables.fluxes[["role", f"{target}_mask", f"{target}_observed"]].set_axis(["role", "is_seen", "observed"], axis=1)
    runs = runs.assign(
        prior=tables.result.simulated_prior[:, place],
        alone=alone.simulated_optimum[:, place],
        together=tables.result.simulated_optimum[:, place],
    )
    rows: list[dict[str, object]] = []
    for role in ROLES:
        days = runs[(runs["role"] == role) & runs["is_seen"]]
        if len(days):
            errors = {run: rmse(days[run], days["observed"]) for run in ("prior", "alone", "together")}
            rows.append({"site": name, "role": role, "n": len(days), **errors, "loss": errors["together"] - errors["alone"]})
    return rows


def _unseen_row(name: str, tables: RunTables) -> dict[str, object]:
    """Return the errors, over all its observed days, of a site that was held out [gC m-2 d-1]."""
    fluxes, target = tables.fluxes, tables.result.target
    days = fluxes[fluxes[f"{target}_mask"] & fluxes["role"].isin(ROLES)]
    errors = {run: rmse(days[f"{target}_{column}"], days[f"{target}_observed"]) for run, column in _UNSEEN.items()}
    return {"site": name, "n": len(days), **errors}
