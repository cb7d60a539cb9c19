r"""Places to start from: the prior first, then draws from it, a Latin hypercube over the bounds, or the user's own.

A Latin hypercube of n points has one of them in each n-th of each parameter's range, in its logarithm where the table's scale is
`log`: a permutation :math:`\pi` and a uniform :math:`u` for each parameter put point i at the share :math:`(\pi_i + u_i) / n`.

A file of starts is a CSV with a column a parameter and a row a start; a parameter without a column, or with an empty cell, starts
at its prior.

Source:
    McKay, Beckman and Conover (1979), A comparison of three methods for selecting values of input variables in the analysis of
    output from a computer code, Technometrics 21, 239-245, doi:10.1080/00401706.1979.10489755.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Generator, Tensor

from .errors import ConfigError, ParameterTableError, suggest
from .parameters import ParameterSpace, ParameterTable
from .settings import LATIN_HYPERCUBE, InversionSettings


@dataclass(frozen=True)
class StartPoints:
    """Where the fits of S sites may start, N places each."""

    theta: Tensor
    """(S, N, P) in the optimiser's coordinates; the first of each site is its prior."""
    origins: tuple[str, ...]
    """Where each of the N comes from: `prior`, `draw`, `lhs` or `user`."""


def place_starts(space: ParameterSpace, own: Sequence[Tensor | None], settings: InversionSettings, seed: int) -> StartPoints:
    """Place the starts of each site: by the same draws for all, so that no site's depend on its neighbours.

    Args:
        space: Parameters and their spaces, of one member or of S.
        own: For each of S sites the user's places, (M, P), in the table's units, NaN for the prior; None where there are none.
        settings: How many, and of what kind.
        seed: Seed of the draws.
    """
    count = settings.starts
    given = 0 if own[0] is None else len(own[0])
    kind = "lhs" if settings.start_points == LATIN_HYPERCUBE else "draw"
    each = []
    for i, user in enumerate(own):
        site, generator = space.rows(torch.tensor([i])), Generator().manual_seed(seed)
        theta = draw_hypercube(site, count, generator) if kind == "lhs" else draw_starts(site, count, generator)
        if user is not None:
            theta[1 : 1 + given] = _at(site, user)
        each.append(theta)
    return StartPoints(torch.stack(each), ("prior", *["user"] * given, *[kind] * (count - 1 - given)))


def _at(space: ParameterSpace, user: Tensor) -> Tensor:
    """Return theta of the user's places, (M, P), at the prior where they say nothing."""
    user = user.to(space.prior)
    return space.to_theta(space.bounds.clip(torch.where(user.isnan() | space.fixed, space.priors, user)))


def draw_starts(space: ParameterSpace, count: int, generator: Generator) -> Tensor:
    """Return the prior and draws from it, inside the bounds.

    Args:
        space: Parameters and their spaces, of one member.
        count: Number of starts.
        generator: Source of randomness, on the CPU.

    Returns:
        A (count, P)-dim tensor in the optimiser's coordinates; its first row is the prior.
    """
    (known,) = space.priors
    prior = space.scaler.to_scaled(known)
    noise = torch.randn(count, len(prior), generator=generator, dtype=torch.float64).to(prior)
    noise[0] = 0.0
    noise[:, space.fixed] = 0.0
    physical = space.bounds.clip(space.scaler.to_physical(prior + noise * space.prior_sd_scaled))
    physical[0] = known
    return space.to_theta(physical)


def draw_hypercube(space: ParameterSpace, count: int, generator: Generator) -> Tensor:
    """Return the prior and a Latin hypercube over the bounds.

    Args:
        space: Parameters and their spaces, of one member; a bound that names another parameter is where that one's prior is, and
            is kept by clipping.
        count: Number of starts, the prior among them.
        generator: Source of randomness, on the CPU.

    Returns:
        A (count, P)-dim tensor in the optimiser's coordinates; its first row is the prior.

    Raises:
        ConfigError: If a free parameter has an infinite bound.
    """
    (known,) = space.priors
    shares = latin_hypercube(count - 1, len(known), generator).to(known)
    lower, upper = space.bounds.resolve(known)
    for name, fixed, low, up in zip(space.table.names, space.fixed.tolist(), lower.tolist(), upper.tolist(), strict=True):
        if not fixed and not math.isfinite(up - low):
            raise ConfigError(
                f"`inversion.start_points` is {LATIN_HYPERCUBE!r}, but {name!r} has the bounds {low:g} to {up:g}. "
                "Give it finite ones, or use start_points: prior."
            )
    is_log = space.table.log.to(known.device)
    low, up = (torch.where(is_log, torch.where(is_log, side, 1.0).log(), side) for side in (lower, upper))
    line = low + (up - low) * shares
    physical = torch.where(space.fixed, known, torch.where(is_log, torch.where(is_log, line, 0.0).exp(), line))
    return space.to_theta(torch.cat([known[None], space.bounds.clip(physical)]))


