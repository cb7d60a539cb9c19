"""Terms on the fluxes of a whole run: carbon that is conserved, and the share of it that plants keep."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from lit_invert import Evaluation, LitInvertError, SquaredTerm


class CarbonBalance(SquaredTerm):
    r"""Closure of the carbon budget, day by day.

    .. math:: L = \frac{1}{T} \sum_{t=1}^{T} \left( NEP_t - (NPP_t - Rh_t) \right)^2 + \max(0,\, NPP_t - GPP_t)^2

    A surrogate learns its outputs side by side and need not keep the sums that its process model keeps. Needs the outputs `gpp`,
    `npp`, `nep` and `rh`.

    Args:
        weight: Factor of the term in the total.

    Source:
        Chapin et al. (2006), Ecosystems 9, 1041-1050, doi:10.1007/s10021-005-0105-7.
    """

    name = "carbon_balance"

    def __init__(self, weight: float = 1.0) -> None:
        super().__init__(weight)

    def residuals(self, evaluation: Evaluation) -> Tensor:
        """Return the gaps of each member, a (B, 2 T)-dim tensor, whose squares sum to the mean [gC m-2 d-1]."""
        gpp, npp, nep, rh = (evaluation.flux(name) for name in ("gpp", "npp", "nep", "rh"))
        gaps = torch.stack([nep - (npp - rh), functional.relu(npp - gpp)], dim=1)
        days = evaluation.days[:, None]
        return (torch.where(days, gaps, 0.0) / days.sum(-1, keepdim=True).clamp_min(1).to(gaps).sqrt()).flatten(1)


class CarbonUseEfficiency(SquaredTerm):
    r"""Carbon-use efficiency NPP/GPP of the whole run within its observed range.

    .. math:: L = \max(0,\, c_{low} \overline{GPP} - \overline{NPP})^2 + \max(0,\, \overline{NPP} - c_{high} \overline{GPP})^2

    Written without a division, in the unit of the misfit, so that it is smooth also where nothing is fixed. Forests keep 0.23 to
    0.83 of what they fix, 0.53 on average (DeLucia et al. 2007); 0.47 is often taken as a constant (Waring et al. 1998).

    Args:
        low: Smallest plausible efficiency [-].
        high: Largest plausible efficiency [-].
        weight: Factor of the term in the total.

    Raises:
        LitInvertError: If `low` is not below `high`.

    Source:
        DeLucia et al. (2007), Global Change Biology 13, 1157-1167, doi:10.1111/j.1365-2486.2007.01365.x;
        Waring, Landsberg and Williams (1998), Tree Physiology 18, 129-134, doi:10.1093/treephys/18.2.129.
    """

    name = "carbon_use_efficiency"

    def __init__(self, low: float = 0.3, high: float = 0.7, weight: float = 1.0) -> None:
        super().__init__(weight)
        if not low < high:
            raise LitInvertError(f"loss term {self.name!r}: low is {low!r} and high is {high!r}, expected low < high.")
        self.low, self.high = low, high

    def residuals(self, evaluation: Evaluation) -> Tensor:
        """Return the distance of each member from both ends of the range, a (B, 2)-dim tensor [gC m-2 d-1]."""
        gpp, npp = evaluation.mean(evaluation.flux("gpp")), evaluation.mean(evaluation.flux("npp"))
        return functional.relu(torch.stack([self.low * gpp - npp, npp - self.high * gpp], dim=-1))
