"""The report: one HTML page that shows a run to someone who was not there.

It is made from the results folder alone, needs neither network nor script, follows the reader's light or dark setting, and prints.
What comes from files is escaped; plugins add sections of their own, and one that fails says so in its place.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any

from ..atomic import write_text
from ..extensions import ReportSection
from ..results import Run, read_run
from .figures import DRAWINGS
from .html import contents, folded, page, picture, section
from .sections.against import conflict, misspecification
from .sections.budget import annual_sums, plausibility, resimulation_gap
from .sections.fit import checks, fit_summary, provenance
from .sections.parameters import parameters_summary, parameters_table
from .sections.scores import baselines_table, scores_table, season_table
from .sections.trust import surrogate_trust
from .sections.uncertainty import (
    directions,
    disagreements,
    method,
    profile_flags,
    starts_summary,
    strongest_pairs,
    trade_offs,
)
from .sections.worth import worth_of_data
from .style import flux_name

_CAPTIONS = {drawing.name: drawing.caption for drawing in DRAWINGS}


def write_report(folder: Path, sections: Sequence[ReportSection]) -> Path:
    """Write `report.html` into the folder of a finished run.

    Args:
        folder: The folder; figures that stand in its `figures` are shown.
        sections: Sections of plugins, shown in order of their titles after our own.

    Returns:
        The file.

    Raises:
        ResultsError: If the folder is not that of a finished run, or a file in it is damaged.
    """
    run = read_run(folder)
    plugins = [_plugin_section(own, folder) for own in sorted(sections, key=lambda own: own.title)]
    body = [*_sections(run), *plugins, section("Provenance", provenance(run))]
    path = folder / "report.html"
    write_text(path, page(f"{run.metrics['site']}: {headline(run.metrics)}", [_header(run), contents(body), *body]))
    return path


def _sections(run: Run) -> list[str]:
    def shown(*names: str) -> str:
        return _pictures(run.folder, *names)

    return [
        section("Scores", scores_table(run), baselines_table(run), shown("skill", "series", "one_to_one", "taylor")),
        section("Season", season_table(run), shown("season")),
        section("Residuals", shown("residuals", "weather", "distribution")),
        section("Carbon budget", annual_sums(run), plausibility(run), shown("fluxes")),
        section("Parameters", parameters_summary(run), folded("All parameters", parameters_table(run)), shown("parameters")),
        section(
            "What the data determined",
            method(run),
            shown("posterior"),
            directions(run),
            shown("spectrum"),
            trade_offs(run),
            strongest_pairs(run),
            shown("correlation"),
            profile_flags(run),
            shown("profiles"),
            worth_of_data(run),
            shown("ranking"),
            disagreements(run),
        ),
        section("What speaks against it", conflict(run), misspecification(run)),
        section("Surrogate trust", resimulation_gap(run), surrogate_trust(run)),
        section("Starts", starts_summary(run), shown("starts", "parallel")),
        section("Fit", fit_summary(run), shown("loss"), checks(run)),
    ]


def headline(metrics: dict[str, Any]) -> str:
    """Say in one sentence what the inversion achieved, by the best evidence there is.

    Args:
        metrics: Content of metrics.json.

    Returns:
        A plain sentence, which also says when the error rose.

    Example:
        >>> score = {"n": 58, "prior": {"rmse": 2.31}, "optimum": {"rmse": 1.72}, "rmse_change_percent": -25.5}
        >>> headline({"target": "nep", "roles": {"test": {"nep": score}}})
        'On 58 test days that the inversion never saw, NEP RMSE fell from 2.31 to 1.72 gC m-2 d-1 (-26 %).'
    """
    target = metrics["target"]
    for role, where in (
        ("test", "test days that the inversion never saw,"),
        ("select", "select days, by which the iterate was chosen,"),
        ("fit", "days that it was fitted to, with none held back,"),
    ):
        score = metrics["roles"].get(role, {}).get(target)
        if score and score["n"]:
            before, after = score["prior"]["rmse"], score["optimum"]["rmse"]
            on = f"On {score['n']} {where} {flux_name(target)} RMSE"
            if after == before:
                return f"{on} stayed at {after:.2f} gC m-2 d-1."
            change = score["rmse_change_percent"]
            percent = "" if change is None else f" ({change:+.0f} %)"
            return f"{on} {'fell' if after < before else 'rose'} from {before:.2f} to {after:.2f} gC m-2 d-1{percent}."
    return f"No observed day of {flux_name(target)} was scored."


def _header(run: Run) -> str:
    metrics = run.metrics
    warnings = [f"Check {c['check']}: {c['message']}" for c in metrics["checks"] if c["outcome"] != "pass"]
    advice = "".join(f"<li>{escape(_sentence(text))}</li>" for text in [*metrics["advice"], *warnings, *metrics["notes"]])
    # A line that ends in "gC m-2" is a number without its day.
    title = escape(headline(metrics)).replace("gC m-2 d-1", "<span class='unit'>gC m-2 d-1</span>")
    before = f"<h2>Before you believe it</h2><ul>{advice}</ul>" if advice else ""
    return (
        f"<header><p class='kicker'>lit-invert &middot; {escape(metrics['site'])}</p><h1>{title}</h1>"
        f"<p>{escape(_sentence(metrics['message']))}</p>{before}</header>"
    )


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:].rstrip(".") + "."


def _plugin_section(own: ReportSection, folder: Path) -> str:
    """Render a plugin's section; what it raises stands in its place, so that one plugin cannot spoil the report."""
    try:
        content = own.render(folder)
    except Exception as error:
        content = (
            f"<p class='error'>This section comes from <code>{escape(own.render.__module__)}</code> and could not be made: "
            f"{escape(type(error).__name__)}: {escape(str(error))}</p>"
        )
    return section(own.title, content) if content else ""


def _pictures(folder: Path, *names: str) -> str:
    paths = {folder / "figures" / f"{name}.png": _CAPTIONS[name] for name in names}
    return "".join(picture(path.read_bytes(), caption) for path, caption in paths.items() if path.is_file())
