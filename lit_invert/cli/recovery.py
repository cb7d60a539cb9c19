"""The commands that test an inversion on records whose truth is known: recover, calibrate-posterior."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from types import TracebackType

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from ..atomic import write_bytes, write_text
from ..config import parse_fit
from ..driving import computing
from ..errors import ConfigError, ResultsError
from ..fit import FitConfig, Inputs, read_inputs
from ..plugins import load_plugins
from ..posterior.calibration import Calibration, calibrate
from ..posterior.certificate import Certificate, certify
from ..posterior.sampling import SAMPLERS
from ..posterior.target import find_mode
from ..posterior.twins import Estimates, Twins, invert_twins, make_twins
from ..report.certificate import certificate_page, first_found
from ..report.draw.twins import calibration_figure, truth_figure
from ..report.figures import to_png
from ..results import open_run_folder, write_status
from ..results.folder import to_csv, to_json
from . import OK, OneLineParser, Options
from .tables import add_row, new_table, number

#: Draws from each twin's posterior; a rank among 99 has a hundred values.
_DRAWS = 99


def recover(argv: list[str], options: Options) -> int:
    """Say which parameters an inversion of the site can find, before the real one."""
    config, arguments = _parse("recover", argv, options, twins=50)
    inputs, twins, found = _experiment(config, arguments)
    certificate = certify(inputs.problem, found, config.inversion.target_variable)
    summary = {"twins": len(twins.truth), "method": arguments.method, "seed": arguments.seed, "sentence": certificate.sentence}
    with _new_folder(config, "recovery", certificate.sentence) as folder:
        write_text(folder / "recovery.csv", to_csv(certificate.table))
        write_text(folder / "cases.csv", to_csv(certificate.cases))
        write_text(folder / "recovery.json", to_json({**summary, "parameters": certificate.table.to_dict("records")}))
        figure = to_png(truth_figure(certificate.table, certificate.cases))
        write_bytes(folder / "truth.png", figure)
        write_text(folder / "report.html", certificate_page(certificate, inputs.site.name, figure))
    _show_certificate(certificate, inputs.site.name, len(twins.truth))
    print(f"Certificate: {folder}")
    return OK


def calibrate_posterior(argv: list[str], options: Options) -> int:
    """Say whether the intervals of a posterior hold the truth as often as they promise."""
    config, arguments = _parse("calibrate-posterior", argv, options, twins=200)
    inputs, twins, found = _experiment(config, arguments)
    result = calibrate(twins, found, torch.Generator().manual_seed(arguments.seed))
    summary = {"method": arguments.method, "seed": arguments.seed, **result.summary}
    with _new_folder(config, "calibration", result.summary["verdict"]) as folder:
        write_text(folder / "ranks.csv", to_csv(result.ranks))
        write_text(folder / "calibration.json", to_json(summary))
        figure = calibration_figure(result.ranks, result.tests, result.coverage, found.draws.shape[1])
        write_bytes(folder / "calibration.png", to_png(figure))
    _show_calibration(result, inputs.site.name)
    print(f"Calibration: {folder}")
    return OK


def _parse(command: str, argv: list[str], options: Options, twins: int) -> tuple[FitConfig, argparse.Namespace]:
    """Split the command's own options from those of a fit, and read both."""
    parser = OneLineParser(f"lit-invert {command}", allow_abbrev=False, epilog="All other options are those of `lit-invert fit`.")
    parser.add_argument("--twins", type=int, default=twins, help=f"number of twin experiments (default: {twins})")
    parser.add_argument(
        "--method", choices=tuple(SAMPLERS), help="how posteriors are drawn from (default: the config's, or laplace)"
    )
    parser.add_argument("--seed", type=int, help="seed of truths, noise and draws (default: the config's)")
    arguments, rest = parser.parse_known_args(argv)
    config = parse_fit(rest, load_plugins(), options.trust)
    if config.data.sites is not None:
        raise ConfigError(f"`lit-invert {command}` is for one site, but `data.sites` names a catalogue. Give `data.path` instead.")
    if arguments.twins < 2:
        raise ConfigError(f"`--twins` is {arguments.twins}, expected two or more.")
    own = config.uncertainty.method
    arguments.method = arguments.method or (own if own in SAMPLERS else "laplace")
    arguments.seed = config.seed_everything if arguments.seed is None else arguments.seed
    return config, arguments


