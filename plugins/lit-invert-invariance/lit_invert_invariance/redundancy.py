"""Which drivers of the surrogate say the same?

Two drivers that rank all days alike are one piece of information given twice: the data cannot say which of them a flux follows, and
a surrogate trained on both may answer oddly where they part. The one whose absence changes the fluxes less, when it is held at its
mean over the record, can be dropped from the next training.
"""

from __future__ import annotations

import itertools

import numpy as np
import torch
from torch import Tensor

from lit_invert import InversionProblem, Site, Verdict

from .ranking import Series, ranks
from .simulation import simulate_weathers
from .spread import flux_spread
from .validator import REDUNDANCY_THRESHOLD, judge_redundancy


def check_redundancy(problem: InversionProblem, site: Site) -> Verdict | None:
    """Ask whether two drivers rank the days alike: advice above a correlation of 0.95, either sign.

    None where the forcing is a dict of windows.
    """
    if isinstance(problem.forcing, dict):
        return None
    names = [driver.name for driver in problem.surrogate.spec.drivers]
    matrix = rank_correlations(problem.forcing[0, problem.days[0]].double().numpy())
    pairs = [(i, j, matrix[i, j].item()) for i, j in itertools.combinations(range(len(names)), 2)]
    redundant = [(i, j, rho) for i, j, rho in pairs if judge_redundancy(rho) == "advice"]
    value = max((abs(rho) for _, _, rho in pairs), default=0.0)
    influence = driver_influence(problem, problem.forcing) if redundant else []
    table = [
        {"driver": names[i], "other": names[j], "rho": rho, "droppable": names[i if influence[i] < influence[j] else j]}
        for i, j, rho in redundant
    ]
    details = {"drivers": names, "matrix": matrix.tolist(), "table": table}
    if not redundant:
        message = f"no two drivers rank the days alike; the largest correlation is {value:.2f}."
        return Verdict("redundancy", "pass", message, value, REDUNDANCY_THRESHOLD, details)
    shown = "; ".join(f"{row['driver']} and {row['other']} ({row['rho']:.2f}; drop {row['droppable']})" for row in table)
    message = f"drivers that rank the days alike: {shown}. The one to drop changes the fluxes less when held at its mean."
    return Verdict("redundancy", "advice", message, value, REDUNDANCY_THRESHOLD, details)


def rank_correlations(values: Series) -> Series:
    """Return the rank correlation of each two columns of (T, F), an (F, F)-dim array; zero with a column that does not vary."""
    centred = np.stack([ranks(column) for column in values.T], axis=1) - (len(values) + 1) / 2
    length = np.sqrt(np.square(centred).sum(0))
    directions = centred / np.where(length > 0, length, 1.0)
    return np.asarray((directions.T @ directions).clip(-1.0, 1.0))


def driver_influence(problem: InversionProblem, forcing: Tensor) -> list[float]:
    """Return the RMS change of the fluxes, in their spread, when each driver is held at its mean over the record (1, T, F)."""
    count = forcing.shape[-1]
    held = forcing.repeat(count, 1, 1)
    places = torch.arange(count)
    held[places, :, places] = forcing.mean(1).T.expand(-1, forcing.shape[1])
    simulated = simulate_weathers(problem, torch.cat([forcing, held])).double()
    changes = (simulated[1:] - simulated[:1]) / flux_spread(simulated[:1])
    return torch.where(torch.isfinite(changes), changes, 0.0).square().mean((1, 2)).sqrt().tolist()
