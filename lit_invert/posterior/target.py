"""The posterior of an inversion: its mode, and what the data say around it.

A posterior is a problem like the fit's own (:func:`posterior_problem`), whose loss is minus twice the log density: the same
surrogate, forcing, days and bounds, with the misfit replaced by the likelihood of estimated noise and the prior by the table's own
standard deviations. The fit's loss knows neither, so its optimum and the posterior's mode are two points; where they lie far apart,
`lambda_prior` was not what the prior's standard deviations say.

Everything is batched: B members may be one site, B twins of it, or B sites.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from ..errors import ObservationError
from ..losses import Misfit
from ..losses.base import Evaluation, index_of
from ..metrics import flux_name
from ..problem import InversionProblem
from ..problem_objective import ProblemObjective, gradient_of
from ..solvers import LevenbergMarquardt, Stopping, minimize
from .noise import NOISE_FLOOR, Noise, estimate_noise
from .terms import GaussianPrior, Likelihood

#: How finely each mode is found, as a share of minus twice its log density: a new estimate of the noise follows, but for the last.
_TOLERANCES = (1e-4, 1e-4, 1e-6)
#: Fewest observed days: the noise alone has three numbers.
_FEWEST_DAYS = 3
#: Most steps to a mode.
_STEPS = 60


@dataclass(frozen=True)
class Mode:
    """Mode of the posterior of B members, and the linearisation there; K free parameters, N whitened residuals."""

    problem: InversionProblem
    """Its loss is minus twice the log posterior."""
    noise: Mapping[str, Noise]
    """Noise of each flux that counts."""
    theta: Tensor
    """The mode in the optimiser's coordinates, (B, P)."""
    units: Tensor
    """The mode in prior units, (B, P), float64 [-]."""
    free: Tensor
    """Places of the K free parameters."""
    jacobian: Tensor
    """Derivatives of the whitened residuals by the free parameters in prior units, (B, N, K), float64 [-]."""
    others: Tensor
    """Curvature of the terms beside likelihood and prior, as far as they declare residuals, in prior units, (B, K, K)."""
    gradient: Tensor
    """Half the gradient of the loss by the same, (B, K): zero but where a bound holds the mode."""
    simulated: Tensor
    """Fluxes at the mode, (B, T, V) [gC m-2 d-1]."""

    @property
    def information(self) -> Tensor:
        """Fisher information of the data alone in prior units, (B, K, K): the prior's own is one along every direction."""
        return self.jacobian.transpose(1, 2) @ self.jacobian

    @property
    def precision(self) -> Tensor:
        """Inverse covariance of the posterior before it is cut to the bounds, in prior units, (B, K, K)."""
        return self.information + self.others + torch.eye(len(self.free), dtype=torch.float64)

    @property
    def spent(self) -> Tensor:
        """Effective number of parameters that the data determine, (B,)."""
        return effective_parameters(self.information)

    @property
    def spent_on(self) -> dict[str, Tensor]:
        """What each flux has paid of that number, (B,) each."""
        parts = self.jacobian.chunk(len(self.noise), dim=1)
        share = torch.linalg.inv(self.information + torch.eye(len(self.free), dtype=self.jacobian.dtype))
        return {name: torch.einsum("bnk,bkl,bnl->b", j, share, j) for name, j in zip(self.noise, parts, strict=True)}


def effective_parameters(information: Tensor) -> Tensor:
    r"""Return :math:`\sum_i \lambda_i / (1 + \lambda_i)` over the eigenvalues of the information, (B,).

    Example:
        >>> effective_parameters(torch.diag(torch.tensor([9.0, 1.0, 0.0])).unsqueeze(0))
        tensor([1.4000])
    """
    eigenvalues: Tensor = torch.linalg.eigvalsh(information).clamp_min(0.0)
    return (eigenvalues / (1 + eigenvalues)).sum(-1)


def to_units(problem: InversionProblem, theta: Tensor) -> Tensor:
    """Return parameters in prior units, (B, P), float64: distances from the prior in its standard deviations [-]."""
    space = problem.space
    prior = space.scaler.to_scaled(space.priors)
    return ((space.scaler.to_scaled(space.to_physical(theta)) - prior) / space.prior_sd_scaled).double()