def latin_hypercube(count: int, dimensions: int, generator: Generator) -> Tensor:
    """Return `count` points of the unit cube, (count, dimensions), float64, one in each stratum of each dimension.

    Example:
        >>> points = latin_hypercube(4, 2, Generator().manual_seed(0))
        >>> (4 * points).floor().sort(0).values[:, 1].tolist()
        [0.0, 1.0, 2.0, 3.0]
    """
    strata = torch.stack([torch.randperm(count, generator=generator) for _ in range(dimensions)], dim=-1)
    return (strata + torch.rand(count, dimensions, generator=generator, dtype=torch.float64)) / max(count, 1)


def read_starts(settings: InversionSettings, table: ParameterTable) -> Tensor | None:
    """Read the file of starts that the settings name; None where they name none.

    Args:
        settings: Which file, and how many starts there are.
        table: The parameters, in the order of the surrogate's input.

    Returns:
        An (M, P)-dim tensor, float64, in the table's units; NaN where the file says nothing.

    Raises:
        ParameterTableError: If the file is missing or malformed, or a value is no number inside its bounds.
        ConfigError: If it has more rows than starts were asked for.
    """
    path = settings.start_file
    if path is None:
        return None
    starts = _read_file(path, table)
    if len(starts) >= settings.starts:
        raise ConfigError(
            f"`inversion.starts` is {settings.starts}, the prior and {settings.starts - 1} more, but {path} has {len(starts)} "
            f"rows. Ask for {len(starts) + 1}."
        )
    return starts


def _read_file(path: Path, table: ParameterTable) -> Tensor:
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except FileNotFoundError:
        raise ParameterTableError(f"{path}: not found. `inversion.start_points` is prior, lhs, or the path of a CSV.") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ParameterTableError(f"{path}: cannot be read as UTF-8 text ({error}).") from error
    reader = csv.DictReader(lines)
    names = [name.strip() for name in reader.fieldnames or []]
    reader.fieldnames = names
    for name in names:
        if name not in table.names:
            raise ParameterTableError(f"{path}: column {name!r} is not a static parameter.{suggest(name, table.names)}")
        if names.count(name) > 1:
            raise ParameterTableError(f"{path}: column {name!r} stands twice in the header; keep one.")
    rows = [_read_row(f"{path}, row {reader.line_num}", cells, table) for cells in reader]
    if not rows:
        raise ParameterTableError(f"{path}: has no start. Expected a header of parameters and one row a start.")
    return torch.stack(rows)


def _read_row(where: str, cells: dict[str, str | None], table: ParameterTable) -> Tensor:
    if None in cells or None in cells.values():
        raise ParameterTableError(f"{where}: has other than the header's number of cells. Leave a cell empty for the prior.")
    row = torch.full_like(table.prior, math.nan)
    for name, text in cells.items():
        if text is None or not text.strip():
            continue
        try:
            row[table.index(name)] = float(text)
        except ValueError:
            raise ParameterTableError(f"{where}, column {name!r}: expected a number, found {text!r}.") from None
    _check_inside(where, row, table)
    return row


def _check_inside(where: str, row: Tensor, table: ParameterTable) -> None:
    """Raise where a given value is outside its bounds, at the prior of those that are not given, or is that of a fixed one."""
    whole = torch.where(row.isnan(), table.prior, row)
    lower, upper = table.bounds.resolve(whole)
    for i, name in enumerate(table.names):
        value, low, up = whole[i].item(), lower[i].item(), upper[i].item()
        if not low <= value <= up:
            raise ParameterTableError(f"{where}, column {name!r}: {value:g} is outside its bounds, {low:g} to {up:g}.")
        if table.fixed[i] and value != table.prior[i].item():
            raise ParameterTableError(f"{where}, column {name!r}: is fixed at {table.prior[i].item():g}; leave the column out.")
