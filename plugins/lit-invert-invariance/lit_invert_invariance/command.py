"""`lit-invert check-surrogate --config X`: validate the surrogate of a fit at its sites, print and keep what was found.

The exit code is 0 where nothing failed and 3 where the design needs another look; 2 stays what it is everywhere, a mistake of the
user's.
"""

from __future__ import annotations

import os
import shlex
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from lightning.pytorch import seed_everything
from rich.console import Console
from rich.table import Table
from rich.text import Text

from lit_invert import Check, FitConfig, Inputs, load_plugins, parse_fit, read_every_site
from lit_invert.atomic import write_text
from lit_invert.cli.tables import new_table
from lit_invert.config import config_text
from lit_invert.driving import computing
from lit_invert.fit import describe_run, model_provenance
from lit_invert.plugins import Registry
from lit_invert.results import open_run_folder, to_json, write_status
from lit_invert.trust import Trust

from .baseline import build_baseline
from .flow import Finding, choose_checks, conclude, run_checks
from .page import write_page
from .settings import settings_of
from .store import FOLDER, write_validation

PASSED, FAILED = 0, 3
_COMMAND = "lit-invert check-surrogate"
_COLOURS = {"pass": "green", "advice": "yellow", "fail": "red"}


def check_surrogate(arguments: list[str], trust: Trust) -> int:
    """Validate the surrogate that a config names.

    Args:
        arguments: Those of a fit: `--config FILE`, and dotted overrides.
        trust: What the user allows beyond the import policy.

    Returns:
        0 where nothing failed, 3 where the design needs another look.

    Raises:
        LitInvertError: If an input is wrong; nothing is written then.
    """
    start = time.perf_counter()
    registry = load_plugins()
    # what a fit asks of its start is not what is asked here, and a surrogate that fails it should still be looked at
    config = replace(parse_fit(arguments, registry, trust, command=_COMMAND), checks="skip")
    config = replace(config, command=shlex.join([*_COMMAND.split(), *arguments]))
    seed_everything(config.seed_everything, verbose=False)
    checks = choose_checks(registry.checks, settings_of(describe_run(config, registry)))
    sites = list(read_every_site(config, registry))
    folder = open_run_folder(Path(os.path.normpath(config.logs), config.name), FOLDER)
    console = Console(highlight=False, markup=False)
    try:
        with computing(config.inversion.cpu_threads):
            validation = _validate(config, registry, sites, checks, folder, console)
    except KeyboardInterrupt:
        write_status(folder, "interrupted", "The validation was interrupted; nothing of it counts.")
        raise
    except Exception as error:
        write_status(folder, "failed", str(error))
        raise
    passed = validation["decision"]["passed"]
    write_status(folder, "finished", validation["decision"]["sentence"])
    show_validation(validation, console)
    console.print(f"{time.perf_counter() - start:.0f} s. Report: {folder / 'report.html'}", soft_wrap=True)
    return PASSED if passed else FAILED


def _validate(
    config: FitConfig, registry: Registry, sites: Sequence[Inputs], checks: Sequence[Check], folder: Path, console: Console
) -> dict[str, Any]:
    """Ask, conclude, and write everything but the status."""
    run = describe_run(config, registry, folder, "check-surrogate")
    findings = run_checks(sites, checks, run, lambda finding: _show_progress(finding, console))
    validation = conclude(findings, sites[0], settings_of(run))
    write_text(folder / "config.yaml", config_text(config.values, folder))
    write_text(folder / "provenance.json", to_json(_provenance(config, registry, sites[0])))
    baselines = {inputs.site.name: build_baseline(inputs.problem, inputs.site) for inputs in sites}
    write_text(folder / "baseline.json", to_json({"sites": baselines, "numbers": validation["numbers"]}))
    write_validation(folder, validation)
    write_page(folder, validation)
    return validation


def _provenance(config: FitConfig, registry: Registry, inputs: Inputs) -> Mapping[str, Any]:
    files = {"data": config.data.path, "drivers": config.data.drivers_path, "catalogue": config.data.sites}
    named = {what: path for what, path in files.items() if path is None or Path(path).is_file()}
    return model_provenance(config, registry, inputs.surrogate, inputs.problem.simulator.kernel, named)


def _show_progress(finding: Finding, console: Console) -> None:
    verdict = finding.verdict
    console.print(
        Text.assemble(
            f"{finding.site}: {verdict.check} ", (verdict.outcome, _COLOURS[verdict.outcome]), f" ({finding.seconds:.1f} s)"
        )
    )


def show_validation(validation: Mapping[str, Any], console: Console) -> None:
    """Print every verdict, what was found where it is no plain pass, and the decision beside the literal booleans."""
    console.print(_verdicts(validation))
    for verdict in validation["verdicts"]:
        if verdict["outcome"] != "pass":
            where = f"{verdict['site']}, " if len(validation["sites"]) > 1 and verdict["site"] else ""
            console.print(f"{where}{verdict['check']}: {verdict['message']}", style=_COLOURS[verdict["outcome"]], soft_wrap=True)
    literal = ", ".join(f"{name} {str(holds).lower()}" for name, holds in validation["literal"].items())
    console.print(f"The specification's literal booleans: {literal}.", soft_wrap=True)
    decision = validation["decision"]
    console.print(decision["sentence"], style="bold green" if decision["passed"] else "bold red", soft_wrap=True)


def _verdicts(validation: Mapping[str, Any]) -> Table:
    many = len(validation["sites"]) > 1
    table = new_table(f"Validation of {validation['surrogate']['name']}", *(["site"] if many else []), "check")
    for column in ("value", "threshold"):
        table.add_column(column, justify="right")
    table.add_column("verdict")
    for verdict in validation["verdicts"]:
        site = [Text(verdict["site"] or "all")] if many else []
        numbers = [Text(_number(verdict[key])) for key in ("value", "threshold")]
        table.add_row(*site, Text(verdict["check"]), *numbers, Text(verdict["outcome"], _COLOURS[verdict["outcome"]]))
    return table


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"
