"""All figures of a run, drawn from its results folder alone."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from ..atomic import write_bytes
from ..results import Run, read_run
from .fluxes import fluxes_figure, one_to_one_figure, residuals_figure, series_figure
from .parameters import loss_figure, parameters_figure
from .style import STYLE

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def save_figures(folder: Path) -> list[Path]:
    """Draw all figures of a run from its folder alone.

    Args:
        folder: Folder of a finished run.

    Returns:
        The files, `figures/<name>.png`, in the order in which a reader wants them.

    Raises:
        ResultsError: If the folder is not that of a finished run.
    """
    run = read_run(folder)
    (folder / "figures").mkdir(exist_ok=True)
    paths = []
    for name, figure in _figures(run):
        buffer = io.BytesIO()
        # Without a date or a version inside, the same figure is the same file.
        figure.savefig(buffer, format="png", dpi=STYLE["savefig.dpi"], metadata={"Software": None})
        paths.append(folder / "figures" / f"{name}.png")
        write_bytes(paths[-1], buffer.getvalue())
    return paths


def _figures(run: Run) -> Iterator[tuple[str, Figure]]:
    target, fluxes = run.metrics["target"], run.fluxes
    yield "series", series_figure(fluxes, target, run.metrics["site"])
    yield "one_to_one", one_to_one_figure(fluxes, target)
    yield "residuals", residuals_figure(fluxes, target)
    others = [name for name in run.outputs if name != target]
    if others:
        yield "fluxes", fluxes_figure(fluxes, others)
    yield "parameters", parameters_figure(run.parameters)
    if len(run.history):
        yield "loss", loss_figure(run.history, run.metrics["best_iteration"])
