"""The report: one HTML page that shows a run to someone who was not there.

It is made from the results folder alone, needs neither network nor script, follows the reader's light or dark setting, and prints.
What comes from files is escaped; plugins add sections of their own, and one that fails says so in its place.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path
from typing import Any

from ..atomic import write_text
from ..extensions import ReportSection
from ..results import Run, read_run
from .fluxes import flux_name
from .html import number, page, picture, section, table

_SCORES = {"rmse": "RMSE", "bias": "bias", "r": "r", "nse": "NSE", "kge": "KGE"}
_RUNS = {"prior": "prior", "optimum": "optimum", "resimulated": "process model"}
_FIGURES = {
    "series": "Observed and simulated fluxes by day (select and test days shaded), and their sums over the observed days.",
    "one_to_one": "Simulated against observed, before and after. A perfect run lies on the line.",
    "residuals": "Simulated minus observed. What is left of a seasonal pattern is what these parameters cannot explain.",
    "fluxes": "The other fluxes. Where they were not observed, only the target and the prior constrain them.",
    "parameters": "Each parameter between its bounds: prior with its standard deviation, and optimum.",
    "loss": "The weighted terms sum to the total; terms below a thousandth of its highest value are not shown.",
}


def write_report(folder: Path, sections: Sequence[ReportSection]) -> Path:
    """Write `report.html` into the folder of a finished run.

    Args:
        folder: The folder; figures that stand in its `figures` are shown.
        sections: Sections of plugins, shown in order of their titles after our own.

    Returns:
        The file.

    Raises:
        ResultsError: If the folder is not that of a finished run.
    """
    run = read_run(folder)
    body = [
        _header(run),
        section("Scores", _scores(run), _pictures(folder, "series", "one_to_one", "residuals")),
        section("Carbon budget", _annual_sums(run), _plausibility(run), _gap(run), _pictures(folder, "fluxes")),
        section("Parameters", _parameters(run), _pictures(folder, "parameters")),
        section("Fit", _fit(run), _pictures(folder, "loss"), _checks(run)),
        *(_plugin_section(own, folder) for own in sorted(sections, key=lambda own: own.title)),
        section("Provenance", _provenance(run)),
    ]
    path = folder / "report.html"
    write_text(path, page(f"{run.metrics['site']}: {headline(run.metrics)}", body))
    return path


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


def _scores(run: Run) -> str:
    rows = []
    for role, fluxes in reversed(run.metrics["roles"].items()):
        for flux, score in fluxes.items():
            for name in (name for name in _RUNS if name in score and score["n"]):
                change = (
                    f"{score['rmse_change_percent']:+.0f} %"
                    if name == "optimum" and score["rmse_change_percent"] is not None
                    else ""
                )
                values = ["" if score[name][key] is None else f"{score[name][key]:.2f}" for key in _SCORES]
                rows.append([role, flux_name(flux), score["n"], _RUNS[name], values[0], change, *values[1:]])
    labels = ["days", "flux", "n", "run", "RMSE", "change", *list(_SCORES.values())[1:]]
    return table(labels, rows, text=(0, 1, 3)) + (
        "<p class='note'>RMSE and bias in gC m-2 d-1; NEP is positive when the land is a sink (NEP = -NEE). Process model: "
        "run at the same optimum in place of the surrogate. KGE is unstable where the mean flux is near zero.</p>"
    )


def _annual_sums(run: Run) -> str:
    rows, runs = [], _runs(run)
    for year, sums in run.metrics["annual_sums"].items():
        for flux in run.outputs:
            values = [f"{sums[flux][name]:.0f}" if name in sums[flux] else "" for name in runs]
            rows.append([year, sums["days"], flux_name(flux), *values])
    return "<h3>Annual sums [gC m-2 yr-1]</h3>" + table(["year", "days", "flux", *runs.values()], rows, text=(0, 2))


def _runs(run: Run) -> dict[str, str]:
    """Return the runs that there are, without the process model where it was not run."""
    return {name: label for name, label in _RUNS.items() if name != "resimulated" or run.metrics["resimulation_gap"] is not None}


def _plausibility(run: Run) -> str:
    runs = _runs(run)
    rows = [
        [
            f"{flux_name(band['quantity'])} [{band['unit']}]",
            f"{band['low']:g} to {band['high']:g}",
            *(number(band[name]) + ("" if band["plausible"][name] else " (!)") if name in band else "" for name in runs),
            band["source"],
        ]
        for band in run.metrics["plausibility"]
    ]
    if not rows:
        return "<p class='note'>The record is shorter than a year, so annual plausibility is not judged.</p>"
    return "<h3>Plausibility of the mean year</h3>" + table(
        ["quantity", "plausible", *runs.values(), "limits"], rows, text=(0, 1, len(runs) + 2)
    )


def _gap(run: Run) -> str:
    gap, accuracy = run.metrics["resimulation_gap"], run.metrics["surrogate"]["accuracy"]
    if gap is None:
        return "<p class='note'>The process model was not run at the optimum, so the surrogate's error there is not known.</p>"
    rows = [[flux_name(flux), number(g["rmse"]), number(g["bias"]), number(accuracy.get(flux))] for flux, g in gap.items()]
    return "<h3>Surrogate minus process model at the optimum [gC m-2 d-1]</h3>" + table(
        ["flux", "RMSE", "bias", "surrogate's RMSE on held-out members"], rows, text=(0,)
    )


def _parameters(run: Run) -> str:
    rows = [
        [
            row["name"],
            row["unit"],
            *(f"{row[column]:.4g}" for column in ("prior", "prior_sd", "min", "max", "optimum")),
            f"{row['shift_in_sd']:+.2f}",
            "fixed" if row["fixed"] else row["at_bound"],
            row["description"],
        ]
        for row in run.parameters.to_dict("records")
    ]
    distance = run.metrics["parameter_distance"]
    labels = ["name", "unit", "prior", "sd", "min", "max", "optimum", "shift [sd]", "at bound", "meaning"]
    return (
        f"<p>{len(rows)} parameters, {len(run.metrics['at_bound'])} of them at a bound. Distance from the prior: "
        f"{number(distance['scaled'])} in the surrogate's scaled space, "
        f"{number(distance['prior_sd'])} in standard deviations of the prior.</p>" + table(labels, rows, text=(0, 1, 8, 9))
    )


def _fit(run: Run) -> str:
    metrics, loss = run.metrics, run.metrics["loss"]
    rows = [[key, number(loss["prior"][key]), number(loss["optimum"].get(key))] for key in loss["prior"]]
    return (
        f"<p>{metrics['iterations']} iterations in {number(metrics['seconds'])} s; best iterate {metrics['best_iteration']}, by "
        f"{escape(metrics['monitor'])}. Status: {escape(metrics['status'])}.</p>"
        + table(["loss", "prior", "optimum"], rows, text=(0,))
    )


def _checks(run: Run) -> str:
    rows = [[check["check"], check["outcome"], check["message"]] for check in run.metrics["checks"]]
    return "<h3>Checks before the fit</h3>" + table(["check", "outcome", "what was found"], rows, text=(0, 1, 2)) if rows else ""


def _provenance(run: Run) -> str:
    return table(["what", "value"], [list(pair) for pair in _flatten(run.provenance)], text=(0, 1))


def _flatten(values: dict[str, Any], prefix: str = "") -> Iterable[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, dict):
            yield from _flatten(value, f"{prefix}{key} ")
        else:
            yield prefix + key, value


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
    paths = {folder / "figures" / f"{name}.png": _FIGURES[name] for name in names}
    return "".join(picture(path.read_bytes(), caption) for path, caption in paths.items() if path.is_file())
