"""A term on the parameters: pools that live long turn over slowly."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torch.nn import functional

from lit_invert import Evaluation, SquaredTerm

#: Pairs (faster, slower) in the parameter names of the shipped process model.
ORDERS = (("sr_l", "sr_h"), ("lf0", "lc0"), ("lr0", "sr_h"))
#: Factors to d-1 of the rates that its table has in another unit.
PER_DAY = {"sr_l": 1e-3, "sr_h": 1e-3}


class TurnoverOrder(SquaredTerm):
    r"""Ecological and dynamic constraints on turnover rates: each pair in its order.

    .. math:: L = \sum_{(f, s)} \max(0,\, \log k_s - \log k_f)^2

    Of the constraints of Bloom and Williams (2015) these are the three that compare turnover rates: litter decays faster than humus
    (their EDC 1), leaves fall faster than stems (EDC 3), roots faster than humus decays (EDC 4; at the reference temperature of 10
    degC). Those on allocation and on pool trajectories need more than parameters and are not here.

    Args:
        orders: Pairs (faster, slower) of parameter names; those of the shipped process model by default.
        per_day: Factor to d-1 of each rate that the table has in another unit.
        weight: Factor of the term in the total.

    Source:
        Bloom and Williams (2015), Biogeosciences 12, 1299-1315, doi:10.5194/bg-12-1299-2015.
    """

    name = "turnover_order"

    def __init__(
        self,
        orders: Sequence[tuple[str, str]] = ORDERS,
        per_day: Mapping[str, float] | None = None,
        weight: float = 1.0,
    ) -> None:
        super().__init__(weight)
        self.orders = [(faster, slower) for faster, slower in orders]
        self.per_day = dict(PER_DAY if per_day is None else per_day)

    def residuals(self, evaluation: Evaluation) -> Tensor:
        """Return the log ratios out of order of each member, a (B, pairs)-dim tensor [-]."""
        excesses = [functional.relu(self._log_rate(s, evaluation) - self._log_rate(f, evaluation)) for f, s in self.orders]
        return torch.stack(excesses, dim=-1)

    def _log_rate(self, name: str, evaluation: Evaluation) -> Tensor:
        rate = evaluation.parameter(name) * self.per_day.get(name, 1.0)
        # Rates are positive in any sensible table; the floor keeps a zero bound from becoming infinite.
        return rate.clamp_min(torch.finfo(rate.dtype).tiny).log()
