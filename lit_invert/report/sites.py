"""The page of a run over many sites, made from its tables alone."""

from __future__ import annotations

from html import escape
from pathlib import Path

from ..atomic import write_text
from ..results import SitesRun, read_sites_run
from .draw.sites import information_figure, map_figure, shift_figure, spread_figure
from .figures import save_figure
from .html import contents, page, pairs, picture, section
from .sections.sites import (
    cost_of_sharing,
    failures,
    has_posterior,
    information,
    roles_table,
    shared_values,
    sites_table,
    unseen_table,
)

_CAPTIONS = {
    "map": "Each site by how its error changed: of the test days, of the fit days where there are none.",
    "shifts": "How far each parameter moved at each site, in standard deviations of its prior. One colour down a column: alike.",
    "information": "How far the data of each site narrowed each parameter down; white: nothing beyond the prior.",
    "spread": "The parameters that sites disagree on most. Points are sites, bars the medians of their plant types.",
}


def write_sites_report(folder: Path, *, pdf: bool = False) -> Path:
    """Draw the figures of a run over many sites and write its `report.html`.

    Args:
        folder: Its folder.
        pdf: Whether to write each figure as PDF, too.

    Returns:
        The page.

    Raises:
        ResultsError: If it is not the folder of a finished run over many sites.
    """
    run = read_sites_run(folder)
    pictures = _draw(run, pdf)
    body = [
        section("Sites", sites_table(run), pictures.get("map", "")),
        section("Scores", roles_table(run)),
        section("Parameters", pictures.get("shifts", ""), pictures.get("spread", "")),
        section("What the data determined", information(run), pictures.get("information", "")),
        section("What sharing costs", cost_of_sharing(run), shared_values(run)),
        section("Sites that were not seen", unseen_table(run)),
        section("Sites that failed", failures(run)),
        section("Provenance", pairs(run.provenance)),
    ]
    title = sites_headline(run)
    head = f"<header><p class='kicker'>lit-invert &middot; {len(run.sites)} sites</p><h1>{escape(title)}</h1></header>"
    path = folder / "report.html"
    write_text(path, page(title, [head, contents(body), *body]))
    return path


def sites_headline(run: SitesRun) -> str:
    """Say in one sentence how the error changed over the sites."""
    fitted = run.fitted
    scored = fitted[fitted["rmse_change_percent"].notna()]
    if not len(scored):
        return f"None of {len(run.sites)} sites has a score."
    fell = int((scored["rmse_change_percent"] < 0).sum())
    held_out = int((scored["test_days"] > 0).sum())
    change = scored["rmse_change_percent"].median()
    on = "on days that the inversion never saw" if held_out == len(scored) else f"(on test days at {held_out} of them)"
    return f"NEP RMSE fell at {fell} of {len(scored)} sites {on}; the median changed by {change:+.0f} %."


def _draw(run: SitesRun, pdf: bool) -> dict[str, str]:
    """Draw what the run has, save it, and return it as HTML, by name."""
    fitted = run.fitted
    if not len(fitted):
        return {}
    order = list(fitted.sort_values(["plant_type", "latitude"], kind="stable")["site"])
    figures = {"map": map_figure(fitted), "shifts": shift_figure(run.parameters, order)}
    if has_posterior(run):
        figures["information"] = information_figure(run.parameters, order)
    if run.parameters.groupby("name")["shift_in_sd"].nunique().max() > 1:
        figures["spread"] = spread_figure(run.parameters, fitted.set_index("site")["plant_type"])
    (run.folder / "figures").mkdir(exist_ok=True)
    shown = {}
    for name, figure in figures.items():
        png = save_figure(figure, run.folder / "figures" / f"{name}.png", pdf=pdf)
        shown[name] = picture(png, _CAPTIONS[name])
    return shown
