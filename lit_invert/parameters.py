"""The table of static parameters: names, units, priors, bounds; one row a parameter, any number of rows.

A table is a CSV file with one row a parameter. Columns (synonyms in brackets): `name`, `unit`, `description` [`meaning`], `prior`
[`default`], `prior_sd` [`sd`], `min`, `max` (a number, or the name of another parameter), `scale` (`lin` or `log`), `fixed`
(`true` or `false`); further columns are kept as notes and not used. An empty prior becomes the middle of its bounds, an empty
`prior_sd` a quarter of them, both in the parameter's own scale.
"""

from __future__ import annotations

import copy
import csv
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from .errors import ParameterTableError, suggest
from .transforms import Bounds, ScaledTransform, Scaler, Transform

_SYNONYMS = {"default": "prior", "sd": "prior_sd", "meaning": "description"}
_REQUIRED = ("name", "min", "max")


@dataclass(frozen=True)
class ParameterTable:
    """P static parameters in the order of the surrogate's input; all vectors are (P,), float64, in physical units.

    Args:
        names: Unique names.
        units: Units, for people.
        descriptions: Meanings, for people.
        prior: Values before any data.
        prior_sd: Standard deviations of the prior.
        bounds: Lower and upper bounds.
        log: True where prior and sd are meant in the logarithm (`scale: log`).
        fixed: True where the inversion must leave the prior as it is.
    """

    names: tuple[str, ...]
    units: tuple[str, ...]
    descriptions: tuple[str, ...]
    prior: Tensor
    prior_sd: Tensor
    bounds: Bounds
    log: Tensor
    fixed: Tensor

    def __len__(self) -> int:
        return len(self.names)

    def index(self, name: str) -> int:
        """Return the place of a parameter.

        Raises:
            ParameterTableError: If there is no parameter of that name.
        """
        if name not in self.names:
            raise ParameterTableError(f"static parameter {name!r} is not in the table.{suggest(name, self.names)}")
        return self.names.index(name)

    def prior_sd_at(self, prior: Tensor) -> Tensor:
        """Return the standard deviation around another prior, (..., P): the same, or the same ratio where the scale is `log`."""
        return torch.where(self.log, self.prior_sd * (prior / self.prior), self.prior_sd)

    def with_prior(self, prior: Tensor) -> ParameterTable:
        """Return the table with another prior, (P,), in its units."""
        return replace(self, prior=prior, prior_sd=self.prior_sd_at(prior))

    def ordered_as(self, names: Sequence[str], where: str) -> ParameterTable:
        """Return the table with its rows in the order of a surrogate's inputs.

        Args:
            names: The surrogate's static inputs.
            where: Name of the table's file, for the error.

        Raises:
            ParameterTableError: If a row is missing or too many.
        """
        missing = [n for n in names if n not in self.names]
        surplus = [n for n in self.names if n not in names]
        if missing or surplus:
            wanted = f" Missing: {', '.join(missing)}." if missing else ""
            unknown = f" Unknown to the surrogate: {', '.join(surplus)}." if surplus else ""
            nearest = suggest(surplus[0], missing) if surplus and missing else ""
            raise ParameterTableError(
                f"{where}: has {len(self)} static parameters, the surrogate expects {len(names)}.{wanted}{unknown}"
                f"{nearest.split(' Known:')[0]} Mend the table's `name` column."
            )
        place = [self.names.index(n) for n in names]
        new = {old: i for i, old in enumerate(place)}
        return ParameterTable(
            names=tuple(names),
            units=tuple(self.units[i] for i in place),
            descriptions=tuple(self.descriptions[i] for i in place),
            prior=self.prior[place],
            prior_sd=self.prior_sd[place],
            bounds=Bounds(
                self.bounds.lower[place],
                self.bounds.upper[place],
                [new.get(self.bounds.lower_from[i], -1) for i in place],
                [new.get(self.bounds.upper_from[i], -1) for i in place],
            ),
            log=self.log[place],
            fixed=self.fixed[place],
        )


