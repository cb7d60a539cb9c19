"""The tables of a run over many sites."""

from __future__ import annotations

from html import escape
from typing import Any
from urllib.parse import quote

import pandas as pd

from ...results import SitesRun
from ..draw.parameters import CLASSES
from ..html import cell, folded, note, number, records, table
from ..style import flux_name

#: A page of more rows than this is slow to open; the tables beside it have all.
_ROWS = 500
_ROLES = ("fit", "select", "test")
_COLUMNS = {
    "plant_type": "plant type",
    "latitude": "latitude",
    "longitude": "longitude",
    "fit_days": "fit days",
    "test_days": "test days",
    "rmse_prior": "RMSE prior",
    "rmse_optimum": "RMSE optimum",
    "rmse_change_percent": "change [%]",
    "parameter_distance": "distance [sd]",
    "at_bound": "at bound",
}
#: Columns of sites.csv that say how much its record is worth.
_INFORMATION = {"rank": "rank", "n_eff": "independent days", "coverage_test": "coverage of test days"}


def sites_table(run: SitesRun) -> str:
    """Return a row a site: what it had, and what came of it."""
    fitted = run.fitted.sort_values("rmse_change_percent", kind="stable")
    rows = [[row["site"], *(cell(_plain(row[column])) for column in _COLUMNS)] for row in fitted.to_dict("records")]
    listed = table(["site", *_COLUMNS.values()], rows[:_ROWS], text=(0, 1, len(_COLUMNS)))
    return (
        listed
        + _left_out(len(rows), "sites.csv")
        + _links(run)
        + note(
            "RMSE of NEP in gC m-2 d-1, of the test days, of the fit days where there are none; the sites that gained most first. "
            "NEP is positive when the land is a sink (NEP = -NEE)."
        )
    )


def _left_out(rows: int, file: str) -> str:
    return note(f"... and {rows - _ROWS} more, see {file}.") if rows > _ROWS else ""


def _links(run: SitesRun) -> str:
    """Return links to the sites' own reports, relative to this page."""
    own = [path for path in sorted((run.folder / "sites").glob("*/report.html"))][:_ROWS]
    items = ", ".join(f"<a href='sites/{quote(path.parent.name)}/report.html'>{escape(path.parent.name)}</a>" for path in own)
    return f"<p>Reports of single sites: {items}.</p>" if own else ""


def roles_table(run: SitesRun) -> str:
    """Return RMSE before and after by site and role."""
    scores = run.metrics
    if not len(scores):
        return ""
    wide = scores.pivot_table(index=["site", "flux"], columns=["role", "run"], values="rmse", sort=False)
    rows = []
    for (site, flux), row in zip(wide.index, wide.to_dict("records"), strict=True):
        errors = [(row.get((role, "prior"), float("nan")), row.get((role, "optimum"), float("nan"))) for role in _ROLES]
        rows.append([site, flux_name(flux), *(text for pair in errors for text in (*map(number, pair), _less(*pair)))])
    labels = [f"{role}: {what}" for role in _ROLES for what in ("prior", "optimum", "change")]
    listed = table(["site", "flux", *labels], rows[:_ROWS], text=(0, 1)) + _left_out(len(rows), "metrics.csv")
    return folded("RMSE of each role at every site", listed)


def has_posterior(run: SitesRun) -> bool:
    """Say whether the uncertainty of a site was quantified."""
    return len(run.fitted) > 0 and "class" in run.parameters and bool((run.parameters["class"] != "").any())


def information(run: SitesRun) -> str:
    """Return how many parameters of each class every site has, and at how many sites each parameter has it; nothing without."""
    if not has_posterior(run):
        return ""
    known = run.parameters[run.parameters["class"] != ""]
    sites = run.fitted.set_index("site").reindex(columns=list(_INFORMATION)).rename(columns=_INFORMATION)
    by_site = _classes(known, "site").join(sites).reset_index()
    by_parameter = _classes(known, "name").reset_index().rename(columns={"name": "parameter"})
    return (
        "<h3>Which sites carry the information: parameters by class</h3>"
        + records(by_site.head(_ROWS).astype(object).map(_plain).to_dict("records"))
        + _left_out(len(by_site), "sites.csv")
        + note(
            "Rank: directions of the parameters that the data know better than the prior. Coverage: share of the test days inside "
            "their band, which should be 0.9."
        )
        + folded("At how many sites each parameter is determined", records(by_parameter.astype(object).to_dict("records")))
    )


def _classes(known: pd.DataFrame, by: str) -> pd.DataFrame:
    """Count the rows of each class, by site or by parameter, those with most that is determined first."""
    counts = pd.crosstab(known[by], known["class"]).reindex(list(dict.fromkeys(known[by])))
    kinds = [kind for kind in CLASSES if kind in counts]
    return counts[kinds].sort_values(kinds[0], ascending=False, kind="stable").rename_axis(columns=None)


def cost_of_sharing(run: SitesRun) -> str:
    """Return the error of each site fitted alone and together."""
    if run.skill is None:
        return ""
    means = run.skill.groupby("role", sort=False)[["prior", "alone", "together"]].mean()
    rows = [[role, number(m["prior"]), number(m["alone"]), number(m["together"]), _less(m["prior"], m["alone"]),
             _less(m["prior"], m["together"])] for role, m in means.iterrows()]  # fmt: skip
    every = records(run.skill.head(_ROWS).astype(object).to_dict("records"))
    return (
        table(["days", "prior", "alone", "together", "alone, change", "together, change"], rows, text=(0,))
        + note("Mean RMSE over the sites [gC m-2 d-1]: a set of parameters of each site alone, and one that sites share.")
        + folded("Every site", every)
    )


def _less(before: float, after: float) -> str:
    return f"{100 * (after / before - 1):+.0f} %" if before > 0 and after >= 0 else ""


def shared_values(run: SitesRun) -> str:
    """Return the values that sites share."""
    return "" if run.shared is None else folded("Shared values", records(run.shared.astype(object).to_dict("records")))


def unseen_table(run: SitesRun) -> str:
    """Return the error of each site with parameters from a fit that had not seen it."""
    if run.unseen is None or not len(run.unseen):
        return ""
    found = run.unseen
    better = int((found["unseen"] < found["prior"]).sum())
    known = int(found["unseen"].notna().sum())
    return (
        f"<p>Better than the prior at {better} of {known} sites that the fit had not seen.</p>"
        + records(found.head(_ROWS).astype(object).to_dict("records"))
        + note("RMSE over the observed days [gC m-2 d-1]; unseen: with parameters that only the other sites have determined.")
    )


def failures(run: SitesRun) -> str:
    """Return why sites have no result."""
    failed = run.failed
    rows = [[row["site"], row["message"]] for row in failed.to_dict("records")]
    return table(["site", "reason"], rows[:_ROWS], text=(0, 1)) + _left_out(len(rows), "sites.csv") if rows else ""


def _plain(value: Any) -> Any:
    """Return whole numbers as such, which a table with gaps holds as real ones."""
    return int(value) if isinstance(value, float) and value.is_integer() else value
