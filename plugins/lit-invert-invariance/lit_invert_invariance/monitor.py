"""`lit-invert monitor --config X --data new.csv`: is what was validated still so for new days?

New weather is compared with that of the validation, driver by driver and season by season; the surrogate simulates it at the newest
optimum, and the numbers of the validation that cost no inversion are measured again. Each look is a row of
`logs/<name>/monitor/history.csv` and a point on its TensorBoard curves. The surrogate starts from its first state on the file's
first day, so fluxes want a file that begins where a fit's would; drifts want no such thing.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console
from rich.table import Table

from lit_invert import InversionProblem, Site, load_plugins, parse_fit
from lit_invert.cli import OneLineParser
from lit_invert.errors import ResultsError
from lit_invert.fit import describe_run
from lit_invert.trust import Trust

from .baseline import Baseline, load_baseline
from .history import append_row, show_row
from .look import Look, look, scores
from .new_data import choose_site, read_new_data
from .optimum import latest_parameters
from .store import fingerprint, latest_validation

QUIET, ALERTED = 0, 3
_COMMAND = "lit-invert monitor"


def monitor(arguments: list[str], trust: Trust) -> int:
    """Score new data with the baseline of the newest validation, and add the scores to the history.

    Args:
        arguments: `--data FILE`, `--site NAME` where the config has several, and those of a fit: `--config FILE`, dotted overrides.
        trust: What the user allows beyond the import policy.

    Returns:
        0 without an alert, 3 with one.

    Raises:
        LitInvertError: If an input is wrong, or the surrogate was not validated; the history is left as it is then.
    """
    given, rest = _parser().parse_known_args(arguments)
    registry = load_plugins()
    config = parse_fit(rest, registry, trust, command=_COMMAND)
    run = describe_run(config, registry, command="monitor")
    entry = choose_site(config, registry.data_readers, given.site)
    new = read_new_data(config, registry, entry, given.data)
    assert run.runs is not None
    validation = _validation(run.runs, new.problem)
    baseline = load_baseline(validation, entry.name, new.site.drivers)
    theta, parameters = latest_parameters(run.runs, entry.name, new.problem)
    found = look(new.problem, new.site, theta, baseline, run)
    folder = run.runs / "monitor"
    origin = {"data": str(given.data), "parameters": parameters, "validation": validation.name}
    show_row(folder, scores(found), append_row(folder, {**_when(new.site), **origin, **scores(found)}))
    console = Console(highlight=False, markup=False)
    _show(found, baseline, console)
    if new.unobserved:
        console.print(f"spearman is not measured, there are no observations: {new.unobserved}", soft_wrap=True)
    console.print(f"Simulated with: {parameters}. History: {folder}", soft_wrap=True)
    return ALERTED if found.alerts else QUIET


def _when(site: Site) -> dict[str, str | int | float]:
    """Say which days of which site were looked at, and when."""
    first, last = (str(date.astype("datetime64[D]")) for date in site.dates[[0, -1]])
    now = datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S")
    return {"time": now, "site": site.name, "first": first, "last": last, "days": len(site.dates)}


def _parser() -> OneLineParser:
    summary = "Score new data of a validated surrogate. Every key of a fit's config may follow, too."
    parser = OneLineParser(prog=_COMMAND, description=summary, allow_abbrev=False)
    parser.add_argument("--data", type=Path, required=True, help="file of new days, with the columns that the config names")
    parser.add_argument("--site", help="whose days these are, where the config names several sites")
    return parser


def _validation(runs: Path, problem: InversionProblem) -> Path:
    folder = latest_validation(runs, fingerprint(problem.surrogate))
    if folder is None:
        name = problem.surrogate.spec.name
        raise ResultsError(
            f"{runs}: holds no validation of surrogate {name!r}. Run `lit-invert check-surrogate --config` with this config first."
        )
    return folder


def _show(found: Look, baseline: Baseline, console: Console) -> None:
    """Print the drift of every driver, the numbers beside those of the validation, and every alert."""
    table = Table(title="Drift of the drivers", title_justify="left", title_style="bold")
    table.add_column("driver", no_wrap=True)
    for column in ("PSI", "limit", "KS", "chance", "shift", "limit", "outside"):
        table.add_column(column, justify="right")
    for drift in found.drifts:
        cells = (drift.psi, drift.psi_limit, drift.ks, drift.ks_chance, drift.shift, drift.shift_limit)
        table.add_row(drift.driver, *(_number(cell, 2) for cell in cells), f"{drift.outside:.1%}")
    console.print(table)
    for key, value in _compared(found, baseline.numbers).items():
        console.print(f"{key}: {value}")
    for advice in found.advice:
        console.print(f"advice: {advice}", style="yellow", soft_wrap=True)
    for alert in found.alerts:
        console.print(f"alert: {alert}", style="red", soft_wrap=True)


def _compared(found: Look, before: Mapping[str, float | None]) -> dict[str, str]:
    """Return each number, and the one at the validation behind it, whose retention was of estimates, too."""
    numbers = {
        "retention of predictions": (found.retention, "retention"),
        "spearman": (found.spearman, "spearman_rho"),
        "nan ratio": (found.nan_ratio, "nan_ratio"),
    }
    return {what: f"{_number(now)} (at the validation {_number(before.get(key))})" for what, (now, key) in numbers.items()}


def _number(value: float | None, digits: int = 3) -> str:
    return "-" if value is None or math.isnan(value) else f"{value:.{digits}g}"
