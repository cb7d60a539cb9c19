"""Does the surrogate answer the weather as plants and soils do?

Some responses are known before any tower has measured: more light or carbon dioxide does not lower photosynthesis, warmer soil
does not slow the decay of its carbon, fluxes of one direction have one sign. A surrogate that has learnt a season by heart may fit
and break them, and what is inverted with it then stands for something else.

Only what holds at once is sure. Over a season more light also means drier soil and so may mean less photosynthesis: held for
months, the process model itself does that. So a driver is moved on five days in every twenty, in steps over a plausible range and
inside the trained one, and each of those windows is judged by its own mean flux. A violation is a change between neighbouring
steps that has the wrong sign and is larger than a hundredth of the flux; windows where the flux is below a tenth of its peak are
left out. So counted, the process model that comes with lit-invert has no violation. Values that are not finite are left out, and so
are days of the warm-up.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from lit_invert import InversionProblem, RunInfo, Site, Variable, Verdict

from .points import prior_points
from .settings import settings_of
from .simulation import simulate_counted, simulate_scaled

#: Share of the windows with a violation above which a response is not the known one [-].
VIOLATION_LIMIT = 0.05
#: Change of the wrong sign that is not counted, as a share of the flux [-].
TOLERANCE = 0.01
#: Windows whose flux is below this share of the largest window's are left out [-].
LEAST_FLUX = 0.1
#: Days of a window, and days from one window to the next.
WINDOW, PERIOD = 5, 20


@dataclass(frozen=True)
class Response:
    """A flux that does not fall when drivers rise together."""

    flux: str
    drivers: tuple[str, ...]
    steps: tuple[float, ...]
    """From low to high: factors of the drivers, or what is added to them in the unit of the spec."""
    move: Callable[[Tensor, float], Tensor]
    source: str

    @property
    def name(self) -> str:
        """What should hold, in words."""
        return f"{self.flux} does not fall with {' and '.join(self.drivers)}"


@dataclass(frozen=True)
class Sign:
    """A flux, or a difference of two, that is not negative."""

    flux: str
    less: str | None = None
    """The flux that is taken off."""

    @property
    def name(self) -> str:
        """What should hold, in words."""
        return f"{self.flux} is not negative" if self.less is None else f"{self.less} does not exceed {self.flux}"


#: Light and carbon dioxide feed photosynthesis, warmth speeds decay.
RESPONSES = (
    Response("gpp", ("dswrf",), (0.8, 0.9, 1.0, 1.1, 1.2), torch.mul, "Monteith (1972), doi:10.2307/2401901"),
    Response("gpp", ("aco2",), (-40.0, -20.0, 0.0, 20.0, 40.0), torch.add, "Farquhar et al. (1980), doi:10.1007/BF00386231"),
    Response(
        "rh", ("tmp10_soil", "tmp200_soil"), (-2.0, -1.0, 0.0, 1.0, 2.0), torch.add, "Lloyd and Taylor (1994), doi:10.2307/2389824"
    ),
)
#: Plants fix no less than they respire and keep, and nothing decays backwards.
SIGNS = (Sign("gpp"), Sign("rh"), Sign("gpp", less="npp"))


def check_monotone(problem: InversionProblem, site: Site, run: RunInfo) -> Verdict | None:
    """Ask whether the fluxes answer the weather as is known: failure where a response breaks in more than 5 % of the windows.

    Responses whose flux or drivers the surrogate does not have are left out; None where none is left, or the forcing is a dict.
    """
    if isinstance(problem.forcing, dict):
        return None
    settings = settings_of(run)
    points = prior_points(problem, settings.points, settings.seed)
    names, simulated = problem.surrogate.spec.output_names, simulate_counted(problem, points)
    signs = [sign for sign in SIGNS if {sign.flux, sign.less} - {None} <= set(names)]
    shares = {sign.name: sign_violations(simulated, names, sign) for sign in signs}
    for response in RESPONSES:
        levels = driver_levels(problem.forcing, problem.surrogate.spec.drivers, response)
        if levels is not None and response.flux in names:
            shares[response.name] = response_violations(problem, points, levels, response.flux)
    return _judge(shares, int((~torch.isfinite(simulated)).sum())) if shares else None


def driver_levels(forcing: Tensor, drivers: tuple[Variable, ...], response: Response) -> Tensor | None:
    """Return the weather of each step of a response, changed on the windows' days alone.

    Args:
        forcing: Drivers of the record, (1, T, F).
        drivers: What they are.
        response: Which of them move, and how far.

    Returns:
        A (steps, T, F)-dim tensor within the trained range, where one is known, or the record's own where that is wider; None
        where the surrogate has none of the drivers, or the record no window.
    """
    columns = [i for i, driver in enumerate(drivers) if driver.name in response.drivers]
    if not columns or forcing.shape[1] < PERIOD:
        return None
    is_moved = torch.arange(forcing.shape[1]) % PERIOD >= PERIOD - WINDOW
    levels = forcing.repeat(len(response.steps), 1, 1)
    for i in columns:
        values, driver = forcing[0, :, i], drivers[i]
        low = -math.inf if driver.minimum is None else min(driver.minimum, values.min().item())
        high = math.inf if driver.maximum is None else max(driver.maximum, values.max().item())
        moved = torch.stack([response.move(values, step).clamp(low, high) for step in response.steps])
        levels[..., i] = torch.where(is_moved, moved, values)
    return levels


def response_violations(problem: InversionProblem, points: Tensor, levels: Tensor, flux: str) -> float:
    """Return the share of windows and steps on which a flux falls from one level of the weather to the next.

    Args:
        problem: The problem.
        points: Scaled parameters, (K, P) [-].
        levels: Weathers from low to high, (L, T, F).
        flux: Name of the flux.
    """
    weathers = problem.variant(forcing=levels.repeat_interleave(len(points), 0))
    simulated = simulate_scaled(weathers, points.repeat(len(levels), 1)).unflatten(0, (len(levels), len(points)))
    fluxes = simulated[..., problem.surrogate.spec.output_names.index(flux)].double()
    means = window_means(torch.where(problem.days, fluxes, torch.nan))
    size = means.mean(0).abs()
    is_used = size > LEAST_FLUX * size.amax(-1, keepdim=True)
    falls = means.diff(dim=0) < -TOLERANCE * size
    return int((falls & is_used).sum()) / max(1, len(falls) * int(is_used.sum()))


def window_means(fluxes: Tensor) -> Tensor:
    """Return the mean of each window, (L, K, N), of fluxes (L, K, T), over days finite at every level; zero without any."""
    count = fluxes.shape[-1] // PERIOD
    windows = fluxes[..., : count * PERIOD].unflatten(-1, (count, PERIOD))[..., -WINDOW:]
    is_finite = torch.isfinite(windows).all(0)
    return torch.where(is_finite, windows, 0.0).sum(-1) / is_finite.sum(-1).clamp_min(1)


def sign_violations(simulated: Tensor, names: tuple[str, ...], sign: Sign) -> float:
    """Return the share of days on which a flux has the wrong sign, by more than a hundredth of its mean magnitude.

    Args:
        simulated: Fluxes, (B, T, V) [gC m-2 d-1].
        names: What they are.
        sign: What should hold.
    """
    flux = simulated[..., names.index(sign.flux)]
    rest = flux if sign.less is None else flux - simulated[..., names.index(sign.less)]
    values, size = rest[torch.isfinite(rest)], flux[torch.isfinite(flux)].abs()
    is_wrong = values < -TOLERANCE * size.sum() / max(1, len(size))
    return int(is_wrong.sum()) / max(1, len(values))


def _judge(shares: dict[str, float], left_out: int) -> Verdict:
    sources = {response.name: response.source for response in RESPONSES}
    table = [{"response": name, "violations": share, "source": sources.get(name, "")} for name, share in shares.items()]
    broken = [f"{name} (not so in {share:.1%} of cases)" for name, share in shares.items() if share > VIOLATION_LIMIT]
    value, details = max(shares.values()), {"left_out": left_out, "table": table}
    if broken:
        message = (
            f"the surrogate breaks what is known of ecosystems: {'; '.join(broken)}. Train it on more weather, or constrain it."
        )
        return Verdict("monotone", "fail", message, value, VIOLATION_LIMIT, details)
    message = f"{len(shares)} known responses and signs hold; the worst breaks in {value:.1%} of cases."
    return Verdict("monotone", "pass", message, value, VIOLATION_LIMIT, details)
