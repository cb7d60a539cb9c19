"""From what sites bring and settings say to the problem that solvers see.

Sites of different lengths share one batch: shorter records are filled up at their end with their last day's weather, and neither
the mask nor `Evaluation.days` knows those days. A surrogate that steps forward through time gives each day what it would give the
site alone; :func:`is_padded_exactly` asks it, since not every network does.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from .errors import ConfigError, ShapeError, suggest
from .losses import LossTerm, Misfit, Prior
from .observations import Observations
from .parameters import ParameterSpace, ParameterTable
from .problem import InversionProblem
from .settings import DERIVED, InversionSettings
from .simulators import Simulator
from .surrogates.base import Forcing, FrozenSurrogate, SurrogateSpec
from .transforms import ScaledTransform, Transform

#: Largest difference of a site's fluxes alone and in a batch that still is rounding, as a share of the largest.
_ROUNDING = 2e-5


@dataclass(frozen=True)
class Record:
    """What one site brings to a fit."""

    forcing: Forcing
    """Physical drivers, a (T, F)-dim tensor, or a dict of such tensors for windowed surrogates."""
    fit: Observations
    """Observed fluxes of the days that the loss may use, in the order of the surrogate's outputs."""
    select: Observations | None = None
    """Observed fluxes of the days that early stopping and the choice of the best iterate may use."""
    prior: Tensor | None = None
    """The site's own prior, (P,), in the table's units; the table's when omitted."""
    starts: Tensor | None = None
    """The user's own places to start from, (M, P), in the table's units, NaN for the prior."""
    site: str = ""
    """Name of the site."""

    @property
    def days(self) -> int:
        """Length of the record."""
        return len(self.fit.dates)


def default_terms(settings: InversionSettings, extra: Sequence[LossTerm] = ()) -> list[LossTerm]:
    """Return misfit and prior as the settings ask for them, and the extra terms.

    An extra term with the name of one of ours takes its place.

    Raises:
        ConfigError: If two extra terms share a name.
    """
    ours: list[LossTerm] = [
        Misfit(
            settings.target_variable,
            settings.use_multi_output_loss,
            settings.output_weights,
            settings.use_uncertainty,
            settings.sigma_floor,
        ),
        _prior(settings),
    ]
    names = [term.name for term in extra]
    for name in names:
        if names.count(name) > 1:
            raise ConfigError(f"`loss_terms` has {names.count(name)} terms named {name!r}; keep one.")
    if settings.lambda_prior == DERIVED and Prior.name in names:
        raise ConfigError("`inversion.lambda_prior` is derived, but `loss_terms` has a prior with a weight of its own. Keep one.")
    return [term for term in ours if term.name not in names] + list(extra)


def check_prior_weight(settings: InversionSettings, sites: int) -> None:
    """Check that the weight of the prior can be had.

    Raises:
        ConfigError: If it is to be derived for more than one site.
    """
    if settings.lambda_prior == DERIVED and sites > 1:
        raise ConfigError(
            f"`inversion.lambda_prior`: 'derived' gives the weight of one site, and here are {sites} that share one. Give a number."
        )


def _prior(settings: InversionSettings) -> Prior:
    """Return the prior; a weight that is to be derived is known once there is a problem, and one until then."""
    return Prior(unit="prior_sd") if settings.lambda_prior == DERIVED else Prior(weight=settings.lambda_prior)


