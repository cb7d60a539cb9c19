"""What does the surrogate do in weather that it has never seen?

Every use of a surrogate at another place or time asks it this. Each driver alone, and all together, are shifted until the record's
extreme lies a tenth of the trained range beyond that range, or as far as there is such a value on earth. How much larger the
fluxes become than they were on the record says how far to trust them there; no truth is at hand to compare them with, so growth is
advice and only an absurd flux is a failure. Values that are not finite are left out: that is what `nan` asks.
"""

from __future__ import annotations

import torch
from torch import Tensor

from lit_invert import InversionProblem, Site, Variable, Verdict
from lit_invert.forcing import DRIVERS
from lit_invert.observations import LARGEST_FLUX

from .simulation import simulate_weathers
from .spread import largest_flux

#: How far beyond the trained range the weather is moved, as a share of that range [-].
BEYOND = 0.1
#: Growth of a flux's largest value over the record's above which there is advice [-].
GROWTH_ADVICE = 2.0


def check_extrapolation(problem: InversionProblem, site: Site) -> Verdict | None:
    """Ask how far fluxes run away outside the training: failure above 100 gC m-2 d-1, advice above twice those of the record.

    None where the spec states no range of any driver, or the forcing is a dict of windows.
    """
    if isinstance(problem.forcing, dict):
        return None
    weathers = unseen_weathers(problem.forcing, problem.surrogate.spec.drivers)
    if not weathers:
        return None
    simulated = simulate_weathers(problem, torch.cat([problem.forcing, *weathers.values()]))
    size = largest_flux(simulated).double()
    growth = (size[1:] / size[:1].clamp_min(torch.finfo(torch.float32).tiny)).amax(-1)
    left_out = (~torch.isfinite(simulated[1:])).sum((1, 2))
    table = [
        {"weather": name, "largest": flux, "growth": ratio, "left_out": count}
        for name, flux, ratio, count in zip(weathers, size[1:].amax(-1).tolist(), growth.tolist(), left_out.tolist(), strict=True)
    ]
    return _judge(table)


def unseen_weathers(forcing: Tensor, drivers: tuple[Variable, ...]) -> dict[str, Tensor]:
    """Return weathers (1, T, F) outside the training by name: each driver alone and all together, above and below.

    Example:
        >>> wind = Variable("wind", "m s-1", minimum=1.0, maximum=6.0)
        >>> for name, weather in unseen_weathers(torch.tensor([[[2.0], [4.0]]]), (wind,)).items():
        ...     print(name, weather.flatten().tolist())
        wind above [4.5, 6.5]
        wind below [0.5, 2.5]
    """
    weathers = {}
    for side, sign in (("above", 1.0), ("below", -1.0)):
        together, moved = forcing.clone(), 0
        for i, driver in enumerate(drivers):
            values = _moved(forcing[..., i], driver, sign)
            if values is None:
                continue
            alone = forcing.clone()
            alone[..., i] = together[..., i] = values
            weathers[f"{driver.name} {side}"] = alone
            moved += 1
        if moved > 1:
            weathers[f"all {side}"] = together
    return weathers


def _moved(values: Tensor, driver: Variable, sign: float) -> Tensor | None:
    """Return a driver shifted beyond its trained range on one side; None where no range is known or nothing lies beyond."""
    if driver.minimum is None or driver.maximum is None:
        return None
    margin = BEYOND * (driver.maximum - driver.minimum)
    shift = driver.maximum + margin - values.max() if sign > 0 else driver.minimum - margin - values.min()
    shifted = values + shift
    kind = DRIVERS.get(driver.name)
    if kind is not None and kind.unit == driver.unit:
        shifted = shifted.clamp(kind.minimum, kind.maximum)
    is_beyond = bool((shifted > driver.maximum).any() if sign > 0 else (shifted < driver.minimum).any())
    return shifted if is_beyond else None


def _judge(table: list[dict[str, str | float]]) -> Verdict:
    size, weather = max((float(row["largest"]), row["weather"]) for row in table)
    details = {"table": table}
    if size > LARGEST_FLUX:
        message = (
            f"with {weather} the trained range a flux of {size:.3g} gC m-2 d-1 is simulated, which no ecosystem has; "
            "keep to the weather of the training."
        )
        return Verdict("extrapolation", "fail", message, size, LARGEST_FLUX, details)
    growth, weather = max((float(row["growth"]), row["weather"]) for row in table)
    message = f"outside the trained weather fluxes reach {growth:.2g} times those of the record (with {weather} it)" + (
        "; do not trust them there." if growth > GROWTH_ADVICE else "."
    )
    return Verdict("extrapolation", "advice" if growth > GROWTH_ADVICE else "pass", message, growth, GROWTH_ADVICE, details)
