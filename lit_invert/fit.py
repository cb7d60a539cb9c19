"""A fit from files to a folder: read and check all inputs, invert, re-simulate, write, report.

Nothing is written before every input has been read and checked, so a mistake in the config leaves no trace. The numbers are the
business of :mod:`lit_invert.inversion`.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal
from zipfile import is_zipfile

import numpy as np
import torch
from lightning.pytorch import seed_everything
from lightning.pytorch.loggers import Logger, TensorBoardLogger
from numpy.typing import NDArray

from .assembly import Record, build_problem, usable_days
from .attributes import AttributeSettings
from .callbacks.tensorboard import log_outcome
from .driving import choose_monitor, computing
from .errors import ConfigError, LitInvertError, ResultsError, suggest
from .extensions import RunInfo, Verdict
from .external import ExternalModel, ExternalSettings
from .inversion import invert_sites
from .losses import LossTerm
from .module import check_checkpoint
from .parameters import ParameterTable, load_parameter_table
from .plugins import Registry
from .posterior.quantify import check_uncertainty, quantify
from .posterior.support import HOLDOUT, read_members, support
from .problem import InversionProblem
from .report import nep_figure, save_figures, write_report
from .resimulation import match_names, process_model, resimulate
from .results import (
    InversionResult,
    InversionStatus,
    RunTables,
    collect_provenance,
    open_run_folder,
    tabulate,
    write_results,
    write_status,
    write_tables,
)
from .settings import InversionSettings, ScaleSettings, UncertaintySettings
from .sharing import SharingSettings
from .sites import DataSettings, SealedObservations, Site, read_site
from .solvers import AUTO
from .start_points import read_starts
from .surrogates.base import FrozenSurrogate, file_hash
from .surrogates.folders import spec_file
from .surrogates.loaders import load_surrogate
from .trust import Trust

#: Tells the other processes of a multi-device run which folder the first one has opened.
_FOLDER_VARIABLE = "LIT_INVERT_RUN_FOLDER"
#: How the advice begins that says why there is no posterior.
UNQUANTIFIED = "The uncertainty was not quantified:"
#: How the advice begins that says why there is no report.
UNDRAWN = "The report could not be drawn"


@dataclass
class SurrogateSettings:
    """Which surrogate is inverted."""

    spec: str
    """Path of the surrogate's spec (JSON), whose weights lie beside it, or of a folder that describes itself."""


@dataclass
class ConstraintSettings:
    """How theta and the physical parameters are tied together."""

    transform: str = "scaled"
    """`scaled` (clipping keeps the bounds), `sigmoid`, `softplus`, `log`, or a plugin's."""


@dataclass
class FitConfig:
    """Everything that one fit needs, parsed and checked."""

    surrogate: SurrogateSettings
    parameters: str
    """Path of the table of static parameters (CSV)."""
    data: DataSettings
    inversion: InversionSettings = field(default_factory=InversionSettings)
    loss_terms: Sequence[LossTerm] = ()
    """Loss terms beside misfit and prior, by class name or class path; one named like ours takes its place."""
    constraints: ConstraintSettings = field(default_factory=ConstraintSettings)
    trainer: dict[str, Any] = field(default_factory=dict)
    """Arguments of Lightning's Trainer, never overruled."""
    logger: Logger | bool | None = None
    """None for TensorBoard in the run's folder; False for none."""
    name: str = "fit"
    """Name of the run; its folder is logs/<name>/version_N."""
    logs: str = "logs"
    """Folder of all runs."""
    sharing: SharingSettings = field(default_factory=SharingSettings)
    """Which parameters the sites of `data.sites` share."""
    attributes: AttributeSettings = field(default_factory=AttributeSettings)
    """How a network learns parameters from attributes of the sites, where it names columns of the catalogue."""
    scale: ScaleSettings = field(default_factory=ScaleSettings)
    """How the many sites of `data.sites` are worked through."""
    uncertainty: UncertaintySettings = field(default_factory=UncertaintySettings)
    """What is said of the parameters beyond their optimum."""
    seed_everything: int = 0
    """Seed of all random numbers."""
    checks: Literal["required", "warn", "skip"] = "required"
    """Whether a failed check stops the fit, is only reported, or no check is made."""
    resimulate: str | ExternalSettings | None = None
    """Process model to run at the optimum: a name, e.g. `simcycle`; a program's `command`, `template` and `outputs`; or null."""
    ckpt_path: str | None = None
    """Checkpoint to go on from: `last`, `best`, or a path."""
    sections: dict[str, Any] = field(default_factory=dict)
    """Blocks of plugins, by key."""
    trust: Trust = field(default_factory=Trust)
    """What the command line allows beyond the import policy."""
    text: str = ""
    """The resolved config as YAML, stored with the results."""
    values: dict[str, Any] = field(default_factory=dict)
    """The same as plain values, with absolute paths."""
    command: str = "lit-invert fit"
    """The command line, stored with the results."""


