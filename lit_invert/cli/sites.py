"""What a run over many sites prints: how far it is, and what it reached."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from types import TracebackType

import pandas as pd
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from ..many import SiteCheck, SitesOutcome
from ..many.rows import BETWEEN
from ..many.run import Progress as SitesDone
from ..many.store import FAILED
from .tables import add_row, new_table, number

#: Failures, and pieces of advice, that are listed; all of them are in sites.csv.
_SHOWN = 8


class SitesProgress:
    """A bar over all sites of a run, on a terminal; silent elsewhere."""

    def __init__(self) -> None:
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
        console = Console(stderr=True)
        self._bar = Progress(*columns, console=console, disable=not console.is_terminal)
        self._task = self._bar.add_task("sites", total=None)

    def __enter__(self) -> SitesProgress:
        self._bar.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._bar.stop()

    def show(self, done: SitesDone) -> None:
        """Move the bar."""
        failures = f", {done.failed} failed" if done.failed else ""
        self._bar.update(self._task, total=done.total, completed=done.done, description=f"sites{failures}")


def show_sites(outcome: SitesOutcome) -> None:
    """Print how the error changed over all sites, what failed and why, and where everything is."""
    console = Console(highlight=False, markup=False)
    fitted = outcome.sites[outcome.sites["status"] != FAILED]
    if len(fitted):
        console.print(_changes(fitted))
    for advice, count in _advice(fitted).most_common(_SHOWN):
        console.print(f"{advice} ({count} of {len(fitted)} sites)", style="yellow", soft_wrap=True)
    for row in outcome.failed.head(_SHOWN).to_dict("records"):
        console.print(f"{row['site']} failed: {row['message']}", style="red", soft_wrap=True)
    if len(outcome.failed) > _SHOWN:
        console.print(f"... and {len(outcome.failed) - _SHOWN} more, see sites.csv.", style="red")
    console.print(f"{len(fitted)} of {len(outcome.sites)} sites fitted.", style="bold")
    if outcome.fault:
        console.print(outcome.fault, style="yellow", soft_wrap=True)
    console.print(f"Results: {outcome.folder}", soft_wrap=True)
    if outcome.report is not None:
        console.print(f"Report:  {outcome.report}", soft_wrap=True)


def _advice(fitted: pd.DataFrame) -> Counter[str]:
    """Count at how many sites each piece of advice was given."""
    cells = fitted["advice"].fillna("").astype(str)
    return Counter(advice for cell in cells for advice in cell.split(BETWEEN) if advice)


def show_checks(checks: Sequence[SiteCheck]) -> None:
    """Print days by role and findings of each site, and why a site cannot be read."""
    console = Console(highlight=False, markup=False)
    table = new_table("sites before the fit", "site")
    for column in ("fit", "select", "test"):
        table.add_column(column, justify="right")
    table.add_column("finding")
    for check in checks:
        days = [str(check.days.get(role, 0)) for role in ("fit", "select", "test")] if check.days else ["-"] * 3
        findings = [f"{verdict.check} {verdict.outcome}" for verdict in check.verdicts if verdict.outcome != "pass"]
        add_row(table, check.site, *days, (check.fault and "cannot be read") or ", ".join(findings) or "pass")
    console.print(table)
    for check in checks:
        for message in [check.fault, *(v.message for v in check.verdicts if v.outcome == "fail")]:
            if message:
                console.print(f"{check.site}: {message}", style="red", soft_wrap=True)


def _changes(fitted: pd.DataFrame) -> object:
    """Lay out the RMSE before and after, over the sites of each plant type."""
    held_out = pd.to_numeric(fitted["test_days"]) > 0
    title = f"NEP RMSE over sites [gC m-2 d-1], {'test' if held_out.all() else 'test or fit'} days"
    table = new_table(title, "plant type")
    for column in ("sites", "prior", "optimum", "change", "better"):
        table.add_column(column, justify="right")
    groups = [("all", fitted)]
    if fitted["plant_type"].nunique() > 1:
        groups += [(str(kind) or "-", group) for kind, group in fitted.groupby("plant_type")]
    for name, group in groups:
        scores = {key: pd.to_numeric(group[f"rmse_{key}"]).median() for key in ("prior", "optimum", "change_percent")}
        better = (pd.to_numeric(group["rmse_change_percent"]) < 0).mean()
        change = f"{number(scores['change_percent'], '+.1f')} %"
        add_row(table, name, str(len(group)), number(scores["prior"]), number(scores["optimum"]), change, f"{better:.0%}")
    table.caption, table.caption_justify = "medians over the sites; better: share of sites whose error fell", "left"
    return table
