"""What a reader of the scores should know before believing them, in sentences: one a fault."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..baselines import BASELINES
from ..metrics import flux_name

#: A distance that fewer than one training member in a hundred reaches is beyond the surrogate's support [%].
_FAR = 99.0


def advise(metrics: Mapping[str, Any]) -> list[str]:
    """Say in sentences what a reader of the scores should know before believing them.

    Args:
        metrics: The other keys of metrics.json.

    Returns:
        Sentences; an empty list when there is nothing to say.
    """
    return [
        *_generalisation(metrics),
        *_lost_to_baselines(metrics),
        *_bounds(metrics),
        *_trust(metrics),
        *_plausibility(metrics),
        *_misled(metrics),
    ]


def _scores(metrics: Mapping[str, Any], role: str) -> Mapping[str, Any]:
    scores: Mapping[str, Any] = metrics["roles"][role].get(metrics["target"], {"n": 0})
    return scores


def _generalisation(metrics: Mapping[str, Any]) -> list[str]:
    test, advice = _scores(metrics, "test"), []
    if test["n"] == 0:
        return ["No test days were held back, so nothing here shows that the parameters hold beyond the days they were fitted to."]
    if test["rmse_change_percent"] > 0:
        advice.append(f"On the test days the {flux_name(metrics['target'])} RMSE rose: these parameters do not generalise.")
    if test["optimum"]["nse"] < 0:
        advice.append(
            f"On the test days the optimum is no better than the mean of the observations (NSE {test['optimum']['nse']:.2f}): "
            "a smaller error is not yet skill."
        )
    return advice


def _lost_to_baselines(metrics: Mapping[str, Any]) -> list[str]:
    """Name the baselines that predict the test days better than the optimum; the prior run has a sentence of its own."""
    known = metrics["baselines"].get("test", {})
    better = [name for name in BASELINES if name in known and known["skill"][name] < 0]
    if not better:
        return []
    rivals = " and ".join(f"the {BASELINES[name]} of the fit days ({known[name]['rmse']:.2f} gC m-2 d-1)" for name in better)
    own = _scores(metrics, "test")["optimum"]["rmse"]
    return [f"On the test days the optimum (RMSE {own:.2f}) is worse than {rivals}: the process model adds no skill there."]


def _bounds(metrics: Mapping[str, Any]) -> list[str]:
    if not metrics["at_bound"]:
        return []
    names = ", ".join(metrics["at_bound"])
    return [f"At a bound of its range: {names}. The data ask for values that the table forbids, or cannot tell."]


def _trust(metrics: Mapping[str, Any]) -> list[str]:
    """Say where the fit is better than the surrogate deserves, and where the surrogate was never trained."""
    fit, support, advice = _scores(metrics, "fit"), metrics.get("support"), []
    known = None if support is None else support["error"]
    error = metrics["surrogate"]["accuracy"].get(metrics["target"]) if known is None else known["rmse"]
    if fit["n"] and error is not None and fit["optimum"]["rmse"] < error:
        advice.append(
            f"The fit's RMSE ({fit['optimum']['rmse']:.2f}) is below the surrogate's own error ({error:.2f} gC m-2 d-1"
            f"{'' if known is None else ', ' + known['source']}): part of it fits the surrogate, not the ecosystem."
        )
    if support is None:
        return advice
    if support["outside"]:
        advice.append(
            f"Outside what the surrogate was trained on: {', '.join(support['outside'])}. There it extrapolates; re-simulate."
        )
    elif support["percentile"] > _FAR:
        advice.append(
            f"The optimum lies farther from the middle of what the surrogate was trained on than {support['percentile']:.1f} % of "
            "points of the training box: the surrogate is least tried there; re-simulate."
        )
    return advice


def _plausibility(metrics: Mapping[str, Any]) -> list[str]:
    """Tell a flux that the fit drove out of its band from one that was outside before."""
    role = "test" if _scores(metrics, "test")["n"] else "fit"
    score, target = _scores(metrics, role), flux_name(metrics["target"])
    improved = score["n"] and score["optimum"]["rmse"] < score["prior"]["rmse"]
    advice = []
    for band in metrics["plausibility"]:
        if band["plausible"]["optimum"]:
            continue
        said = (
            f"{flux_name(band['quantity'])} at the optimum is {band['optimum']:.3g}, outside the plausible "
            f"{band['low']:g} to {band['high']:g}{'' if band['unit'] == '-' else ' ' + band['unit']}"
        )
        if improved and band["plausible"]["prior"]:
            advice.append(
                f"Equifinality: {said}, where the prior's {band['prior']:.3g} was inside, while the {target} RMSE of the {role} "
                f"days fell from {score['prior']['rmse']:.2f} to {score['optimum']['rmse']:.2f}: "
                f"{target} is right for the wrong reason."
            )
        else:
            advice.append(f"{said}: {target} may be right for the wrong reason.")
    return advice


def _misled(metrics: Mapping[str, Any]) -> list[str]:
    test = _scores(metrics, "test")
    if "resimulated" not in test or not test["n"] or test["resimulated"]["rmse"] < test["prior"]["rmse"]:
        return []
    return ["The process model itself does not fit the test days better at these parameters: the surrogate misled the fit."]