@dataclass(frozen=True)
class Inputs:
    """What a fit reads before it starts."""

    surrogate: FrozenSurrogate
    table: ParameterTable
    site: Site
    sealed: SealedObservations
    record: Record
    """The site's record as the fit takes it."""
    problem: InversionProblem
    verdicts: tuple[Verdict, ...]


@dataclass(frozen=True)
class FitOutcome:
    """What a fit leaves."""

    folder: Path
    result: InversionResult
    metrics: dict[str, Any]
    verdicts: tuple[Verdict, ...]


def read_model(config: FitConfig, registry: Registry) -> tuple[FrozenSurrogate, ParameterTable]:
    """Read what all sites of a fit share, the surrogate and the table of parameters, and check what the config names.

    Raises:
        LitInvertError: If any of it is missing, malformed or not registered.
    """
    surrogate = load_surrogate(Path(config.surrogate.spec), registry.surrogate_loaders, config.trust)
    read_members(_held_out(config, registry), surrogate.spec)  # a fault is told before the fit, not after it
    names = [v.name for v in surrogate.spec.statics]
    table = load_parameter_table(config.parameters).ordered_as(names, config.parameters)
    for name, known, key in (
        (config.constraints.transform, registry.transforms, "constraints.transform"),
        (config.inversion.solver, {AUTO, *registry.solvers}, "inversion.solver"),
        (config.resimulate, registry.process_models, "resimulate"),
    ):
        if isinstance(name, str) and name.startswith("{"):
            raise ConfigError(f"`{key}`: expected a name or a block of keys, found {name!r:.80}. Check keys and brackets.")
        if isinstance(name, str) and name not in known:
            raise ConfigError(f"`{key}`: {name!r} is not registered.{suggest(name, known)}")
    check_uncertainty(config.uncertainty, table)
    return surrogate, table


def _held_out(config: FitConfig, registry: Registry) -> Path:
    """Return where members of the surrogate's ensemble that it was not trained on may lie."""
    return spec_file(Path(config.surrogate.spec), registry.surrogate_loaders).parent / HOLDOUT


def read_inputs(config: FitConfig, registry: Registry) -> Inputs:
    """Read and check all inputs of a fit; write nothing.

    Raises:
        LitInvertError: If any of them is missing, malformed, or does not fit the others.
    """
    surrogate, table = read_model(config, registry)
    return read_site_inputs(config, registry, surrogate, table)


def read_site_inputs(
    config: FitConfig, registry: Registry, surrogate: FrozenSurrogate, table: ParameterTable, prior: torch.Tensor | None = None
) -> Inputs:
    """Read and check what one site brings; write nothing.

    Args:
        config: The config, with the site in its block `data`.
        registry: What the plugins registered.
        surrogate: The surrogate.
        table: The table of parameters.
        prior: The site's own prior, (P,), in the table's units.

    Raises:
        LitInvertError: If anything is missing, malformed, or does not fit the rest.
    """
    site, sealed = read_site(config.data, surrogate.spec, registry.data_readers, use_quality=config.inversion.use_mask)
    choose_monitor(config.inversion.early_stopping.monitor, site.select is not None)
    select = usable_days(site.select, surrogate.spec, config.inversion.target_variable)
    starts = read_starts(config.inversion, table)
    record = Record(torch.as_tensor(site.forcing), site.fit, select, prior, starts, site.name)
    problem = build_problem(
        surrogate,
        table,
        [record],
        config.inversion,
        registry.guard_terms(config.loss_terms),
        registry.transforms[config.constraints.transform],
    )
    registry.check_transform(problem.space)
    verdicts = _check(config, registry, problem, site)
    resimulate_site(config, registry, table, table.prior, site, surrogate, days=1)
    return Inputs(surrogate, table, site, sealed, record, problem, verdicts)


