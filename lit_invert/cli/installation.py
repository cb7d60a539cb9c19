"""The commands about the installation. `doctor` must run where torch does not, so nothing heavy is imported with this module."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console

from ..doctor import Finding, diagnose
from . import FAILED, OK, OneLineParser, Options
from .tables import add_row, new_table


def doctor(argv: list[str], options: Options) -> int:
    """Look for faults of the installation."""
    OneLineParser("lit-invert doctor").parse_args(argv)
    findings = diagnose()
    show_diagnosis(findings)
    return OK if all(finding.is_good for finding in findings) else FAILED


def show_diagnosis(findings: Sequence[Finding]) -> None:
    """Print what the doctor found; bad findings say what to do."""
    console = Console(highlight=False)
    for finding in findings:
        mark = "[green]ok [/]" if finding.is_good else "[red]bad[/]"
        console.print(f"{mark} {finding.what}: ", end="")
        console.print(finding.found, markup=False)
        if finding.remedy:
            console.print(f"    {finding.remedy}", style="bold", markup=False)


def plugins(argv: list[str], options: Options) -> int:
    """List the plugins and what they register."""
    from ..plugins import load_plugins

    OneLineParser("lit-invert plugins").parse_args(argv)
    registry = load_plugins()
    console = Console(highlight=False)
    table = new_table("plugins", "name", "distribution", "hooks")
    for plugin in registry.plugins:
        add_row(table, plugin.name, plugin.label, ", ".join(plugin.hooks))
    console.print(table)
    table = new_table("registered", "what", "names")
    for kind, names in {
        "loss terms": registry.loss_terms,
        "transforms": registry.transforms,
        "surrogate loaders": registry.surrogate_loaders,
        "process models": registry.process_models,
        "solvers": registry.solvers,
        "config sections": registry.config_sections,
        "data readers": registry.data_readers,
        "checks": registry.checks,
        "commands": registry.commands,
        "report sections": registry.report_sections,
    }.items():
        add_row(table, kind, ", ".join(names))
    console.print(table)
    return OK