class ParameterTangents(NamedTuple):
    """Derivatives along each of the K free components of theta."""

    free: Tensor
    """Places of the free parameters, (K,)."""
    physical: Tensor
    """(B, K, P), in the table's units."""
    scaled: Tensor
    """(B, K, P) [-]."""
    lower: Tensor
    """Of the lower bounds, (B, K, P); not zero where one names another parameter."""
    upper: Tensor
    """Of the upper bounds, likewise."""


class ParameterSpace(nn.Module):
    """The one place where theta becomes physical and scaled parameters, and comes back.

    Fixed parameters keep their prior whatever theta says, so their gradient is zero.

    Args:
        table: The parameters, in the order of the surrogate's input.
        transform: The map between theta and physical values, built on the same bounds.
        prior: Priors of B members, (B, P), in the table's units, where each has its own; the table's serves all when omitted.
    """

    prior: Tensor
    prior_sd_scaled: Tensor
    _fixed: Tensor
    _prior_theta: Tensor

    def __init__(self, table: ParameterTable, transform: Transform, prior: Tensor | None = None) -> None:
        super().__init__()
        self.table, self.transform = table, transform
        dtype = transform.scaler.mean.dtype
        self.register_buffer("prior", (table.prior if prior is None else prior).to(dtype), persistent=False)
        self.register_buffer("_fixed", table.fixed.clone(), persistent=False)
        self.register_buffer("_prior_theta", transform.to_theta(self.prior), persistent=False)
        scaler = transform.scaler
        sd = table.prior_sd if prior is None else table.prior_sd_at(prior)
        deviation = sd.to(dtype) / scaler.std
        in_log = deviation / self.prior.abs().clamp_min(torch.finfo(dtype).tiny)  # first order: sd(log x) = sd(x) / x
        self.register_buffer("prior_sd_scaled", torch.where(scaler.log, in_log, deviation), persistent=False)

    @property
    def scaler(self) -> Scaler:
        """The surrogate's scaling."""
        return self.transform.scaler

    @property
    def bounds(self) -> Bounds:
        """Bounds in physical space."""
        return self.transform.bounds

    def rows(self, members: Tensor | None) -> ParameterSpace:
        """Return the space of some members, (b,), where each has a prior of its own; otherwise the same."""
        if members is None or len(self.priors) == 1:
            return self
        view = copy.copy(self)
        own = ("prior", "prior_sd_scaled", "_prior_theta")
        view._buffers = {
            name: value[members] if name in own and value is not None else value for name, value in self._buffers.items()
        }
        return view

    @property
    def priors(self) -> Tensor:
        """Priors of the members, (1 or B, P), in the table's units."""
        return self.prior if self.prior.dim() == 2 else self.prior.unsqueeze(0)

    def to_physical(self, theta: Tensor) -> Tensor:
        """Map theta (..., P) to physical values."""
        return self._to_physical(theta, self._prior_theta, self.prior)

    def _to_physical(self, theta: Tensor, prior_theta: Tensor, prior: Tensor) -> Tensor:
        # Before the transform as well: a fixed parameter may be the bound of a free one.
        physical = self.transform.to_physical(torch.where(self._fixed, prior_theta, theta))
        return torch.where(self._fixed, prior, physical)

    def to_theta(self, physical: Tensor) -> Tensor:
        """Map physical values (..., P) to theta."""
        return self.transform.to_theta(physical)

    def push(self, theta: Tensor) -> ParameterTangents:
        """Return how the parameters change with each free component of theta (B, P)."""
        free = (~self._fixed).nonzero().flatten()
        if type(self.transform) is ScaledTransform:  # a subclass may map otherwise
            scaled = torch.eye(len(self._fixed), dtype=theta.dtype, device=theta.device)[free].expand(len(theta), -1, -1)
            slope = torch.where(self.scaler.log, self.to_physical(theta), 1.0) * self.scaler.std
            physical = scaled * slope[:, None]
        else:

            def both(theta: Tensor, *prior: Tensor) -> tuple[Tensor, Tensor]:
                physical = self._to_physical(theta, *prior)
                return physical, self.scaler.to_scaled(physical)

            priors = (self._prior_theta.expand_as(theta), self.prior.expand_as(theta))
            jacobians = torch.func.vmap(torch.func.jacfwd(both))(theta, *priors)
            physical, scaled = (j[..., free].transpose(1, 2) for j in jacobians)
        return ParameterTangents(free, physical, scaled, *self.bounds.push(physical))

    def theta_bounds(self, theta: Tensor) -> tuple[Tensor, Tensor]:
        """Return lower and upper bounds in the coordinates of theta (B, P), at these parameters.

        They are infinite where the transform keeps a bound by itself, and close around a fixed parameter.
        """
        physical = self.to_physical(theta)
        low, up = self.bounds.resolve(physical)
        lower, upper = torch.full_like(theta, -math.inf), torch.full_like(theta, math.inf)
        if not self.transform.keeps_lower:
            lower = torch.where(torch.isfinite(low), self._side(low, physical), lower)
        if not self.transform.keeps_upper:
            upper = torch.where(torch.isfinite(up), self._side(up, physical), upper)
        return torch.where(self._fixed, theta, lower), torch.where(self._fixed, theta, upper)

    def _side(self, side: Tensor, physical: Tensor) -> Tensor:
        """Return theta of one side of the bounds, each parameter's with those that bound it where they are."""
        theta = self.to_theta(side)
        for i in self.bounds.dependent:
            one = physical.clone()
            one[..., i] = side[..., i]
            theta[..., i] = self.to_theta(one)[..., i]
        return theta

    @property
    def is_box(self) -> bool:
        """Whether the bounds that the transform leaves open are numbers, and not other parameters."""
        bounds, transform = self.bounds, self.transform
        lower = transform.keeps_lower or max(bounds.lower_from, default=-1) < 0
        return lower and (transform.keeps_upper or max(bounds.upper_from, default=-1) < 0)

    @property
    def fixed(self) -> Tensor:
        """True where a parameter keeps its prior, (P,)."""
        return self._fixed

    def project(self, theta: Tensor) -> tuple[Tensor, Tensor]:
        """Clip in physical space and come back to theta.

        Args:
            theta: A (..., P)-dim tensor.

        Returns:
            Theta inside the bounds (unchanged to the last bit where nothing had to be clipped), and a boolean tensor of the same
            shape, true where something was, by more than rounding.
        """
        physical = self.to_physical(theta)
        inside = self.bounds.clip(physical)
        outside = inside != physical
        clipped = outside & ~torch.isclose(inside, physical, rtol=1e-5, atol=0.0)  # a prior on its bound is off by rounding
        return torch.where(outside, self.to_theta(inside), theta), clipped