def fit(config: FitConfig, registry: Registry) -> FitOutcome | None:
    """Run one fit and leave a folder of results.

    Args:
        config: The parsed config.
        registry: What the plugins registered.

    Returns:
        The outcome; None in the second and further processes of a multi-device run, which write nothing.

    Raises:
        LitInvertError: If an input is wrong (nothing is written then), or a plugin fails during the run (the folder then says so).
    """
    seed_everything(config.seed_everything, verbose=False)
    inputs = read_inputs(config, registry)
    ckpt_path = _checkpoint(config)
    if ckpt_path is not None:
        check_checkpoint(torch.load(ckpt_path, map_location="cpu", weights_only=True), inputs.problem)
    folder = run_folder(config)
    run = describe_run(config, registry, folder)
    job = _Job(config, registry, inputs, run, folder, run_logger(config, folder))
    try:
        if is_first_process():
            registry.run_started(run)
        result = _invert(job, ckpt_path)
        if not is_first_process():
            return None
        metrics = _write(job, result)
    except Exception as error:
        if is_first_process():
            write_status(folder, InversionStatus.FAILED, str(error))
            registry.run_failed(run, error)
        raise
    registry.run_finished(run)
    return FitOutcome(folder, result, metrics, inputs.verdicts)


@dataclass(frozen=True)
class _Job:
    """One fit under way."""

    config: FitConfig
    registry: Registry
    inputs: Inputs
    run: RunInfo
    folder: Path
    logger: Logger | bool


def _invert(job: _Job, ckpt_path: Path | None) -> InversionResult:
    config, registry = job.config, job.registry
    (result,) = invert_sites(
        job.inputs.surrogate,
        job.inputs.table,
        [job.inputs.record],
        config.inversion,
        terms=registry.guard_terms(config.loss_terms),
        transform=registry.transforms[config.constraints.transform],
        solver=registry.solvers.get(config.inversion.solver),
        trainer=config.trainer,
        logger=job.logger,
        callbacks=registry.callbacks(job.run),
        checkpoints=job.folder / "checkpoints",
        ckpt_path=ckpt_path,
    )
    return result


def _write(job: _Job, result: InversionResult) -> dict[str, Any]:
    """Write everything that the fit leaves, and return its metrics."""
    config, inputs = job.config, job.inputs
    try:
        tables = tabulate_site(config, job.registry, inputs, result)
    except KeyboardInterrupt:  # of a process model that takes its time
        without = replace(config, resimulate=None)
        tables = tabulate_site(without, job.registry, inputs, result).advise(
            "The process model was interrupted. Run `lit-invert resimulate RUN` for its fluxes."
        )
    own = config.inversion.start_file
    files = {"data": config.data.path, "drivers": config.data.drivers_path, "starts": None if own is None else str(own)}
    kernel = inputs.problem.simulator.kernel
    provenance = model_provenance(config, job.registry, inputs.surrogate, kernel, files)
    write_tables(job.folder, tables, config_text=config.text, provenance=provenance)  # whatever ends the analysis, the fit stays
    try:
        tables = quantify_site(config, inputs, result, tables)
    except KeyboardInterrupt:
        tables = tables.advise(f"{UNQUANTIFIED} it was interrupted.")
    write_results(job.folder, tables, config_text=config.text, provenance=provenance)
    _show_outcome(config, job.logger, inputs.site, result, tables.metrics)
    return draw_report(job.folder, job.registry, tables).metrics


def draw_report(folder: Path, registry: Registry, tables: RunTables) -> RunTables:
    """Draw the figures and the report of a site; where that fails the results stay, and the returned tables' advice says why."""
    try:
        save_figures(folder)
        write_report(folder, list(registry.report_sections.values()))
    except Exception as error:
        mend = f"Once that is mended, run `lit-invert report {folder}`."
        return tables.advise(f"{UNDRAWN} ({_reason(error)}). {mend}")
    return tables


def tabulate_site(config: FitConfig, registry: Registry, inputs: Inputs, result: InversionResult) -> RunTables:
    """Lay out what a fit found of a site: re-simulated, and beside what the surrogate was trained for.

    Args:
        config: The config.
        registry: What the plugins registered.
        inputs: What the fit read of the site.
        result: What it found.
    """
    site, surrogate = inputs.site, inputs.surrogate
    again, failed = resimulate_result(config, registry, result, site, surrogate)
    near, unmeasured = None, []
    try:
        near = support(result, site, surrogate, _held_out(config, registry), again)
    except Exception as error:
        unmeasured = [f"How far the surrogate was trained for this optimum was not measured: {_reason(error)}"]
    tables = tabulate(result, site, inputs.sealed, surrogate.spec, again, (*inputs.verdicts, *failed), near)
    return tables.advise(*unmeasured)