def build_problem(
    surrogate: FrozenSurrogate,
    table: ParameterTable,
    records: Sequence[Record],
    settings: InversionSettings,
    terms: Sequence[LossTerm] = (),
    transform: type[Transform] = ScaledTransform,
) -> InversionProblem:
    """Join surrogate, parameters, the records of S sites and terms into the problem that solvers see, one member a site.

    Args:
        surrogate: The frozen surrogate.
        table: The parameters, in the order of the surrogate's input.
        records: One a site; their lengths may differ.
        settings: How to invert.
        terms: Loss terms beside misfit and prior; the problem has copies, whose weights may change without a trace in these.
        transform: The map between the optimiser's coordinates and physical parameters.

    Returns:
        The problem. Days of the surrogate's warm-up, and those beyond the end of a shorter record, are out of its mask.

    Raises:
        ConfigError: If the target is not an output of the surrogate, no observed day of a site is left, or the weight of the
            prior is to be derived for more than one site.
        ShapeError: If sites with windows of forcing are to share a batch.
    """
    check_outputs(surrogate, settings)
    check_prior_weight(settings, len(records))
    dtype = torch.get_default_dtype()
    longest = max(record.days for record in records)
    observed, mask = stack_observed([r.fit for r in records], longest, surrogate.spec.warmup_days, settings.use_mask)
    _check_observed(mask[..., surrogate.spec.output_names.index(settings.target_variable)], surrogate, settings)
    return InversionProblem(
        surrogate,
        ParameterSpace(table, transform(surrogate.static_scaler, copy.deepcopy(table.bounds).to(dtype)), _priors(table, records)),
        _stack_forcing(records, longest, dtype),
        observed,
        mask,
        default_terms(settings, copy.deepcopy(list(terms))),
        _stack_sigma([record.fit for record in records], mask),
        partial(
            Simulator,
            kernel=settings.kernel,
            arithmetic=settings.arithmetic,
            threads=settings.kernel_threads,
        ),
        _days([record.days for record in records], longest, surrogate.spec.warmup_days),
        [record.site for record in records],
    )


def stack_observed(
    observations: Sequence[Observations], days: int, warmup_days: int, use_mask: bool = True
) -> tuple[Tensor, Tensor]:
    """Return the observed fluxes of S sites and which of them count.

    Args:
        observations: One a site.
        days: Length to which shorter records are filled up.
        warmup_days: Days at the start that do not count.
        use_mask: Whether the observations' own mask says which days count; if not, every day with a value does.

    Returns:
        Values [gC m-2 d-1], NaN where absent, and mask, both (S, days, V).
    """
    dtype = torch.get_default_dtype()
    values = torch.stack([_fill_up(torch.as_tensor(o.values, dtype=dtype), days, torch.nan) for o in observations])
    given = torch.stack([_fill_up(torch.tensor(o.mask), days, False) for o in observations])
    mask = given if use_mask else torch.isfinite(values)
    mask[:, :warmup_days] = False
    return values, mask


def usable_days(observations: Observations | None, spec: SurrogateSpec, target: str) -> Observations | None:
    """Return observations that hold a day of the target after the surrogate's warm-up, None otherwise."""
    if observations is None or target not in spec.output_names:
        return observations
    return observations if observations.mask[spec.warmup_days :, spec.output_names.index(target)].any() else None


def stack_select(records: Sequence[Record], problem: InversionProblem, target: str) -> tuple[Tensor, Tensor] | None:
    """Return the observed fluxes of the `select` days and their mask, (S, T, V), or None where there are none of the target.

    Raises:
        ConfigError: If some sites have such days and others have not.
    """
    observations = [record.select for record in records if record.select is not None]
    if not observations:
        return None
    if len(observations) < len(records):
        raise ConfigError(f"{len(observations)} of {len(records)} sites have `select` days; fit those without in another batch.")
    spec = problem.surrogate.spec
    observed, mask = stack_observed(observations, problem.observed.shape[1], spec.warmup_days)
    return (observed, mask) if bool(mask[..., spec.output_names.index(target)].any(1).all()) else None


@torch.no_grad()
def is_padded_exactly(together: InversionProblem, alone: InversionProblem, row: int) -> bool:
    """Say whether a site has the same fluxes, and the same loss, at its prior in a batch of longer records as alone.

    Args:
        together: The problem of all sites.
        alone: The problem of that site.
        row: Its place among all.
    """
    rows = torch.tensor([row])
    theta = alone.space.to_theta(alone.space.priors)
    one, among = alone(theta), together(theta, rows)
    fluxes, found = one.evaluation.simulated[:, alone.days[0]], among.evaluation.simulated[:, together.days[row]]
    return _is_close(fluxes, found) and _is_close(one.total, among.total)