def to_theta(problem: InversionProblem, units: Tensor) -> Tensor:
    """Return theta, (B, P), of parameters in prior units, clipped to the bounds."""
    space = problem.space
    prior = space.scaler.to_scaled(space.priors)
    physical = space.scaler.to_physical(prior + units.to(prior) * space.prior_sd_scaled)
    return space.to_theta(space.bounds.clip(torch.where(space.fixed, space.priors, physical)))


def unit_bounds(problem: InversionProblem, theta: Tensor) -> tuple[Tensor, Tensor]:
    """Return lower and upper bounds in prior units, (B, P), float64; a bound that is another parameter stands where that one is."""
    space = problem.space
    lower, upper = space.bounds.resolve(space.to_physical(theta))
    prior = space.scaler.to_scaled(space.priors)
    sides = []
    for side, nowhere in ((lower, -torch.inf), (upper, torch.inf)):
        known = torch.where(torch.isfinite(side), side, space.priors)
        scaled = (space.scaler.to_scaled(known) - prior) / space.prior_sd_scaled
        sides.append(torch.where(torch.isfinite(side), scaled, nowhere).double())
    return sides[0], sides[1]


def counted_fluxes(problem: InversionProblem, target: str) -> tuple[str, ...]:
    """Return the fluxes whose observations the misfit counts: the target, or all observed ones it has a weight for."""
    outputs = problem.surrogate.spec.output_names
    misfits = [term for term in problem.loss_terms if isinstance(term, Misfit)]
    if not any(term.multi_output for term in misfits):
        return (target,)
    weights = {name: weight for term in misfits for name, weight in term.output_weights.items()}
    return tuple(name for i, name in enumerate(outputs) if weights.get(name, 0) > 0 and bool(problem.mask[..., i].any()))


def noise_of(
    problem: InversionProblem, theta: Tensor, fluxes: Sequence[str], spent: Mapping[str, Tensor] | None = None
) -> dict[str, Noise]:
    """Estimate the noise of each flux from the residuals at theta.

    Args:
        problem: The problem of the fit.
        theta: Parameters of B members, (B, P).
        fluxes: The fluxes that count.
        spent: Effective number of parameters that the residuals of each flux have paid for, (B,).
    """
    with torch.no_grad():
        evaluation = problem.evaluate(theta)
    found = {}
    for name in fluxes:
        place = index_of(name, evaluation.outputs, "output of the surrogate")
        simulated = evaluation.simulated[..., place]
        mask = evaluation.mask[..., place].expand(simulated.shape)
        residuals = torch.where(mask, simulated - evaluation.observed[..., place], 0.0)
        found[name] = estimate_noise(
            residuals, simulated, mask, _stated_shape(problem, evaluation, place), None if spent is None else spent[name]
        )
    return found


def _stated_shape(problem: InversionProblem, evaluation: Evaluation, place: int) -> Tensor | None:
    """Return the stated variance of each day over its mean, (B, T), or None where none is stated or the misfit ignores it."""
    misfits = [term for term in problem.loss_terms if isinstance(term, Misfit) and term.use_sigma]
    if evaluation.sigma is None or not misfits:
        return None
    simulated, mask = evaluation.simulated[..., place], evaluation.mask[..., place]
    variance = evaluation.sigma[..., place].square() + misfits[0].sigma_floor ** 2
    mean = torch.where(mask, variance, 0.0).sum(-1, keepdim=True) / mask.sum(-1, keepdim=True).clamp_min(1)
    return torch.where(mask, variance / mean, 1.0).expand(simulated.shape)


def posterior_problem(problem: InversionProblem, noise: Mapping[str, Noise], centre: Tensor | None = None) -> InversionProblem:
    r"""Return the problem whose loss is minus twice the log posterior.

    Loss terms beside misfit and prior keep what they weighed against the misfit: their weight is multiplied by
    :math:`n_{eff} / \sigma^2`, the median over the members.

    Args:
        problem: The problem of the fit.
        noise: Noise of each flux that counts.
        centre: Centres of the members' priors in prior units, (1 or B, P); the prior itself when omitted.
    """
    others = [copy.deepcopy(term) for term in problem.loss_terms if term.name not in ("misfit", "prior", "likelihood")]
    first = next(iter(noise.values()))
    factor = first.n_eff.median().item() / max(first.variance.median().item(), NOISE_FLOOR**2)
    for term in others:
        term.weight = term.weight * factor
    return problem.variant(terms=[Likelihood(noise), GaussianPrior(centre), *others])