def quantify_site(config: FitConfig, inputs: Inputs, result: InversionResult, tables: RunTables) -> RunTables:
    """Add what the posterior says; where it cannot be had, the fit keeps its results and says why.

    Args:
        config: The config.
        inputs: What the fit read of the site.
        result: What it found.
        tables: The same as tables.

    Raises:
        KeyboardInterrupt: If the user stopped it.
    """
    if config.uncertainty.method == "none":
        return tables
    if result.status is InversionStatus.INTERRUPTED:
        return tables.advise(f"{UNQUANTIFIED} the fit was interrupted.")
    problem, dates = inputs.problem, inputs.site.dates
    theta = problem.space.to_theta(result.optimum[None].to(problem.space.priors))
    try:
        with computing(config.inversion.cpu_threads):
            seed, weight = config.seed_everything, result.lambda_prior
            found = quantify(problem, theta, result.target, dates, config.uncertainty, seed, weight, result.starts)
        return found.add_to(tables)
    except Exception as error:
        return tables.advise(f"{UNQUANTIFIED} {_reason(error)}")


def _reason(error: Exception) -> str:
    """Return on one line why something failed; an error that is not ours with its type."""
    if isinstance(error, LitInvertError):
        return str(error)
    return " ".join(f"{type(error).__name__}: {error}".split())


def _show_outcome(config: FitConfig, logger: Logger | bool, site: Site, result: InversionResult, metrics: dict[str, Any]) -> None:
    """Put the series of the target and the settings with their scores into TensorBoard."""
    place = site.fit.names.index(result.target)
    parts = [site.fit] + ([site.select] if site.select is not None else [])
    mask = np.any([part.mask[:, place] for part in parts], axis=0)
    observed = np.nanmax([np.where(part.mask[:, place], part.values[:, place], -np.inf) for part in parts], axis=0)
    runs = {"prior": result.simulated_prior[:, place], "optimum": result.simulated_optimum[:, place]}
    figure = nep_figure(site.dates, site.roles, np.where(mask, observed, np.nan), mask, runs, result.target)
    settings = config.inversion
    hyperparameters = {
        "lr": settings.lr,
        "lambda_prior": result.lambda_prior,
        "solver": settings.solver,
        "transform": config.constraints.transform,
        "seed": config.seed_everything,
        **{f"weight/{term.name}": term.weight for term in config.loss_terms},
    }
    scores = {
        f"hp/{role}_rmse_{when}": fluxes[result.target][run]["rmse"]
        for role, fluxes in metrics["roles"].items()
        if result.target in fluxes
        for when, run in (("before", "prior"), ("after", "optimum"))
    }
    log_outcome(logger, figure, result.iterations, hyperparameters, scores)


def describe_run(config: FitConfig, registry: Registry, folder: Path | None = None, command: str = "fit") -> RunInfo:
    """Describe a run to plugins.

    Args:
        config: The config.
        registry: What the plugins registered.
        folder: Folder of its results; None as long as there is none.
        command: The command.
    """
    runs = Path(os.path.normpath(config.logs), config.name)
    many = config.data.sites is not None
    return RunInfo(command, config.name, folder, config.seed_everything, config.sections, registry.versions(), many, runs)


def _check(config: FitConfig, registry: Registry, problem: InversionProblem, site: Site) -> tuple[Verdict, ...]:
    """Ask every check that is meant for fits; a `fail` stops the fit where checks are required."""
    if config.checks == "skip":
        return ()
    run = describe_run(config, registry)
    asked = [check.ask(problem, site, run) for check in registry.checks.values() if check.when == "fit"]
    verdicts = tuple(verdict for verdict in asked if verdict is not None)
    failed = [v for v in verdicts if v.outcome == "fail"]
    if failed and config.checks == "required":
        reasons = " ".join(f"{v.check}: {v.message}" for v in failed)
        raise ConfigError(f"check failed before the fit: {reasons} Mend it, or go on with `checks: warn`.")
    return verdicts


