"""What sharing is worth at sites that were not fitted.

A parameter that sites share fits each of them worse than one of its own would: that is the *loss of skill*, and small where the
sites are alike. In return there are parameters for a site without a tower. How good these are is asked of every tower in turn: it
is left out, the others are fitted, and the parameters that they lend it are scored on its days.
"""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
import torch
from torch import Tensor

from ..losses.misfit import masked_mean_square
from ..problem import InversionProblem
from .fitting import SharedFit
from .hierarchy import HierarchicalFit, fit_plan
from .objective import priors_of
from .plan import SharingPlan


def predict_parameters(
    problem: InversionProblem, plan: SharingPlan, fitted: SharedFit, group: str, prior: Tensor | None = None
) -> Tensor:
    """Return parameters for a site that was not fitted.

    Shared ones are those of its group, hierarchical ones their mean there, its own ones at their prior.

    Args:
        problem: The problem of the fitted sites.
        plan: How they share parameters.
        fitted: Where their fit ended.
        group: Group of the site.
        prior: The site's own prior in the table's units, (P,); the table's when omitted.

    Returns:
        A (P,)-dim tensor in the optimiser's coordinates.

    Raises:
        ConfigError: If no site of its group was fitted and some parameter needs one.
    """
    space = problem.space
    physical = space.table.prior.to(space.prior) if prior is None else prior.to(space.prior)
    if isinstance(fitted, HierarchicalFit):
        center = fitted.population.center[plan.group_of(group)].to(physical)
        scaled = space.scaler.to_scaled(physical).index_copy(0, plan.hierarchical, center)
        physical = space.bounds.clip(torch.where(space.fixed, physical, space.scaler.to_physical(scaled)))
    return plan.values_for(fitted.gamma, group, space.to_theta(physical))


@torch.no_grad()
def score(
    problem: InversionProblem, theta: Tensor, observed: Tensor, mask: Tensor, target: str = "nep", sites: Tensor | None = None
) -> Tensor:
    """Return the target's RMSE at each site, (S,) [gC m-2 d-1]; NaN at a site without an observed day.

    Args:
        problem: The problem of the sites.
        theta: Their parameters, (S, P).
        observed: Observed fluxes of all members of the problem, (B, T, V) [gC m-2 d-1]; NaN where there is none.
        mask: True on the days to score, the same shape.
        target: The flux.
        sites: Which members of the problem the sites are, (S,); None: all, in order.
    """
    place = problem.surrogate.spec.output_names.index(target)
    rows = slice(None) if sites is None else sites
    days = mask[rows, :, place]
    simulated = problem.evaluate(theta, sites).simulated[..., place]
    error = masked_mean_square(simulated, torch.where(days, observed[rows, :, place], 0.0), days).sqrt()
    return torch.where(days.any(-1), error, torch.nan)


def leave_one_out(
    problem: InversionProblem,
    plan: SharingPlan,
    fitted: SharedFit,
    observed: Tensor,
    mask: Tensor,
    target: str = "nep",
    chosen: Sequence[int] | None = None,
    is_bounded: bool = True,
) -> pd.DataFrame:
    """Fit the sites without one of them, from where the whole fit ended, and score what they lend it; in turn.

    Args:
        problem: The problem of the sites.
        plan: How they share parameters.
        fitted: Where the fit of all of them ended.
        observed: Observed fluxes, (S, T, V) [gC m-2 d-1].
        mask: True on the days to score, the same shape: those of all roles that a fit may see.
        target: The flux.
        chosen: Which sites are left out in turn; all when omitted.
        is_bounded: Whether parameters must stay inside the table's bounds.

    Returns:
        One row a site, by its number: `group`, and the RMSE at the `prior`, with the whole fit (`seen`) and with that of the others
        (`unseen`) [gC m-2 d-1]. The last is NaN for the only site of a group that has values of its own.
    """
    chosen = list(range(plan.sites)) if chosen is None else list(chosen)
    lent = torch.stack([_lend(problem, plan, fitted, site, is_bounded) for site in chosen])
    sites = torch.tensor(chosen, device=lent.device)
    rmse = {
        name: score(problem, theta, observed, mask, target, sites).double().tolist()
        for name, theta in (("prior", priors_of(problem, sites)), ("seen", fitted.theta[sites]), ("unseen", lent.nan_to_num()))
    }
    table = pd.DataFrame({"group": _names(plan, chosen), **rmse}, index=pd.Index(chosen, name="site"))
    return table.assign(unseen=table["unseen"].where(lent.isfinite().all(-1).numpy()))


def _lend(problem: InversionProblem, plan: SharingPlan, fitted: SharedFit, site: int, is_bounded: bool) -> Tensor:
    """Return what the other sites lend to one, (P,), in the optimiser's coordinates; NaN if its group has no other site."""
    prior = problem.space.rows(torch.tensor([site])).priors[0]
    needs_group = len(plan.of_group) + len(plan.hierarchical) > 0
    if needs_group and int((plan.group == plan.group[site]).sum()) == 1:
        return torch.full_like(prior, torch.nan)
    others = torch.tensor([other for other in range(plan.sites) if other != site])
    rest = plan.without(site)
    fit = fit_plan(problem, rest, sites=others, start=fitted.without(site), is_bounded=is_bounded)
    return predict_parameters(problem, rest, fit, plan.groups[plan.group[site]], prior)


def _names(plan: SharingPlan, sites: Sequence[int]) -> list[str]:
    return [plan.groups[plan.group[site]] for site in sites]
