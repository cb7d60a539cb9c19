"""All figures of a run, drawn from its results folder alone: what there is to draw, and how a drawing becomes a file."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ..atomic import write_bytes
from ..results import Run, read_run
from .draw.distribution import distribution_figure
from .draw.identifiability import correlation_figure, profiles_figure, ranking_figure, spectrum_figure
from .draw.iterations import loss_figure
from .draw.others import fluxes_figure
from .draw.parameters import parameters_figure, posterior_figure
from .draw.residuals import residuals_figure, weather_figure
from .draw.scatter import one_to_one_figure, taylor_figure
from .draw.seasons import season_figure
from .draw.series import series_figure
from .draw.skill import skill_figure
from .draw.starts import parallel_figure, starts_figure
from .style import BASELINE_NAMES, INTERVALS, STYLE

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: Colours of a PNG: lines of one colour and their edges need few, and a file of few colours is a third as large.
_COLOURS = 128


@dataclass(frozen=True)
class Drawing:
    """One figure that a run may have."""

    name: str
    """Name of its file."""
    caption: str
    draw: Callable[[Run], Figure | None]
    """From the run to the figure; None where the run has not what it needs."""


def _series(run: Run) -> Figure:
    return series_figure(run.fluxes, run.metrics["target"], run.metrics["site"], run.bands)


def _skill(run: Run) -> Figure | None:
    known = (run.metrics.get("baselines") or {}).get("test") or {}
    skill = {name: value for name, value in known.get("skill", {}).items() if value is not None}
    return skill_figure(skill, BASELINE_NAMES, run.metrics["roles"]["test"][run.metrics["target"]]["n"]) if skill else None


def _season(run: Run) -> Figure:
    warm = run.fluxes.iloc[run.warmup_days :]
    return season_figure(warm, run.metrics["target"], run.metrics["annual_sums"], run.bands, run.uncertainty)


def _weather(run: Run) -> Figure | None:
    units = run.metrics.get("drivers", {})
    return None if run.forcing is None else weather_figure(run.fluxes, run.metrics["target"], run.forcing, units)


def _distribution(run: Run) -> Figure | None:
    target, noise = run.metrics["target"], (run.uncertainty or {}).get("noise", {})
    sd = run.bands[f"{target}_noise_sd"].to_numpy() if run.bands is not None and f"{target}_noise_sd" in run.bands else None
    return distribution_figure(run.fluxes, target, sd, noise.get(target, {}).get("rho"))


def _others(run: Run) -> Figure | None:
    others = [name for name in run.outputs if name != run.metrics["target"]]
    return fluxes_figure(run.fluxes, others, run.bands) if others else None


def _posterior(run: Run) -> Figure | None:
    if run.posterior is None or run.posterior_samples is None:
        return None
    return posterior_figure(run.parameters, run.posterior, run.posterior_samples)


def _correlation(run: Run) -> Figure | None:
    return None if run.posterior_correlation is None else correlation_figure(run.posterior_correlation)


def _spectrum(run: Run) -> Figure | None:
    known = run.uncertainty or {}
    return spectrum_figure(known["eigenvalues"], known["rank"]) if known.get("eigenvalues") else None


def _profiles(run: Run) -> Figure | None:
    return None if run.profiles is None or not len(run.profiles) else profiles_figure(run.profiles, run.parameters)


def _ranking(run: Run) -> Figure | None:
    return None if run.sensitivity is None and run.posterior is None else ranking_figure(run.sensitivity, run.posterior)


def _starts(run: Run) -> Figure | None:
    if run.starts is None or len(run.starts) < 2:
        return None
    return starts_figure(run.starts, run.metrics.get("starts", {}).get("r_t", ()))


def _parallel(run: Run) -> Figure | None:
    several = run.starts is not None and (run.starts["status"] == "finished").sum() > 1
    return parallel_figure(run.starts, run.parameters) if run.starts is not None and several else None


def _loss(run: Run) -> Figure | None:
    return loss_figure(run.history, run.metrics["best_iteration"]) if len(run.history) else None


#: Every figure, in the order in which a reader wants them.
DRAWINGS = (
    Drawing(
        "series",
        "Observed and simulated fluxes by day (select and test days shaded; bars, where the data state it: one standard deviation "
        "of the observation), their monthly means and their sums over the observed days. The dark band: what the parameters alone "
        "leave open, the light one where 90 % of the observations should lie.",
        _series,
    ),
    Drawing(
        "skill",
        "What the inversion adds on the test days to what could be had without it; baselines saw the fit days only.",
        _skill,
    ),
    Drawing(
        "one_to_one",
        "Simulated against observed, before and after. A perfect run lies on the line.",
        lambda run: one_to_one_figure(run.fluxes, run.metrics["target"]),
    ),
    Drawing(
        "taylor",
        "Correlation (angle), spread (distance from the origin) and centred error (distance from the star) of each run and "
        "baseline. White markers are fit days, filled ones test days.",
        lambda run: taylor_figure(run.fluxes, run.metrics["target"]),
    ),
    Drawing(
        "season",
        "The mean year, its running sum, and the sums of calendar years. The band of the mean season is the mean of the daily "
        f"5-95 %. Sums: {INTERVALS}",
        _season,
    ),
    Drawing(
        "residuals",
        "Simulated minus observed. What is left of a seasonal pattern is what these parameters cannot explain.",
        lambda run: residuals_figure(run.fluxes, run.metrics["target"]),
    ),
    Drawing(
        "weather",
        "Simulated minus observed against the day's weather. A slope that is left is a response that the model lacks.",
        _weather,
    ),
    Drawing(
        "distribution",
        "Residuals at the optimum: are they as wide as the noise, normal, and independent from day to day? Where they are not "
        "independent, n days are worth fewer.",
        _distribution,
    ),
    Drawing("fluxes", "The other fluxes. Where they were not observed, only the target and the prior constrain them.", _others),
    Drawing(
        "parameters",
        "Each parameter between its bounds: prior with its standard deviation, and optimum.",
        lambda run: parameters_figure(run.parameters),
    ),
    Drawing(
        "posterior",
        "Prior and posterior of each parameter between its bounds, each to the same height, by class; the mode of the posterior "
        "(line) and the optimum of the fit (circle), which may weigh the prior differently.",
        _posterior,
    ),
    Drawing(
        "ranking",
        "Which parameters matter most: by what these data say and, after `lit-invert sensitivity`, by what moves the model.",
        _ranking,
    ),
    Drawing(
        "spectrum",
        "Directions in which the parameters can move, by how much more the data hold them than the prior.",
        _spectrum,
    ),
    Drawing("correlation", "Parameters that the data can only tell together.", _correlation),
    Drawing(
        "profiles",
        "The best that the other parameters can do when one is held. Open to a side: the data do not end it there.",
        _profiles,
    ),
    Drawing("starts", "Where the starts ended, and what one more would bring.", _starts),
    Drawing("parallel", "What the starts agree on, and what they do not.", _parallel),
    Drawing(
        "loss",
        "The weighted terms sum to the total; terms below a thousandth of its highest value are not shown.",
        _loss,
    ),
)


def save_figures(folder: Path, *, pdf: bool = False) -> list[Path]:
    """Draw all figures of a run from its folder alone.

    Args:
        folder: Folder of a finished run.
        pdf: Whether to write each as PDF, too.

    Returns:
        The PNG files, `figures/<name>.png`, in the order in which a reader wants them.

    Raises:
        ResultsError: If the folder is not that of a finished run, or a file in it is damaged.
    """
    run = read_run(folder)
    (folder / "figures").mkdir(exist_ok=True)
    paths = []
    for name, figure in _figures(run):
        paths.append(folder / "figures" / f"{name}.png")
        save_figure(figure, paths[-1], pdf=pdf)
    return paths


def save_figure(figure: Figure, path: Path, *, pdf: bool) -> bytes:
    """Write a figure as PNG, and as PDF beside it where asked for.

    Returns:
        The PNG.
    """
    png = to_png(figure)
    write_bytes(path, png)
    if pdf:
        figure.set_layout_engine("none")  # it is laid out: doing so again would take as long as all else
        write_bytes(path.with_suffix(".pdf"), to_pdf(figure))
    return png


def _figures(run: Run) -> Iterator[tuple[str, Figure]]:
    for drawing in DRAWINGS:
        figure = drawing.draw(run)
        if figure is not None:
            yield drawing.name, figure


def to_png(figure: Figure) -> bytes:
    """Return a figure as a PNG of few colours; the same figure gives the same bytes."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from PIL import Image

    figure.set_dpi(STYLE["savefig.dpi"])
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    width, height = canvas.get_width_height()
    image = Image.frombuffer("RGBA", (width, height), canvas.buffer_rgba(), "raw", "RGBA", 0, 1).convert("RGB")
    buffer = io.BytesIO()
    few = image.quantize(_COLOURS, method=Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE)
    # The mean of nearly white colours is not white; the corner is background, whatever the figure.
    palette, white = few.getpalette() or [], few.getpixel((0, 0))
    few.putpalette([255 if i // 3 == white else value for i, value in enumerate(palette)])
    few.save(buffer, format="png")
    return buffer.getvalue()


def to_pdf(figure: Figure) -> bytes:
    """Return a figure as a PDF; the same figure gives the same bytes."""
    buffer = io.BytesIO()
    # Without a date or a version inside, the same figure is the same file.
    figure.savefig(buffer, format="pdf", metadata={"CreationDate": None, "Producer": None, "Creator": None})
    return buffer.getvalue()