def resimulate_site(
    config: FitConfig,
    registry: Registry,
    table: ParameterTable,
    physical: torch.Tensor,
    site: Site,
    surrogate: FrozenSurrogate,
    days: int | None = None,
) -> NDArray[np.float64] | None:
    """Run the process model that the config names at these parameters, (P,), over all days or the first few; None without one.

    A program is not started for a few days: that it and its template are there and fit is checked in any case.
    """
    if config.resimulate is None:
        return None
    model = process_model(config.resimulate, registry.process_models, table.names, site, registry.data_readers, config.trust)
    outputs = surrogate.spec.output_names
    if days is not None and isinstance(model, ExternalModel):
        match_names(model, table.names, site.drivers, outputs)
        return None
    return resimulate(model, table.names, physical, site.drivers, site.forcing[:days], outputs)


def resimulate_result(
    config: FitConfig, registry: Registry, result: InversionResult, site: Site, surrogate: FrozenSurrogate
) -> tuple[NDArray[np.float64] | None, tuple[Verdict, ...]]:
    """Run the process model at the optimum; one that fails is a failed check, and no reason to lose the fit."""
    try:
        return resimulate_site(config, registry, result.table, result.optimum, site, surrogate), ()
    except (LitInvertError, OSError) as error:
        message = f"{_reason(error)} Once it is mended, run `lit-invert resimulate RUN`."
        return None, (Verdict("resimulate", "fail", message),)


def is_first_process() -> bool:
    """Say whether this is the process of a multi-device run that writes; it is where there is but one."""
    return int(os.environ.get("LOCAL_RANK", 0)) == 0 and int(os.environ.get("NODE_RANK", 0)) == 0


def run_folder(config: FitConfig) -> Path:
    """Open this run's folder, or return the one that the first process of a multi-device run has opened."""
    if not is_first_process():  # under torchrun nobody could tell it; it writes nothing
        return Path(os.environ.get(_FOLDER_VARIABLE) or tempfile.mkdtemp(prefix="lit-invert-"))
    folder = open_run_folder(Path(os.path.normpath(config.logs)), config.name)
    os.environ[_FOLDER_VARIABLE] = str(folder)
    return folder


def run_logger(config: FitConfig, folder: Path) -> Logger | bool:
    """Return the logger that the config names, or TensorBoard in the run's folder."""
    if not is_first_process():
        return False
    if config.logger is not None and config.logger is not True:
        return config.logger
    version = int(folder.name.removeprefix("version_"))
    return TensorBoardLogger(folder.parent.parent, name=config.name, version=version, default_hp_metric=False)


def _checkpoint(config: FitConfig) -> Path | None:
    """Resolve `last` and `best` to the newest run of that name that has such a checkpoint.

    Raises:
        ResultsError: If there is none.
    """
    asked = config.ckpt_path
    if asked is None:
        return None
    if asked not in ("last", "best"):
        if not Path(asked).is_file():
            raise ResultsError(f"`--ckpt_path`: {asked} is not a file. Expected last, best, or the path of a checkpoint.")
        if not is_zipfile(asked):
            raise ResultsError(f"`--ckpt_path`: {asked} is not a whole checkpoint of Lightning. Start without it.")
        return Path(asked)
    runs = Path(os.path.normpath(config.logs), config.name)
    versions = sorted(runs.glob("version_*"), key=lambda p: int(p.name.split("_")[1]) if p.name.split("_")[1].isdigit() else -1)
    for folder in reversed(versions):
        candidate = folder / "checkpoints" / f"{asked}.ckpt"
        if candidate.is_file():
            return candidate
    raise ResultsError(f"`--ckpt_path {asked}`: no run in {runs} has a checkpoint {asked}.ckpt. Start without it.")


def model_provenance(
    config: FitConfig,
    registry: Registry,
    surrogate: FrozenSurrogate,
    kernel: str,
    files: Mapping[str, str | None],
) -> dict[str, Any]:
    """Say what numbers were made from and with.

    Args:
        config: The config.
        registry: What the plugins registered.
        surrogate: The surrogate.
        kernel: What ran it.
        files: Files of data by what they are, as far as there are any.
    """
    return collect_provenance(
        command=config.command,
        seed=config.seed_everything,
        sha256={
            "surrogate_weights": surrogate.sha256,
            "surrogate_spec": file_hash(spec_file(Path(config.surrogate.spec), registry.surrogate_loaders)),
            "parameters": file_hash(Path(config.parameters)),
            **{what: file_hash(Path(path)) for what, path in files.items() if path is not None},
            "config": hashlib.sha256(config.text.encode()).hexdigest(),
        },
        plugins=registry.versions(),
        kernel=kernel,
    )
