"""Whether the surrogate is good enough to say what the fit says: four sentences and a verdict."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...results import Run
from ..html import as_rows, described, folded, note, records, sentences
from ..style import flux_name

#: Share of points over the training ranges that are nearer to their middle than an optimum that is called far [%].
_FAR = 95


def surrogate_trust(run: Run) -> str:
    """Return how far the optimum is from what the surrogate was trained on, what it errs there, and a verdict."""
    support = dict(run.metrics.get("support") or {})
    if not support:
        return ""
    parameters = folded("Every parameter", records(as_rows(support["parameters"])))
    numbers = folded("All numbers", described({key: value for key, value in support.items() if key != "parameters"}))
    return (
        "<h3>Distance from what the surrogate was trained on</h3>"
        + sentences(describe_support(support, run.metrics["target"]))
        + note(trust_verdict(support))
        + numbers
        + parameters
    )


def describe_support(support: Mapping[str, Any], target: str) -> list[str]:
    """Say where the optimum lies in the training ranges, how near held-out members are, and what the surrogate errs there.

    Args:
        support: `support` of metrics.json.
        target: The flux that was fitted.

    Returns:
        A sentence on each of the four.
    """
    outside, nearest, error, misfit = (support[key] for key in ("outside", "nearest", "error", "misfit"))
    return [
        f"Outside the range that the surrogate was trained on: {', '.join(outside)}."
        if outside
        else "Every parameter of the optimum lies inside the range that the surrogate was trained on.",
        f"The optimum lies {support['distance']:.2f} sd from the middle of the training ranges; {support['percentile']:.0f} % "
        "of points drawn evenly over them are nearer to it.",
        "No held-out members of the training ensemble lie beside the surrogate."
        if nearest is None
        else f"The nearest held-out member of the training ensemble is {nearest['distance'][0]:.2f} sd a parameter away (half of "
        f"all pairs of members are more than {nearest['between_members']:.2f} apart); at the nearest ones the surrogate's "
        f"{flux_name(target)} errs by {nearest['rmse'][target]:.2f} gC m-2 d-1 RMSE.",
        "How much the surrogate errs at the optimum is not known."
        if error is None
        else f"The error that counts, {error['source']}, is {error['rmse']:.2f} gC m-2 d-1 RMSE: "
        f"{100 * misfit['days_below_error']:.0f} % of the fit days have a smaller residual, and its square is "
        f"{100 * misfit['error_to_misfit']:.0f} % of the mean squared misfit.",
    ]


def trust_verdict(support: Mapping[str, Any]) -> str:
    """Say whether something flags the surrogate at the optimum.

    Example:
        >>> known = {"outside": [], "percentile": 40.0, "nearest": None, "error": {"rmse": 0.2}, "misfit": {"error_to_misfit": 0.1}}
        >>> trust_verdict(known)
        'Surrogate at the optimum: no flag.'
        >>> trust_verdict(known | {"outside": ["pmax"]})
        'Surrogate at the optimum: flagged, for pmax is outside its training range.'
    """
    outside, nearest, misfit = support["outside"], support["nearest"], support["misfit"]
    flags = {
        f"{', '.join(outside)} {'is outside its' if len(outside) == 1 else 'are outside their'} training range": bool(outside),
        "it is farther out than nearly all points of the training ranges": support["percentile"] > _FAR,
        "no held-out member is near": nearest is not None and nearest["distance"][0] > nearest["between_members"],
        "its error is not known": misfit is None,
        "the misfit is below its own error": misfit is not None and misfit["error_to_misfit"] > 1,
    }
    found = [words for words, is_so in flags.items() if is_so]
    return f"Surrogate at the optimum: {'flagged, for ' + ', and '.join(found) if found else 'no flag'}."
