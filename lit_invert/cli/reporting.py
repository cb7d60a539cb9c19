"""The commands that make pages of finished fits: report, compare."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from ..plugins import load_plugins
from ..report import save_figures, write_comparison, write_report, write_sites_report
from ..report.comparison import SCORE_LABELS, comparison_path, run_names, score_rows
from ..report.style import flux_name
from ..results import Run, is_sites_run, read_run
from . import OK, OneLineParser, Options
from .tables import add_row, new_table


def report(argv: list[str], options: Options) -> int:
    """Write figures, as PNG and PDF, and report again; of one site, or of a run over many."""
    parser = OneLineParser("lit-invert report")
    parser.add_argument("run", type=Path, help="folder of a finished fit, logs/<name>/version_N")
    folder = parser.parse_args(argv).run
    if is_sites_run(folder):
        print(f"Report: {write_sites_report(folder, pdf=True)}")
        return OK
    save_figures(read_run(folder).folder, pdf=True)
    print(f"Report: {write_report(folder, list(load_plugins().report_sections.values()))}")
    return OK


def compare(argv: list[str], options: Options) -> int:
    """Show several runs side by side, in the terminal and on a page."""
    parser = OneLineParser("lit-invert compare")
    parser.add_argument("runs", type=Path, nargs="+", help="folders of two or more finished fits, logs/<name>/version_N")
    parser.add_argument("--out", type=Path, help="page to write (default: logs/compare_<names>.html)")
    arguments = parser.parse_args(argv)
    runs = [read_run(path) for path in arguments.runs]
    path = write_comparison(runs, arguments.out or comparison_path(runs))
    _show(runs)
    print(f"Comparison: {path}")
    return OK


def _show(runs: Sequence[Run]) -> None:
    """Print the scores side by side."""
    console, names = Console(highlight=False, markup=False), run_names(runs)
    sites = list(dict.fromkeys(run.metrics["site"] for run in runs))
    table = new_table(f"{flux_name(runs[0].metrics['target'])} at {', '.join(sites)} [gC m-2 d-1]", "days", "run")
    for label in SCORE_LABELS:
        table.add_column(label, justify="right")
    for role, place, *cells in score_rows(runs):
        add_row(table, role, str(int(place) + 1), *cells)
    for number, name in enumerate(names, 1):
        console.print(f"run {number}: {name}", soft_wrap=True)
    console.print(table)
    if len(sites) > 1:
        console.print("The runs are of different sites: their scores are of different days.", style="yellow", soft_wrap=True)
