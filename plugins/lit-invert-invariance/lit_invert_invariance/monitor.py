"""`lit-invert monitor --config X --data new.csv`: is what was validated still so for new days?

New weather is compared with that of the validation, driver by driver and season by season; the surrogate simulates it at the newest
optimum, and the numbers of the validation that cost no inversion are measured again. Each look is a row of
`logs/<name>/monitor/history.csv` and a point on its TensorBoard curves. The surrogate starts from its first state on the file's
first day, so fluxes want a file that begins where a fit's would; drifts want no such thing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from lit_invert import InversionProblem, Site, load_plugins, parse_fit
from lit_invert.cli import OneLineParser
from lit_invert.cli.tables import new_table, number
from lit_invert.errors import ResultsError
from lit_invert.fit import describe_run
from lit_invert.trust import Trust

from .baseline import Baseline, load_baseline
from .drift import CHANCE
from .history import append_row, show_row
from .look import Look, look, scores
from .new_data import choose_site, read_new_data
from .optimum import latest_parameters
from .store import fingerprint, latest_validation
from .weather_drift import LARGEST_OUTSIDE, LEAST_DISTANCE, DriverDrift

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
    table, lines = _table(found.drifts), list(_lines(found, baseline, new.unobserved))
    show_row(folder, scores(found), append_row(folder, {**_when(new.site), **origin, **scores(found)}))
    console = Console(highlight=False, markup=False)
    console.print(table)
    for line in (*lines, f"Simulated with: {parameters}. History: {folder}"):
        console.print(line, soft_wrap=True)
    return ALERTED if found.alerts else QUIET


def _when(site: Site) -> dict[str, str | int | float]:
    """Say which days of which site were looked at, and when."""
    first, last = (str(date.astype("datetime64[D]")) for date in site.dates[[0, -1]])
    now = datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S")
    return {"time": now, "site": site.name, "first": first, "last": last, "days": len(site.dates)}


def _parser() -> OneLineParser:
    parser = OneLineParser(
        prog=_COMMAND,
        usage=f"{_COMMAND} --config FILE --data FILE [--site NAME] [--KEY VALUE ...]",
        description="Score new data of a validated surrogate. The config is that of the validation.",
        epilog="The keys of the config are those of `lit-invert check-surrogate --help`.",
        allow_abbrev=False,
    )
    what = "file of new days, with the columns that the config names"
    parser.add_argument("--data", type=Path, required=True, metavar="FILE", help=what)
    parser.add_argument("--site", metavar="NAME", help="whose days these are, where the config names several sites")
    return parser


def _validation(runs: Path, problem: InversionProblem) -> Path:
    folder = latest_validation(runs, fingerprint(problem.surrogate))
    if folder is None:
        name = problem.surrogate.spec.name
        raise ResultsError(
            f"{runs}: holds no validation of surrogate {name!r}. Run `lit-invert check-surrogate --config` with this config first."
        )
    return folder


def _table(drifts: Sequence[DriverDrift]) -> Table:
    """Return every number that an alert is judged by, in 80 columns."""
    rule = (
        f"Alert: PSI or shift beyond its limit, or chance below {CHANCE}, where the distance is above {LEAST_DISTANCE}, too; "
        f"or outside above {LARGEST_OUTSIDE:.0%}."
    )
    table = new_table("Drift of the drivers")
    table.caption, table.caption_justify = rule, "left"
    table.box, table.show_edge, table.padding = box.SIMPLE_HEAD, False, (0, 1, 0, 0)
    table.add_column("driver", overflow="fold")
    for column in ("PSI", "limit", "KS", "chance", "shift", "limit", "distance", "outside"):
        table.add_column(column, justify="right", no_wrap=True)
    for drift in drifts:
        ranks = (drift.psi, drift.psi_limit, drift.ks)
        anomalies = (drift.shift, drift.shift_limit, drift.distance)
        cells = [
            *map(number, ranks),
            number(drift.ks_chance, ".2g"),
            *map(number, anomalies),
        ]
        table.add_row(drift.driver, *cells, f"{drift.outside:.1%}")
    return table


def _lines(found: Look, baseline: Baseline, unobserved: str) -> Iterator[Text]:
    """Yield the numbers beside those of the validation, whose retention was of estimates, too, and every advice and alert."""
    numbers = {
        "retention of predictions": (found.retention, "retention"),
        "spearman": (found.spearman, "spearman_rho"),
        "nan ratio": (found.nan_ratio, "nan_ratio"),
    }
    for what, (now, key) in numbers.items():
        yield Text(f"{what}: {number(now, '.3g')} (at the validation {number(baseline.numbers.get(key), '.3g')})")
    for advice in found.advice:
        yield Text(f"advice: {advice}", "yellow")
    for alert in found.alerts:
        yield Text(f"alert: {alert}", "red")
    if unobserved:
        yield Text(f"spearman is not measured, there are no observations: {unobserved}")
