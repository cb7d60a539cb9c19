"""The posterior as tables: a row a parameter beside its prior, every draw, and how parameters go together."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd
import torch
from torch import Tensor

from ..problem import InversionProblem
from .identify import Identified, correlate
from .target import Mode, to_theta, unit_bounds
from .truncated import cut_normal

#: Probabilities of the columns `p05` to `p95`.
_PERCENTILES = {"p05": 0.05, "p25": 0.25, "p50": 0.5, "p75": 0.75, "p95": 0.95}
#: Equally likely values that stand for the prior.
_STRATA = 999


def posterior_table(mode: Mode, draws: Tensor, identified: Identified, disagreement: Mapping[str, str]) -> pd.DataFrame:
    """Lay the posterior out beside the prior, one row a parameter.

    Args:
        mode: The mode of one member.
        draws: Draws in prior units, (M, P).
        identified: From :func:`lit_invert.posterior.identify.identify`.
        disagreement: Sentences by name.

    Returns:
        Columns `name`, `unit`, `fixed`; `mode`, `mean`, `sd` and percentiles of the posterior, `prior_p05`, `prior_p50`,
        `prior_p95` and `prior_sd` of the prior cut to its bounds, all in the parameter's unit; `shift_in_sd` of the mode,
        `sd_reduction_percent` and `variance_ratio`, in prior units; `class`, `traded_with` and `disagreement`.
    """
    problem, table = mode.problem, mode.problem.space.table
    values, prior = physical(problem, draws), physical(problem, cut_prior(mode, _STRATA))
    percentiles = {name: torch.quantile(values, p, dim=0).numpy() for name, p in _PERCENTILES.items()}
    before = {f"prior_{name}": torch.quantile(prior, _PERCENTILES[name], dim=0).numpy() for name in ("p05", "p50", "p95")}
    return pd.DataFrame(
        {
            "name": table.names,
            "unit": table.units,
            "fixed": table.fixed.numpy(),
            "mode": physical(problem, mode.units)[0].numpy(),
            "mean": values.mean(0).numpy(),
            "sd": values.std(0).numpy(),
            **percentiles,
            **before,
            "prior_sd": prior.std(0).numpy(),
            "shift_in_sd": mode.units[0].numpy(),
            "sd_reduction_percent": (100 * (1 - identified.variance_ratio.sqrt())).numpy(),
            "variance_ratio": identified.variance_ratio.numpy(),
            "class": identified.classes,
            "traded_with": identified.traded_with,
            "disagreement": [
                "; ".join(filter(None, (leaning, disagreement.get(name, ""))))
                for name, leaning in zip(table.names, identified.leaning, strict=True)
            ],
        }
    )


def sample_table(problem: InversionProblem, draws: Tensor) -> pd.DataFrame:
    """Lay draws in prior units, (M, P), out in physical units: a row a draw, a column a parameter."""
    return pd.DataFrame(physical(problem, draws).numpy(), columns=list(problem.space.table.names))


def correlation_table(problem: InversionProblem, draws: Tensor) -> pd.DataFrame:
    """Return the correlation of draws in prior units, (M, P): column `name`, and one a parameter; zero with a fixed one."""
    names = list(problem.space.table.names)
    frame = pd.DataFrame(correlate(draws).numpy(), columns=names)
    frame.insert(0, "name", names, allow_duplicates=True)
    return frame


def physical(problem: InversionProblem, units: Tensor) -> Tensor:
    """Return parameters in the table's units, (M, P), float64, of parameters in prior units, (M, P)."""
    with torch.no_grad():
        return problem.space.to_physical(to_theta(problem, units)).double()


def cut_prior(mode: Mode, count: int) -> Tensor:
    """Return equally likely values of each parameter under the prior cut to its bounds.

    Args:
        mode: The mode of one member, at whose parameters the bounds are taken.
        count: Number n of values.

    Returns:
        A (count, P)-dim tensor in prior units, ascending; parameter by parameter, not jointly drawn.
    """
    lower, upper = unit_bounds(mode.problem, mode.theta)
    return cut_normal(lower, upper, ((torch.arange(count, dtype=torch.float64) + 0.5) / count)[:, None])
