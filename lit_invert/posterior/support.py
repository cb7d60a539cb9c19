r"""Whether the surrogate is good enough to say what the fit says: how near the optimum is to what it learnt from.

The statics of a training ensemble fill a box, evenly but for a share near the prior (:mod:`lit_invert.process.ensemble`), so the
support is the box, and its standard deviation in the spec is that of an even spread over it. Three distances follow:

* for each parameter its place in the training range, in the logarithm where the surrogate takes one, and whether it is outside;
* for all of them the length of the scaled vector, :math:`d = \sqrt{\sum_p z_p^2}`: the Mahalanobis distance of independent
  parameters. Its percentile is among points drawn evenly over the ranges, not that of a chi distribution, which a box does not
  follow; a parameter whose range the spec does not state is drawn from a standard normal;
* to members of the ensemble that were held out, in standard deviations a parameter, beside how far these are from one another.

At the nearest of these members the surrogate's error is measured anew. They lie in a file `holdout.npz` beside the spec, which
`lit-invert train` writes and other surrogates may bring: `static` (M, P), `forcing` (M, T, F) and `simulated` (M, T, V), physical.

The error that counts for the fit is the best one known: that of a re-simulation at the optimum, that which the spec states for
held-out members, or that at the nearest of them. Where a day's residual is smaller, nobody knows what it means.
"""

from __future__ import annotations

import math
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..errors import SurrogateError
from ..metrics import rmse
from ..results import InversionResult
from ..sites import Site
from ..surrogates.base import FrozenSurrogate, SurrogateSpec

Values = NDArray[np.float64]

#: The file with held-out members, beside the spec.
HOLDOUT = "holdout.npz"
#: Nearest members at which the error is measured.
NEAREST = 3
#: Draws behind the percentile of the distance.
_DRAWS = 20_000
#: A share of the range within which a parameter on its limit is inside: room for rounding.
_ROUNDING = 1e-5


def support(
    result: InversionResult, site: Site, surrogate: FrozenSurrogate, held_out: Path, resimulated: Values | None = None
) -> dict[str, Any]:
    """Return how far the surrogate was trained for an optimum, and what of the misfit lies below its own error.

    Args:
        result: The inversion.
        site: Its site, with the observed `fit` days.
        surrogate: The frozen surrogate.
        held_out: File of held-out members, where there is one.
        resimulated: Fluxes of the process model at the optimum, (T, V) [gC m-2 d-1]; None without one.

    Returns:
        `parameters` (by name `sd`, `place`, `outside`), `outside` (names), `distance`, `percentile`, `nearest` (None without
        held-out members), `resimulation_gap` (RMSE of the target, None without one), `error` (`rmse`, `source`; None where nothing
        tells) and `misfit` (`days_below_error`, `error_to_misfit`; likewise).

    Raises:
        SurrogateError: If the file of held-out members is malformed.
    """
    spec, place = surrogate.spec, surrogate.spec.output_names.index(result.target)
    scaled = result.optimum_scaled.cpu().numpy()
    parameters = _places(scaled, spec)
    nearest = _at_nearest(scaled, surrogate, held_out)
    simulated = result.simulated_optimum[:, place]
    gap = None
    if resimulated is not None:
        gap = rmse(simulated[spec.warmup_days :], resimulated[spec.warmup_days :, place])
    error = _error(gap, spec.accuracy.get(result.target), None if nearest is None else nearest["rmse"][result.target])
    days = site.fit.mask[:, place]
    residuals = simulated[days] - site.fit.values[days, place]
    return {
        "parameters": parameters,
        "outside": [name for name, found in parameters.items() if found["outside"]],
        "distance": float(np.linalg.norm(scaled)),
        "percentile": percentile(float(np.linalg.norm(scaled)), spec),
        "nearest": nearest,
        "resimulation_gap": gap,
        "error": error,
        "misfit": None if error is None else misfit_below(residuals, error["rmse"]),
    }


def misfit_below(residuals: Values, error: float) -> dict[str, float]:
    """Return what of a misfit lies below the surrogate's own error.

    Args:
        residuals: Simulated minus observed, (n,) [gC m-2 d-1].
        error: The surrogate's RMSE [gC m-2 d-1].

    Returns:
        `days_below_error`, the share of days whose residual is smaller, and `error_to_misfit`, the squared error over the mean
        squared residual: above one the fit is better than the surrogate deserves.

    Example:
        >>> misfit_below(np.array([0.5, -2.0]), 1.0)
        {'days_below_error': 0.5, 'error_to_misfit': 0.47058823529411764}
    """
    square = float(np.mean(np.square(residuals)))
    return {
        "days_below_error": float(np.mean(np.abs(residuals) < error)),
        "error_to_misfit": error**2 / square if square > 0 else math.inf,
    }