def find_mode(problem: InversionProblem, theta: Tensor, target: str, noise: Mapping[str, Noise] | None = None) -> Mode:
    """Find the mode of the posterior of B members.

    Args:
        problem: The problem of the fit, of one member or of B.
        theta: Where to start, such as the optimum of the fit, (B, P).
        target: The flux that was fitted.
        noise: Its noise, where it is known; estimated along the way when omitted.

    Raises:
        ObservationError: If there are too few days to estimate the noise from.
    """
    if noise is not None:
        return _mode_under(problem, theta, noise, _TOLERANCES[-1])
    _check_days(problem, target)
    fluxes = counted_fluxes(problem, target)
    # far from an optimum residuals last because the simulation is wrong: taken for lasting noise, that would never be mended
    theta = _descend(problem, theta, _TOLERANCES[0])
    mode = _mode_under(problem, theta, noise_of(problem, theta, fluxes), _TOLERANCES[0])
    for tolerance in _TOLERANCES[1:]:
        mode = _mode_under(problem, mode.theta, noise_of(problem, mode.theta, fluxes, mode.spent_on), tolerance)
    return mode


def _check_days(problem: InversionProblem, target: str) -> None:
    place = index_of(target, problem.surrogate.spec.output_names, "output of the surrogate")
    days = int(problem.mask[..., place].sum(-1).min())
    if days < _FEWEST_DAYS:
        raise ObservationError(
            f"a posterior needs {_FEWEST_DAYS} or more days of {flux_name(target)} to fit, as many as its noise has numbers; "
            f"found {days}. Give more data, or set `uncertainty.method: none` and a number as `inversion.lambda_prior`."
        )


def _mode_under(problem: InversionProblem, theta: Tensor, noise: Mapping[str, Noise], tolerance: float) -> Mode:
    posterior = posterior_problem(problem, noise)
    return linearise(posterior, _descend(posterior, theta, tolerance), noise)


def _descend(problem: InversionProblem, theta: Tensor, tolerance: float) -> Tensor:
    solver = partial(LevenbergMarquardt, stopping=Stopping(loss=tolerance))
    return minimize(ProblemObjective(problem), theta, solver, max_iters=_STEPS).theta


@torch.no_grad()
def linearise(posterior: InversionProblem, theta: Tensor, noise: Mapping[str, Noise]) -> Mode:
    """Return the linearisation of a posterior problem at theta, (B, P), in prior units."""
    evaluation, tangent, free = posterior.push(theta)
    slopes = tangent.scaled[..., free].double() / posterior.space.prior_sd_scaled[..., free].double()
    gradient = torch.zeros(len(theta), len(free), dtype=torch.float64)
    jacobian, others = gradient[:, None], torch.zeros(len(theta), len(free), len(free), dtype=torch.float64)
    for term in posterior.loss_terms:
        residuals = term.residuals(evaluation)
        if residuals is None:
            gradient += 0.5 * term.weight * by_units(gradient_of(term, evaluation, tangent).unsqueeze(1), slopes).squeeze(1)
            continue
        pushed = by_units(term.push_residuals(evaluation, tangent), slopes)
        gradient += term.weight * torch.einsum("bnk,bn->bk", pushed, residuals.double())
        if isinstance(term, Likelihood):
            jacobian = pushed
        elif not isinstance(term, GaussianPrior):
            others += term.weight * pushed.transpose(1, 2) @ pushed
    return Mode(posterior, noise, theta, to_units(posterior, theta), free, jacobian, others, gradient, evaluation.simulated)


def by_units(pushed: Tensor, slopes: Tensor) -> Tensor:
    """Turn derivatives by the components of theta, (B, N, K), into derivatives by prior units.

    Args:
        pushed: Derivatives along each free component of theta.
        slopes: Derivatives of the prior units along the same, (B, K, K).
    """
    by: Tensor = torch.linalg.solve(slopes.transpose(1, 2), pushed.double(), left=False)
    return by


@torch.no_grad()
def push_fluxes(mode: Mode) -> Tensor:
    """Return the derivatives of every flux on every day by the free parameters in prior units, (B, T, V, K) [gC m-2 d-1]."""
    _, tangent, free = mode.problem.push(mode.theta)
    slopes = tangent.scaled[..., free].double() / mode.problem.space.prior_sd_scaled[..., free].double()
    pushed = tangent.simulated
    return by_units(pushed.flatten(1, 2), slopes).view(pushed.shape)