def load_parameter_table(path: str | Path) -> ParameterTable:
    """Read a table of static parameters from a CSV file.

    Args:
        path: The CSV file.

    Returns:
        The checked table, in the file's order.

    Raises:
        ParameterTableError: If the file is missing or a row is malformed; the message names file, row and column.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise ParameterTableError(f"{path}: parameter table not found. Check `parameters:` in the config.") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ParameterTableError(f"{path}: cannot be read as UTF-8 text ({error}).") from error
    return parse_parameter_table(text.splitlines(), str(path))


def parse_parameter_table(lines: Iterable[str], where: str = "parameter table") -> ParameterTable:
    """Parse the lines of a parameter table.

    Args:
        lines: Lines of CSV, the header first.
        where: Name used in errors, e.g. the file's path.

    Returns:
        The checked table.

    Raises:
        ParameterTableError: If a column is missing or a row is malformed.

    Example:
        >>> table = parse_parameter_table(["name,unit,prior,min,max", "pmax,umol,12,5,30", "lue,mol,,0.02,0.08"])
        >>> table.prior.tolist(), table.prior_sd.tolist()
        ([12.0, 0.05], [6.25, 0.015])
    """
    reader = csv.DictReader(lines)
    header = [_SYNONYMS.get(c.strip(), c.strip()) for c in reader.fieldnames or []]
    reader.fieldnames = header
    for column in _REQUIRED:
        if column not in header:
            found = ", ".join(h for h in header if h) or "nothing"
            raise ParameterTableError(
                f"{where}: column {column!r} is missing; found: {found}. Expected at least {', '.join(_REQUIRED)} "
                "in a comma-separated header."
            )
    for column in header:
        if column and header.count(column) > 1:
            raise ParameterTableError(f"{where}: column {column!r} stands twice in the header (synonyms count); keep one.")
    rows = [_read_row(where, reader.line_num, raw, len(header)) for raw in reader]
    if not rows:
        raise ParameterTableError(f"{where}: has a header but no row. Expected one row a static parameter.")
    return _build(rows, where)


def _read_row(where: str, line: int, raw: dict[str | None, Any], count: int) -> _Row:
    if None in raw:
        raise ParameterTableError(
            f"{where}, row {line}: has {count + len(raw[None])} cells, the header has {count}. Quote a text that contains a comma."
        )
    return _Row(where, line, {k: (v or "").strip() for k, v in raw.items() if k})


@dataclass(frozen=True)
class _Row:
    """One row of the file, with its place for errors."""

    where: str
    line: int
    cells: dict[str, str]

    @property
    def name(self) -> str:
        return self.cells["name"]

    def fail(self, column: str, message: str) -> ParameterTableError:
        return ParameterTableError(f"{self.where}, row {self.line}, column {column!r} ({self.name}): {message}")

    def number(self, column: str) -> float | None:
        """Return a finite number, or None for an empty cell."""
        cell = self.cells.get(column, "")
        if cell == "":
            return None
        try:
            value = float(cell)
        except ValueError:
            raise self.fail(column, f"expected a number, found {cell!r}.") from None
        if not math.isfinite(value):
            raise self.fail(column, f"expected a finite number, found {cell!r}.")
        return value

    def bound(self, column: str, names: Sequence[str]) -> tuple[float, int]:
        """Return a bound as (number, -1), or (nan, index of the parameter that it names)."""
        cell = self.cells[column]
        if cell in names and cell != self.name:
            return math.nan, list(names).index(cell)
        if cell and _is_word(cell):
            known = [n for n in names if n != self.name]
            hint = suggest(cell, known).split(" Known:")[0]
            raise self.fail(column, f"expected a number or the name of another parameter, found {cell!r}.{hint}")
        value = self.number(column)
        if value is None:
            raise self.fail(column, "is empty; expected a number or the name of another parameter.")
        return value, -1

    def choice(self, column: str, default: str, allowed: Sequence[str]) -> str:
        value = self.cells.get(column, "").lower() or default
        if value not in allowed:
            raise self.fail(column, f"expected one of {', '.join(allowed)}, found {value!r}.")
        return value


def _is_word(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return True
    return False


def _build(rows: list[_Row], where: str) -> ParameterTable:
    names = [row.name for row in rows]
    for row in rows:
        if not row.name:
            raise ParameterTableError(f"{where}, row {row.line}: `name` is empty.")
        if names.count(row.name) > 1:
            raise row.fail("name", f"stands in {names.count(row.name)} rows; names must be unique.")
    lower, upper = ([row.bound(side, names) for row in rows] for side in ("min", "max"))
    bounds = _bounds(lower, upper, where)
    _check_apart(rows, bounds)
    log = [row.choice("scale", "lin", ("lin", "log")) == "log" for row in rows]
    prior = _complete_priors(rows, bounds)
    lows, highs = (side.tolist() for side in bounds.resolve(prior))
    fixed = [row.choice("fixed", "false", ("true", "false")) == "true" for row in rows]
    _check_fixed(rows, bounds, fixed)
    deviations = []
    for i, row in enumerate(rows):
        _check_row(row, lows[i], prior[i].item(), highs[i], log[i])
        deviations.append(_deviation(row, lows[i], prior[i].item(), highs[i], log[i]))
    return ParameterTable(
        names=tuple(names),
        units=tuple(row.cells.get("unit", "") for row in rows),
        descriptions=tuple(row.cells.get("description", "") for row in rows),
        prior=prior,
        prior_sd=torch.tensor(deviations, dtype=torch.float64),
        bounds=bounds,
        log=torch.tensor(log),
        fixed=torch.tensor(fixed),
    )


def _bounds(lower: list[tuple[float, int]], upper: list[tuple[float, int]], where: str) -> Bounds:
    try:
        return Bounds(
            torch.tensor([-math.inf if s >= 0 else v for v, s in lower], dtype=torch.float64),
            torch.tensor([math.inf if s >= 0 else v for v, s in upper], dtype=torch.float64),
            [s for _, s in lower],
            [s for _, s in upper],
        )
    except ParameterTableError as error:
        raise ParameterTableError(f"{where}: {error}") from None


def _check_apart(rows: list[_Row], bounds: Bounds) -> None:
    """Raise where a bound that is another parameter could come to lie on the wrong side of the opposite bound."""
    anywhere = torch.full_like(bounds.lower, math.inf)
    lowest, highest = bounds.clip(-anywhere), bounds.clip(anywhere)
    for i in bounds.dependent:
        above, below = bounds.lower_from[i], bounds.upper_from[i]
        low = (highest[above] if above >= 0 else bounds.lower[i]).item()
        high = (lowest[below] if below >= 0 else bounds.upper[i]).item()
        if low > high:
            raise rows[i].fail(
                "max" if below >= 0 else "min",
                f"min can be as high as {low!r} and max as low as {high!r}. Change the bounds of the parameter that it names.",
            )


def _check_fixed(rows: list[_Row], bounds: Bounds, fixed: list[bool]) -> None:
    """Raise where a free parameter bounds a fixed one, which could not follow."""
    for i in bounds.dependent:
        for column, source in (("min", bounds.lower_from[i]), ("max", bounds.upper_from[i])):
            if fixed[i] and source >= 0 and not fixed[source]:
                raise rows[i].fail(
                    column, f"names the free {rows[source].name!r} though this one is fixed. Fix both, or give a number."
                )


def _complete_priors(rows: list[_Row], bounds: Bounds) -> Tensor:
    """Return the priors; an empty one becomes the middle of its bounds, those that bound others first."""
    prior = torch.tensor([math.nan if (value := row.number("prior")) is None else value for row in rows], dtype=torch.float64)
    independent = [i for i in range(len(rows)) if i not in bounds.dependent]
    for i in independent + bounds.dependent:
        if math.isnan(prior[i]):
            low, high = (side[i].item() for side in bounds.resolve(prior))
            is_log = rows[i].cells.get("scale", "").lower() == "log" and low > 0
            prior[i] = math.sqrt(low * high) if is_log else (low + high) / 2
    return prior


def _check_row(row: _Row, low: float, prior: float, high: float, log: bool) -> None:
    if not low < high:
        raise row.fail("min", f"is {low!r}, expected less than max = {high!r}.")
    if log and low <= 0:
        raise row.fail("scale", f"is 'log' but min = {low!r}; expected a positive min, or scale 'lin'.")
    if not low <= prior <= high:
        raise row.fail("prior", f"{prior!r} is outside its bounds [{low!r}, {high!r}]. Change the prior or widen the bounds.")


def _deviation(row: _Row, low: float, prior: float, high: float, log: bool) -> float:
    """Return the prior's standard deviation in physical units; a quarter of the range in the parameter's scale if not given."""
    value = row.number("prior_sd")
    if value is None:
        return prior * math.log(high / low) / 4 if log else (high - low) / 4
    if value <= 0:
        raise row.fail("prior_sd", f"expected a positive number, found {value!r}.")
    return value