def _experiment(config: FitConfig, arguments: argparse.Namespace) -> tuple[Inputs, Twins, Estimates]:
    """Make the twins of the config's site and invert them."""
    inputs, target = read_inputs(replace(config, resimulate=None), load_plugins()), config.inversion.target_variable
    problem, generator = inputs.problem, torch.Generator().manual_seed(arguments.seed)
    with computing(config.inversion.cpu_threads), _TwinsProgress(arguments.twins) as progress:
        mode = find_mode(problem, problem.space.to_theta(problem.space.priors), target)
        twins = make_twins(problem, mode, arguments.twins, generator)
        found = invert_twins(twins, target, SAMPLERS[arguments.method], _DRAWS, generator, progress.show)
    return inputs, twins, found


class _TwinsProgress:
    """A bar over the twins, on a terminal; silent elsewhere."""

    def __init__(self, total: int) -> None:
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        console = Console(stderr=True)
        self._bar = Progress(*columns, console=console, disable=not console.is_terminal)
        self._task = self._bar.add_task("twins", total=total)
        self.show: Callable[[int], None] = lambda done: self._bar.update(self._task, completed=done)

    def __enter__(self) -> _TwinsProgress:
        self._bar.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._bar.stop()


@contextmanager
def _new_folder(config: FitConfig, kind: str, message: str) -> Iterator[Path]:
    """Open a folder for results, and say in it how their writing ended; the message is that of a good end.

    Raises:
        ResultsError: If they cannot be written or drawn; what is there by then stays.
    """
    folder = open_run_folder(Path(config.logs) / config.name, kind)
    try:
        yield folder
    except Exception as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        with suppress(OSError):  # the same full disk
            write_status(folder, "failed", reason)
        raise ResultsError(f"{folder}: results are not complete ({reason}). Mend that and run the command again.") from error
    write_status(folder, "finished", message)


def _show_certificate(certificate: Certificate, site: str, twins: int) -> None:
    console = Console(highlight=False, markup=False)
    shown = new_table(f"{site}: what {twins} twin experiments recover", "parameter", "verdict")
    shown.columns[0].no_wrap = True  # at 80 columns only a verdict may break, between its words
    for column in ("bias", "error", "without\ndata", "90 %\nheld", "known"):
        shown.add_column(column, justify="right", no_wrap=True)
    for row in first_found(certificate.table).to_dict("records"):
        errors = [number(row["bias"], "+.2f"), number(row["rmse"], ".2f"), number(row["rmse_of_prior"], ".2f")]
        shares = [f"{row[key]:.0%}" for key in ("coverage_90", "determined_share")]
        add_row(shown, row["name"], row["verdict"], *errors, *shares)
    shown.caption, shown.caption_justify = "bias and errors in prior sd; known: share of twins that determine it", "left"
    console.print(shown)
    console.print(certificate.sentence, style="bold", soft_wrap=True)


def _show_calibration(result: Calibration, site: str) -> None:
    console = Console(highlight=False, markup=False)
    shown = new_table(f"{site}: share of truths inside the interval", "level")
    for column in ("determined", "all"):
        shown.add_column(column, justify="right")
    for row in result.coverage.to_dict("records"):
        add_row(shown, f"{row['level']:.0%}", f"{number(100 * row['determined'], '.0f')} %", f"{100 * row['all']:.0f} %")
    console.print(shown)
    passed = all(result.summary["passed"].values())
    console.print(result.summary["verdict"], style="bold" if passed else "yellow", soft_wrap=True)
