"""What a validation keeps of the weather that it saw, so that later weather can be compared with it.

A site's drivers are stored day by day in the units of the surrogate's spec: seasons, distributions and the likeness of neighbouring
days follow from them. Measurements are not stored; weather has no `test` days.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lit_invert import InversionProblem, Site
from lit_invert.errors import ResultsError, suggest

FILE = "baseline.json"
_AGAIN = "Run `lit-invert check-surrogate` again."


@dataclass(frozen=True)
class Baseline:
    """The weather of a site when its surrogate was validated."""

    dates: NDArray[np.datetime64]
    """A (T,)-dim array of consecutive days."""
    forcing: NDArray[np.float64]
    """A (T, F)-dim array in the order and the units of the spec."""
    numbers: dict[str, float | None]
    """The numbers of the validation by name, over all its sites."""


def build_baseline(problem: InversionProblem, site: Site) -> dict[str, Any]:
    """Return what is kept of a site, as plain values: its first day, and every driver day by day.

    Example:
        >>> from types import SimpleNamespace
        >>> from lit_invert.testing import toy_forcing, toy_problem
        >>> days = np.datetime64("2001-01-01") + np.arange(2)
        >>> kept = build_baseline(toy_problem(), SimpleNamespace(dates=days, forcing=toy_forcing(2)[0].double().numpy()))
        >>> kept["first"], kept["drivers"]["dswrf"]
        ('2001-01-01', [64.0, 192.0])
    """
    columns = zip(problem.surrogate.spec.drivers, site.forcing.T, strict=True)
    return {
        "first": str(site.dates[0].astype("datetime64[D]")),
        "drivers": {driver.name: column.tolist() for driver, column in columns},
    }


def load_baseline(folder: Path, site: str, drivers: tuple[str, ...]) -> Baseline:
    """Read what a validation kept of a site.

    Args:
        folder: Folder of the validation.
        site: Name of the site.
        drivers: Names of the drivers, in the order of the spec.

    Raises:
        ResultsError: If the file is missing or damaged, or does not know the site.
    """
    path = folder / FILE
    sites, numbers = _read(path)
    if site not in sites:
        raise ResultsError(f"{path}: the validation did not see site {site!r}.{suggest(site, sites)}")
    try:
        forcing = np.array([sites[site]["drivers"][name] for name in drivers], dtype=np.float64).T
        dates = np.datetime64(sites[site]["first"], "D") + np.arange(len(forcing))
        is_whole = forcing.ndim == 2 and forcing.size > 0 and bool(np.isfinite(forcing).all())
    except (ValueError, KeyError, TypeError) as error:
        raise ResultsError(f"{path}: is damaged at site {site!r} ({error}). {_AGAIN}") from error
    if not is_whole:
        raise ResultsError(f"{path}: is damaged at site {site!r}: expected finite drivers of the same days. {_AGAIN}")
    return Baseline(dates, forcing, numbers)


def _read(path: Path) -> tuple[dict[str, Any], dict[str, float | None]]:
    """Return what a file keeps of each site, and the numbers of the validation."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        sites, numbers = values["sites"], values["numbers"]
    except FileNotFoundError:
        raise ResultsError(f"{path.parent}: has no `{FILE}`. {_AGAIN}") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ResultsError(f"{path}: is damaged, expected what a validation writes ({error}). {_AGAIN}") from error
    if not isinstance(sites, dict) or not isinstance(numbers, dict):
        raise ResultsError(f"{path}: is damaged, expected `sites` and `numbers` by name. {_AGAIN}")
    for name, value in numbers.items():
        if value is not None and type(value) not in (int, float):
            raise ResultsError(f"{path}: is damaged, expected `numbers.{name}` to be a number or null, found {value!r}. {_AGAIN}")
    return sites, numbers
