"""Do the fluxes of a day depend on how long the record is, and on where it starts?

Two properties that a process model has and a surrogate may lack. A day's fluxes should not depend on days to come: the first days
of a record, simulated alone, should come out as they do in the whole of it. A network with look-ahead, or one that reads a
climatology of the first year, differs. And a record that starts later starts in a state that the surrogate assumes: how many days
pass until its fluxes are those of the whole record again is the memory of that state, which a warm-up should cover.

Neither can make a surrogate unfit, since one can give it whole years from the same season; so both are advice. Values that are not
finite are left out: that is what `nan` asks.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from lit_invert import InversionProblem, Site, Verdict

from .points import prior_point
from .simulation import simulate_scaled
from .spread import flux_spread

#: Largest change of a flux that a shorter record may bring, as a share of its spread: rounding in float32 [-].
CAUSALITY_TOLERANCE = 1e-3
#: Change below which two runs agree, as a share of a flux's spread [-].
MEMORY_TOLERANCE = 0.05
#: Days by which records are started later.
LATER = (30, 90)
_YEAR = 365


@dataclass(frozen=True)
class Cut:
    """A part of the record, simulated alone."""

    days: str
    change: float
    """Largest change of a flux against the whole record, as a share of its spread [-]."""
    memory: int
    """Days until every change stays below 5 % of the spread."""
    left_out: int
    """Values that are not finite."""


def check_length(problem: InversionProblem, site: Site) -> Verdict | None:
    """Ask whether fluxes depend on later days, and for how long on where the record starts: advice in both cases.

    None where the length of a run is fixed, the forcing is a dict of windows, or the record is too short to be cut.
    """
    days = problem.mask.shape[1]
    shortest = problem.surrogate.spec.shortest_run
    if isinstance(problem.forcing, dict) or problem.surrogate.spec.fixed_length or days < 2 * max(shortest, LATER[-1]):
        return None
    whole = simulate_scaled(problem, prior_point(problem))
    lengths = [length for length in (days // 2, _YEAR) if length < days]
    shorter = [cut(problem, problem.forcing, whole, 0, length) for length in sorted(set(lengths))]
    later = [cut(problem, problem.forcing, whole, start, days) for start in LATER]
    return _judge(shorter, later, problem.surrogate.spec.warmup_days)


def cut(problem: InversionProblem, forcing: Tensor, whole: Tensor, start: int, end: int) -> Cut:
    """Simulate some days at the prior alone, and hold them against the same days of the whole record.

    Args:
        problem: The problem of the whole record.
        forcing: Its drivers, (1, T, F).
        whole: Its fluxes at the prior, (1, T, V) [gC m-2 d-1].
        start: First day.
        end: The day after the last one.
    """
    part = problem.first(end - start).variant(forcing=forcing[:, start:end])
    gap = (simulate_scaled(part, prior_point(problem)) - whole[:, start:end]).abs().double() / flux_spread(whole)
    is_finite = torch.isfinite(gap)
    change = torch.where(is_finite, gap, 0.0).amax((0, 2))
    apart = (change > MEMORY_TOLERANCE).nonzero().flatten()
    memory = int(apart[-1]) + 1 if len(apart) else 0
    return Cut(f"{start + 1} to {end}", change.max().item(), memory, int((~is_finite).sum()))


def _judge(shorter: list[Cut], later: list[Cut], warmup_days: int) -> Verdict:
    """Say what a shorter record and a later start change."""
    change, memory = max(part.change for part in shorter), max(part.memory for part in later)
    details = {"table": [vars(part) for part in (*shorter, *later)], "warmup_days": warmup_days, "memory_days": memory}
    faults = []
    if change > CAUSALITY_TOLERANCE:
        cause = "later days" if shorter[-1].change > CAUSALITY_TOLERANCE else "the whole first year, so give it one"
        faults.append(f"fluxes change by up to {change:.2g} of their spread with days to come: the surrogate looks at {cause}")
    if memory > warmup_days:
        faults.append(
            f"where the record starts is felt for {memory} days, the stated warm-up is {warmup_days}: start it where the training "
            "records did, or leave these days out"
        )
    if faults:
        return Verdict("length", "advice", "; ".join(faults) + ".", float(memory), float(warmup_days), details)
    message = f"fluxes do not depend on later days, and where the record starts is felt for {memory} days, within the warm-up."
    return Verdict("length", "pass", message, float(memory), float(warmup_days), details)
