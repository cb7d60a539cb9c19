"""The run itself: the fit, the checks before it, and where everything came from."""

from __future__ import annotations

from html import escape

from ...results import Run
from ..html import number, pairs, table


def fit_summary(run: Run) -> str:
    """Return how the fit ended, and its loss by term."""
    metrics, loss = run.metrics, run.metrics["loss"]
    rows = [[key, number(loss["prior"][key]), number(loss["optimum"].get(key))] for key in loss["prior"]]
    return (
        f"<p>{metrics['iterations']} iterations in {number(metrics['seconds'])} s; best iterate {metrics['best_iteration']}, by "
        f"{escape(metrics['monitor'])}. Status: {escape(metrics['status'])}.</p>"
        + table(["loss", "prior", "optimum"], rows, text=(0,))
    )


def checks(run: Run) -> str:
    """Return what the checks before the fit found."""
    rows = [[check["check"], check["outcome"], check["message"]] for check in run.metrics["checks"]]
    return "<h3>Checks before the fit</h3>" + table(["check", "outcome", "what was found"], rows, text=(0, 1, 2)) if rows else ""


def provenance(run: Run) -> str:
    """Return command, seed, versions and hashes."""
    return pairs(run.provenance)
