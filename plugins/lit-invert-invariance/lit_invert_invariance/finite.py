"""Is every simulated value a number?

One value that is not finite spoils every sum that it enters: a loss, a yearly budget, a gradient. A surrogate that gives finite
fluxes at the prior may overflow elsewhere in the box, where an inversion can go, so it is asked at points of the prior, at points
of the box and on its corners, where every parameter is at one of its bounds. The share is that of the worst flux at the worst of
these places, over the days that count: a mean over all would hide a flux that is fitted.
"""

from __future__ import annotations

import torch
from torch import Tensor

from lit_invert import InversionProblem, RunInfo, Site, Verdict

from .points import box_points, corner_points, prior_points
from .settings import settings_of
from .simulation import simulate_counted
from .validator import InvarianceValidator, judge_nan

_PLACES = {"prior": prior_points, "box": box_points, "corners": corner_points}


def check_nan(problem: InversionProblem, site: Site, run: RunInfo) -> Verdict:
    """Ask which share of a flux's simulated values is not finite where that is worst; failure at 5 % or more."""
    settings = settings_of(run)
    shares = {
        place: _shares(simulate_counted(problem, draw(problem, settings.points, settings.seed))) for place, draw in _PLACES.items()
    }
    names = problem.surrogate.spec.output_names
    ratio = torch.stack(list(shares.values())).max().item()
    table = [{"where": place, **dict(zip(names, share.tolist(), strict=True))} for place, share in shares.items()]
    worst = max(table, key=lambda row: max(row[name] for name in names))
    flux = max(names, key=lambda name: worst[name])
    message = (
        f"{ratio:.2%} of the simulated values of {flux!r} are not finite where parameters are drawn from the {worst['where']}."
        if ratio > 0
        else "every simulated value is finite, at points of the prior, of the box and on its corners."
    )
    return Verdict("nan", judge_nan(ratio), message, ratio, InvarianceValidator.NAN_RATIO_THRESHOLD, {"table": table})


def _shares(simulated: Tensor) -> Tensor:
    """Return the share of values that are not finite for each flux, (V,), in float64."""
    return (~torch.isfinite(simulated)).double().mean((0, 1))
