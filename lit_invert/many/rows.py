"""What a site leaves in the tables of a run over many."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from ..catalogue import SiteEntry
from ..fit import UNDRAWN, UNQUANTIFIED
from ..results import RunTables
from .store import FAILED

_SCORES = ("rmse", "bias", "r", "nse", "kge")
_RUNS = ("prior", "optimum", "resimulated")
#: What stands between two pieces of advice in one cell.
BETWEEN = " | "
#: What the posterior says of a parameter; empty where there is none, so that the rows of all sites have the same columns.
POSTERIOR_COLUMNS = ("p05", "p50", "p95", "sd_reduction_percent", "class", "traded_with")
#: Columns of the table of sites, in order.
SITE_COLUMNS = (
    "site", "status", "message", "latitude", "longitude", "plant_type", "prior", "days", "fit_days", "select_days", "test_days",
    "rmse_prior", "rmse_optimum", "rmse_change_percent", "loss_prior", "loss_optimum", "iterations", "seconds",
    "parameter_distance", "at_bound", "rank", "determined", "n_eff", "coverage_test", "checks_passed", "advice",
)  # fmt: skip


def site_row(entry: SiteEntry, tables: RunTables) -> dict[str, Any]:
    """Return a site's row of the table of sites; scores are those of the `test` days, of the `fit` days where there are none."""
    metrics, result = tables.metrics, tables.result
    target, roles = metrics["target"], metrics["roles"]
    days = {role: roles[role].get(target, {"n": 0}) for role in ("fit", "select", "test")}
    scored = days["test"] if days["test"]["n"] else days["fit"]
    return {
        **_known(entry),
        "status": metrics["status"],
        "message": metrics["message"],
        "latitude": metrics["latitude"],
        "days": len(tables.fluxes),
        **{f"{role}_days": score["n"] for role, score in days.items()},
        "rmse_prior": scored["prior"]["rmse"],
        "rmse_optimum": scored["optimum"]["rmse"],
        "rmse_change_percent": scored["rmse_change_percent"],
        "loss_prior": result.loss_prior["loss/total"],
        "loss_optimum": result.loss_optimum["loss/total"],
        "iterations": result.iterations,
        "seconds": result.seconds,
        "parameter_distance": metrics["parameter_distance"]["prior_sd"],
        "at_bound": " ".join(metrics["at_bound"]),
        **_uncertainty(metrics.get("uncertainty")),
        "checks_passed": " ".join(check["check"] for check in metrics["checks"] if check["outcome"] == "pass"),
        "advice": BETWEEN.join(
            [
                *(f"{check['check']}: {check['message']}" for check in metrics["checks"] if check["outcome"] != "pass"),
                *(sentence for sentence in metrics["advice"] if sentence.startswith((UNQUANTIFIED, UNDRAWN))),
            ]
        ),
    }


def _uncertainty(summary: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return what the data determined at a site, and the share of its test days inside their band; nothing without a posterior."""
    if summary is None:
        return {}
    return {
        "rank": summary["rank"],
        "determined": " ".join(summary["determined"]),
        "n_eff": summary["n_eff"],
        "coverage_test": summary["coverage"]["test"]["share"],
    }


def failed_row(entry: SiteEntry, reason: str) -> dict[str, Any]:
    """Return the row of a site that has no result."""
    return {**_known(entry), "status": FAILED, "message": " ".join(reason.split()), "latitude": entry.data.latitude}


def _known(entry: SiteEntry) -> dict[str, Any]:
    return {"site": entry.name, "longitude": entry.longitude, "plant_type": entry.plant_type, "prior": entry.prior}


def metric_rows(entry: SiteEntry, tables: RunTables) -> list[dict[str, Any]]:
    """Return a site's scores, one row a flux, role and run."""
    return [
        {"site": entry.name, "flux": flux, "role": role, "run": run, "n": score["n"], **{k: score[run][k] for k in _SCORES}}
        for role, fluxes in tables.metrics["roles"].items()
        for flux, score in fluxes.items()
        for run in _RUNS
        if run in score and score["n"]
    ]


def parameter_rows(entry: SiteEntry, tables: RunTables) -> pd.DataFrame:
    """Return a site's parameters, one row each, without what is the same for all, and with what the posterior says of them."""
    frame, known = tables.parameters.drop(columns="description"), tables.more.get("posterior.csv")
    posterior = known if isinstance(known, pd.DataFrame) else pd.DataFrame(columns=["name", *POSTERIOR_COLUMNS])
    frame = frame.merge(posterior[["name", *POSTERIOR_COLUMNS]], on="name", how="left")
    frame.insert(0, "site", entry.name)
    return frame


def to_tables(
    sites: Sequence[dict[str, Any]], metrics: Sequence[dict[str, Any]], parameters: Sequence[pd.DataFrame]
) -> dict[str, pd.DataFrame]:
    """Return the rows of a chunk as the three tables of :class:`~lit_invert.many.store.Store`."""
    return {
        "sites": pd.DataFrame(list(sites), columns=list(SITE_COLUMNS)),
        "metrics": pd.DataFrame(list(metrics), columns=["site", "flux", "role", "run", "n", *_SCORES]),
        "parameters": pd.concat(parameters, ignore_index=True) if parameters else pd.DataFrame(),
    }
