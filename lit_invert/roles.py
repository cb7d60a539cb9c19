"""Who may see which day: the three roles of an observed day.

* ``fit``: in the loss;
* ``select``: for choices made while fitting, such as when to stop and which start was best;
* ``test``: read once, by the final report.

Fluxes of neighbouring days are alike, so roles are given to whole blocks of days, drawn from every season, and days at the border
of two roles are a ``gap`` that nobody sees. Days without an observation, and the surrogate's warm-up, are ``unused``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from .errors import ConfigError, ObservationError

Days = NDArray[np.datetime64]
Roles = NDArray[np.str_]

FIT, SELECT, TEST, GAP, UNUSED = "fit", "select", "test", "gap", "unused"
#: Fewest observed days of which `auto` holds any back: of fewer, each is worth more in the fit.
_FEWEST_DAYS = 30
#: Share of a season's blocks that goes to `select`, and the same to `test`.
_SHARE = 0.2
#: Season of each month, January first: DJF, MAM, JJA, SON.
_SEASONS = np.array([0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3, 0])
_OFF = "Set `data.split.method: none` to fit to every observed day, or name days with `method: years` or `method: dates`."


@dataclass
class SplitSettings:
    """How observed days are shared out between `fit`, `select` and `test`."""

    method: Literal["auto", "years", "dates", "none"] = "auto"
    """`auto`: blocks in every season, and the last full observed year as `test` if there are two; where too few days are observed
    to hold any back, all are `fit`. `years` and `dates`: as named below. `none`: all days are `fit`."""
    seed: int = 0
    """Seed of the draw of blocks."""
    block_days: int = 14
    """Length of a block [d]."""
    gap_days: int = 3
    """Days that nobody sees at the border of two roles [d]."""
    select: list[int | list[str]] = field(default_factory=list)
    """Years, or pairs of first and last date, of the `select` role; none when empty."""
    test: list[int | list[str]] = field(default_factory=list)
    """Years, or pairs of first and last date, of the `test` role; none when empty."""


def assign_roles(dates: Days, observed: NDArray[np.bool_], settings: SplitSettings, warmup_days: int = 0) -> Roles:
    """Give every day its role.

    Args:
        dates: A (T,)-dim array of consecutive days.
        observed: A boolean (T,)-dim array, true on days with an observation.
        settings: The block `data.split` of the config.
        warmup_days: Days at the start that belong to no role.

    Returns:
        A (T,)-dim array of `fit`, `select`, `test`, `gap` and `unused`.

    Raises:
        ObservationError: If a role that was asked for has no observed day.
        ConfigError: If named years or dates are malformed or overlap.
    """
    _check_settings(settings)
    usable = observed & (np.arange(len(dates)) >= warmup_days)
    if not usable.any():
        raise ObservationError(
            f"no day of {dates[0]} to {dates[-1]} is observed after {warmup_days} days of warm-up. "
            "Check the column, its missing values and `data.quality`."
        )
    roles = np.full(len(dates), FIT, dtype="<U6")
    if settings.method == "auto" and usable.sum() >= _FEWEST_DAYS:
        _draw(roles, dates, usable, settings)
    elif settings.method in ("years", "dates"):
        _name(roles, dates, settings)
    _leave_gaps(roles, settings.gap_days)
    roles[~usable] = UNUSED
    _check_roles(roles, settings)
    return roles


def _draw(roles: Roles, dates: Days, usable: NDArray[np.bool_], settings: SplitSettings) -> None:
    rng = np.random.default_rng(settings.seed)
    years = _full_years(dates, usable)
    if len(years) < 2:
        _draw_blocks(roles, dates, usable, settings, (SELECT, TEST), rng)
        return
    start = np.datetime64(f"{years[-1]}-01-01", "D")
    _draw_blocks(roles, dates, usable & (dates < start), settings, (SELECT,), rng)
    roles[dates >= start] = TEST


def _draw_blocks(
    roles: Roles,
    dates: Days,
    usable: NDArray[np.bool_],
    settings: SplitSettings,
    wanted: Sequence[str],
    rng: np.random.Generator,
) -> None:
    """Give blocks of each season that are observed on half as many days as the best or more to the wanted roles, at random."""
    first = int(np.flatnonzero(usable)[0])
    blocks = [slice(i, i + settings.block_days) for i in range(first, len(dates) - settings.block_days + 1, settings.block_days)]
    best = max((usable[b].sum() for b in blocks), default=1)
    blocks = [b for b in blocks if 2 * usable[b].sum() >= best]
    months = dates.astype("datetime64[M]").astype(int) % 12
    seasons = np.array([_SEASONS[months[(b.start + b.stop) // 2]] for b in blocks], dtype=int)
    for season in range(4):
        members = rng.permutation(np.flatnonzero(seasons == season))
        if len(members) <= len(wanted):
            continue
        count = max(1, round(_SHARE * len(members)))
        for number, role in enumerate(wanted):
            for member in members[number * count : (number + 1) * count]:
                roles[blocks[member]] = role


def _name(roles: Roles, dates: Days, settings: SplitSettings) -> None:
    for role, ranges in ((SELECT, settings.select), (TEST, settings.test)):
        for span in ranges:
            days = _days_of(dates, span, settings.method, f"data.split.{role}")
            taken = days & (roles != FIT) & (roles != role)
            if taken.any():
                raise ConfigError(f"data.split: {dates[taken][0]} is in `select` and in `test`. Give each day one role.")
            roles[days] = role


def _days_of(dates: Days, span: int | list[str], method: str, key: str) -> NDArray[np.bool_]:
    if method == "years" and isinstance(span, int):
        return np.asarray(dates.astype("datetime64[Y]") == np.datetime64(str(span), "Y"))
    if method == "dates" and isinstance(span, list) and len(span) == 2:
        try:
            first, last = (np.datetime64(str(day), "D") for day in span)
        except ValueError as error:
            raise ConfigError(f"{key}: expected dates as 2016-01-31, found {span!r}.") from error
        return np.asarray((dates >= first) & (dates <= last))
    expected = "a year such as 2012" if method == "years" else "a pair of dates such as [2016-06-01, 2016-06-30]"
    raise ConfigError(f"{key}: with `method: {method}` expected {expected}, found {span!r}.")


def _full_years(dates: Days, usable: NDArray[np.bool_]) -> list[int]:
    """Return the calendar years that the record holds whole, without those of less than half the observed days of a mean one."""
    years, counts = np.unique(dates.astype("datetime64[Y]"), return_counts=True)
    lengths = (years + 1).astype("datetime64[D]") - years.astype("datetime64[D]")
    observed = np.array([usable[dates.astype("datetime64[Y]") == year].sum() for year in years])
    is_full = (counts == lengths.astype(int)) & (2 * observed * len(years) >= usable.sum())
    return [int(str(year)) for year in years[is_full]]


def _leave_gaps(roles: Roles, days: int) -> None:
    """Take the border out of the larger role: `fit` gives way to both others, `select` to `test`."""
    window = np.ones(2 * days + 1)
    for role, others in ((FIT, (SELECT, TEST)), (SELECT, (TEST,))):
        is_other = np.isin(roles, others).astype(np.float64)
        is_near = np.convolve(is_other, window)[days : days + len(roles)] > 0
        roles[is_near & (roles == role)] = GAP


def _check_settings(settings: SplitSettings) -> None:
    if settings.block_days < 1:
        raise ConfigError(f"data.split.block_days: is {settings.block_days}, expected 1 or more.")
    if settings.gap_days < 0:
        raise ConfigError(f"data.split.gap_days: is {settings.gap_days}, expected 0 or more.")
    if settings.method in ("auto", "none") and (settings.select or settings.test):
        raise ConfigError(
            f"data.split: `select` and `test` are given but `method` is {settings.method!r}. Set it to 'years' or 'dates'."
        )


def _check_roles(roles: Roles, settings: SplitSettings) -> None:
    wanted = {
        FIT: True,
        SELECT: bool(settings.select),
        TEST: bool(settings.test),
    }
    for role, is_wanted in wanted.items():
        if is_wanted and not (roles == role).any():
            raise ObservationError(
                f"data.split: with `method: {settings.method}` no observed day is left for `{role}` "
                f"({int((roles != UNUSED).sum())} days are observed). {_OFF}"
            )