def _is_close(one: Tensor, other: Tensor) -> bool:
    """Compare up to rounding; what is not a number in both is the same."""
    size = one.nan_to_num().abs().amax(tuple(range(one.dim() - 1)), keepdim=True) if one.dim() > 1 else one.abs()
    return bool((((one - other).abs() <= _ROUNDING * size) | (one.isnan() & other.isnan())).all())


def check_outputs(surrogate: FrozenSurrogate, settings: InversionSettings) -> None:
    """Check that the fluxes that the settings name are outputs of the surrogate.

    Raises:
        ConfigError: If one is not.
    """
    target, outputs = settings.target_variable, surrogate.spec.output_names
    if target not in outputs:
        raise ConfigError(f"`inversion.target_variable`: {target!r} is not an output of the surrogate.{suggest(target, outputs)}")
    for name in settings.output_weights or ():
        if name not in outputs:
            raise ConfigError(f"`inversion.output_weights`: {name!r} is not an output of the surrogate.{suggest(name, outputs)}")


def _check_observed(target: Tensor, surrogate: FrozenSurrogate, settings: InversionSettings) -> None:
    if not bool(target.any(1).all()):
        raise ConfigError(
            f"no observed day of {settings.target_variable!r} is left for the fit: the mask is empty after "
            f"{surrogate.spec.warmup_days} warm-up days. Check the mask, the quality threshold and the split."
        )


def _priors(table: ParameterTable, records: Sequence[Record]) -> Tensor | None:
    """Return the priors of the sites, (S, P), or None where all have the table's."""
    if all(record.prior is None for record in records):
        return None
    return torch.stack([table.prior if record.prior is None else record.prior.to(table.prior) for record in records])


def _stack_forcing(records: Sequence[Record], days: int, dtype: torch.dtype) -> Forcing:
    first = records[0].forcing
    if isinstance(first, dict):
        if len(records) > 1:
            raise ShapeError(f"the forcing of {len(records)} sites is a dict of windows, expected tensors. Fit one site at a time.")
        return {name: value.to(dtype).unsqueeze(0) for name, value in first.items()}
    return torch.stack([_fill_up_forcing(record, days).to(dtype) for record in records])


def _fill_up_forcing(record: Record, days: int) -> Tensor:
    forcing = record.forcing
    if isinstance(forcing, dict) or len(forcing) != record.days:
        found = "a dict of windows" if isinstance(forcing, dict) else f"{len(forcing)} days"
        raise ShapeError(f"forcing has {found}, expected the {record.days} days of the observations. Unobserved ones are masked.")
    return torch.cat([forcing, forcing[-1:].expand(days - len(forcing), -1)])


def _stack_sigma(observations: Sequence[Observations], mask: Tensor) -> Tensor | None:
    """Return standard deviations, (S, days, V), one where none is given or the day does not count."""
    if all(o.sigma is None for o in observations):
        return None
    sigma = torch.ones(mask.shape, dtype=torch.get_default_dtype())
    for row, o in zip(sigma, observations, strict=True):
        if o.sigma is not None:
            row[: len(o.sigma)] = torch.as_tensor(o.sigma)
    return torch.where(mask, sigma, 1.0)


def _days(lengths: Sequence[int], longest: int, warmup_days: int) -> Tensor:
    day = torch.arange(longest)
    return (day < torch.tensor(lengths)[:, None]) & (day >= warmup_days)


def _fill_up(values: Tensor, days: int, filling: float) -> Tensor:
    return torch.nn.functional.pad(values, (0, 0, 0, days - len(values)), value=filling)
