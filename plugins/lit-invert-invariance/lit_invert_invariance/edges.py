"""What does the surrogate do at the edges of the parameter box?

An inversion that lacks data ends on a bound, so the surrogate must be as good there as inside: fluxes of a plausible size, and no
jump. One free parameter at a time is put on each of its bounds, and one and two hundredths of its range inside, the others at
their prior. A jump is a last step that changes some flux on some day by more than a small share of its spread, and by much more
than the step before did. Values that are not finite are left out: that is what `nan` asks.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from lit_invert import InversionProblem, Site, Verdict
from lit_invert.observations import LARGEST_FLUX

from .points import edge_points, prior_point
from .simulation import simulate_counted
from .spread import flux_spread, largest_flux

#: A jump: the last step to a bound changes a flux this many times more than the step before [-],
JUMP_RATIO = 10.0
#: and by more than this share of the flux's spread over the record [-].
JUMP_SHARE = 0.1
_DEPTH = 0.01
_SHOWN = 10


@dataclass(frozen=True)
class Edge:
    """One parameter on one of its bounds."""

    parameter: str
    bound: str
    largest: float
    """Largest magnitude of a flux there [gC m-2 d-1]."""
    last_step: float
    """Largest change over the last hundredth of the range, as a share of the flux's spread [-]."""
    has_jump: bool
    left_out: int
    """Values there that are not finite."""


def check_edges(problem: InversionProblem, site: Site) -> Verdict:
    """Ask whether fluxes on the bounds are plausible: failure above 100 gC m-2 d-1, advice at a jump."""
    edges = look_at_edges(problem)
    worst = max(edges, key=lambda edge: edge.largest)
    jumps = [f"{edge.bound} bound of {edge.parameter!r}" for edge in edges if edge.has_jump]
    shown = sorted(edges, key=lambda edge: (edge.has_jump, edge.largest), reverse=True)[:_SHOWN]
    details = {"table": [vars(edge) for edge in shown]}
    if worst.largest > LARGEST_FLUX:
        message = (
            f"at the {worst.bound} bound of {worst.parameter!r} a flux of {worst.largest:.3g} gC m-2 d-1 is simulated, which no "
            "ecosystem has; narrow the bounds, or train the surrogate on the whole box."
        )
        return Verdict("edges", "fail", message, worst.largest, LARGEST_FLUX, details)
    if jumps:
        message = f"fluxes jump at the {', the '.join(jumps)}; an inversion may get stuck there."
        return Verdict("edges", "advice", message, worst.largest, LARGEST_FLUX, details)
    message = f"fluxes on the bounds stay within {worst.largest:.3g} gC m-2 d-1 and have no jump."
    return Verdict("edges", "pass", message, worst.largest, LARGEST_FLUX, details)


def look_at_edges(problem: InversionProblem) -> list[Edge]:
    """Return what the fluxes do at both bounds of every free parameter, lower bounds first."""
    at_bound, near, inside = (simulate_counted(problem, edge_points(problem, depth)) for depth in (0.0, _DEPTH, 2 * _DEPTH))
    spread = flux_spread(simulate_counted(problem, prior_point(problem)))
    last, before = (largest_flux(a - b) / spread for a, b in ((at_bound, near), (near, inside)))
    jumps = ((last > JUMP_SHARE) & (last > JUMP_RATIO * before)).any(-1)
    free = [name for name, fixed in zip(problem.space.table.names, problem.space.fixed.tolist(), strict=True) if not fixed]
    places = [(name, bound) for bound in ("lower", "upper") for name in free]
    left_out = (~torch.isfinite(at_bound)).sum((1, 2))
    numbers = zip(*(values.tolist() for values in (largest_flux(at_bound).amax(-1), last.amax(-1), jumps, left_out)), strict=True)
    return [Edge(*place, *values) for place, values in zip(places, numbers, strict=True)]