def percentile(distance: float, spec: SurrogateSpec) -> float:
    """Return how many per cent of points over the training ranges are nearer to their middle.

    Args:
        distance: Length of the scaled vector [-].
        spec: Ranges and scaling of the statics.
    """
    rng = np.random.default_rng(0)
    lower, upper = _ranges(spec)
    is_box = np.isfinite(lower) & np.isfinite(upper)
    even = rng.uniform(np.where(is_box, lower, 0.0), np.where(is_box, upper, 1.0), (_DRAWS, len(lower)))
    draws = np.where(is_box, even, rng.standard_normal((_DRAWS, len(lower))))
    return float(100 * np.mean(np.square(draws).sum(1) < distance**2))


def _ranges(spec: SurrogateSpec) -> tuple[Values, Values]:
    """Return the training ranges of the statics in scaled space, (P,) each; infinite where the spec states none."""
    stated = [
        [math.copysign(math.inf, sign) if value is None else value for value in values]
        for sign, values in ((-1, [v.minimum for v in spec.statics]), (1, [v.maximum for v in spec.statics]))
    ]
    lower, upper = (spec.static_scaler().double().to_scaled(torch.tensor(side, dtype=torch.float64)).numpy() for side in stated)
    return np.where(np.isinf(stated[0]), -np.inf, lower), upper


def _places(scaled: Values, spec: SurrogateSpec) -> dict[str, dict[str, Any]]:
    lower, upper = _ranges(spec)
    width = upper - lower
    is_known = np.isfinite(width)
    shares = np.where(is_known, (scaled - np.where(is_known, lower, 0.0)) / np.where(is_known, width, 1.0), np.nan)
    room = np.where(is_known, _ROUNDING * width, 0.0)
    outside = (scaled < lower - room) | (scaled > upper + room)
    rows = zip(spec.statics, scaled.tolist(), shares.tolist(), outside.tolist(), strict=True)
    return {variable.name: {"sd": sd, "place": share, "outside": out} for variable, sd, share, out in rows}


def _at_nearest(scaled: Values, surrogate: FrozenSurrogate, path: Path) -> dict[str, Any] | None:
    """Return distance and error of the surrogate at its nearest held-out members; None without such a file."""
    members = read_members(path, surrogate.spec)
    if members is None:
        return None
    static, forcing, simulated = members
    places = surrogate.static_scaler.to_scaled(static)
    apart = (places.double() - torch.from_numpy(scaled)).square().mean(-1).sqrt()
    order = apart.argsort()[:NEAREST]
    with torch.no_grad():
        found = surrogate(places[order], surrogate.prepare(forcing[order]))
    warm = slice(surrogate.spec.warmup_days, None)
    errors = (found - simulated[order])[:, warm].double().square().mean((0, 1)).sqrt()
    between = torch.pdist(places.double()) / math.sqrt(places.shape[1])
    return {
        "members": order.tolist(),
        "distance": apart[order].tolist(),
        "between_members": between.median().item() if len(between) else math.nan,
        "rmse": dict(zip(surrogate.spec.output_names, errors.tolist(), strict=True)),
    }


def read_members(path: Path, spec: SurrogateSpec) -> tuple[Tensor, Tensor, Tensor] | None:
    """Read held-out members.

    Args:
        path: The file, :data:`HOLDOUT` beside the spec.
        spec: What a member must fit.

    Returns:
        Statics (M, P), forcing (M, T, F) and simulated fluxes (M, T, V), physical; None where there is no such file.

    Raises:
        SurrogateError: If the file is malformed.
    """
    if not path.is_file():
        return None
    try:
        with path.open("rb") as stream, np.load(stream) as arrays:
            static, forcing, simulated = (torch.from_numpy(arrays[name]).float() for name in ("static", "forcing", "simulated"))
        forcing, simulated = forcing[:, : spec.fixed_length], simulated[:, : spec.fixed_length]
    except (OSError, ValueError, KeyError, TypeError, IndexError, zipfile.BadZipFile) as error:
        raise SurrogateError(f"{path}: expected the arrays static, forcing and simulated ({error}). Mend or remove it.") from None
    shapes = [tuple(member.shape) for member in (static, forcing, simulated)]
    count, days = max(len(static), 1), max(forcing.shape[1], spec.shortest_run, spec.warmup_days + 1)
    expected = [(count, len(spec.statics)), (count, days, len(spec.drivers)), (count, days, len(spec.outputs))]
    if shapes != expected:
        raise SurrogateError(f"{path}: has shapes {shapes}, expected static, forcing, simulated as {expected}. Mend or remove it.")
    return static, forcing, simulated


def _error(gap: float | None, stated: float | None, nearest: float | None) -> Mapping[str, Any] | None:
    """Return the error of the target that counts, the best one known, and where it is from."""
    known = {"re-simulated at the optimum": gap, "on held-out members": stated, "at the nearest held-out members": nearest}
    return next(({"rmse": value, "source": source} for source, value in known.items() if value is not None), None)
