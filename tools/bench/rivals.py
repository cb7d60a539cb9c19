r"""The methods that others would use on the same problem: the plain loop, scipy, and peers from PyPI.

Each takes the problem, theta to start from (1, P), and a budget of wall time [s], and returns a :class:`Trace`. All of them work in
theta inside the bounds, on one thread. Least-squares and ensemble methods see the same objective as the others:

.. math:: L(\theta) = \frac{1}{n} \sum_t (s_t - o_t)^2 + \lambda \lVert z - z^{prior} \rVert^2

is a sum of squares, and with observational variance :math:`n \lambda` and a standard normal prior, :math:`L / \lambda` is minus
twice the logarithm of the posterior.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable
from contextlib import redirect_stdout

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from traces import Recorder, Trace

from lit_invert.problem import InversionProblem

Array = NDArray[np.float64]
Method = Callable[[InversionProblem, Tensor, float], Trace]

ADAM_LR, ADAM_STEPS = 0.02, 500
"""The field's recipe."""
DIFFERENCE_STEP = 1e-3
"""Step of finite differences in theta: float32 has no digits for scipy's own."""
MDA_MEMBERS, MDA_STEPS = 200, 8
NPE_SIMULATIONS, NPE_FEATURES = 2000, 30


def adam(problem: InversionProblem, theta0: Tensor, budget: float = math.inf) -> Trace:
    """Five hundred Adam steps, clipped to the bounds after each: the plain loop, whatever it costs."""
    recorder = Recorder(problem)
    theta = nn.Parameter(theta0.clone())
    optimizer = torch.optim.Adam([theta], lr=ADAM_LR)
    for _ in range(ADAM_STEPS):
        _, theta.grad = recorder.gradient(theta)
        optimizer.step()
        with torch.no_grad():
            theta.copy_(problem.space.project(theta)[0])
    recorder.losses(theta)
    return recorder.trace


def scipy_lbfgsb(problem: InversionProblem, theta0: Tensor, budget: float = math.inf) -> Trace:
    """L-BFGS-B to convergence with autograd's gradients: no code of ours, the bar."""
    from scipy.optimize import minimize

    recorder = Recorder(problem, budget)

    def value_and_gradient(theta: Array) -> tuple[float, Array]:
        loss, gradient = recorder.gradient(to_theta(theta, problem))
        return loss.item(), gradient[0].double().numpy()

    with recorder.until_spent():
        minimize(
            value_and_gradient,
            inside(problem, theta0),
            jac=True,
            method="L-BFGS-B",
            bounds=np.stack(theta_bounds(problem), axis=1),
            options={"maxiter": 10_000, "maxfun": 10_000},
        )
    return recorder.trace


def scipy_trf(problem: InversionProblem, theta0: Tensor, budget: float = math.inf) -> Trace:
    """Trust-region least squares with scipy's own forward differences, a simulation at a time."""
    return _least_squares(problem, theta0, budget, lambda recorder: "2-point")


def scipy_trf_batched(problem: InversionProblem, theta0: Tensor, budget: float = math.inf) -> Trace:
    """Trust-region least squares with forward differences, all parameters in one batch."""
    return _least_squares(problem, theta0, budget, _batched_differences)


def cma_es(problem: InversionProblem, theta0: Tensor, budget: float = math.inf) -> Trace:
    """CMA-ES, the population simulated as one batch.

    Source:
        Hansen (2016), arXiv:1604.00772; `cma` on PyPI.
    """
    import cma

    recorder = Recorder(problem, budget)
    bounds = [side.tolist() for side in theta_bounds(problem)]
    options = {"bounds": bounds, "verbose": -9, "seed": 1}
    with recorder.until_spent():
        strategy = cma.CMAEvolutionStrategy(inside(problem, theta0), 0.5, options)
        while not strategy.stop():
            population = strategy.ask()
            strategy.tell(population, recorder.losses(to_theta(np.array(population), problem)).tolist())
    return recorder.trace


def spotpy_sceua(problem: InversionProblem, theta0: Tensor, budget: float = math.inf) -> Trace:
    """Shuffled complex evolution, a simulation at a time.

    Source:
        Duan, Gupta and Sorooshian (1993), doi:10.1007/BF00939380; `spotpy` on PyPI.
    """
    import spotpy

    recorder = Recorder(problem, budget)
    limits = zip(*theta_bounds(problem), inside(problem, theta0), strict=True)
    uniform = [spotpy.parameter.Uniform(str(i), low, high, optguess=at) for i, (low, high, at) in enumerate(limits)]

    class Setup:
        """What spotpy asks of a model; the objective is the simulation itself."""

        def parameters(self) -> Array:
            generated: Array = spotpy.parameter.generate(uniform)
            return generated

        def simulation(self, vector: Array) -> list[float]:
            return recorder.losses(to_theta(np.array(list(vector)), problem)).tolist()

        def evaluation(self) -> list[float]:
            return [0.0]

        def objectivefunction(self, simulation: list[float], evaluation: list[float]) -> float:
            return simulation[0]

    with recorder.until_spent(), redirect_stdout(io.StringIO()):
        sampler = spotpy.algorithms.sceua(Setup(), dbformat="ram", save_sim=False, random_state=1)
        sampler.sample(10**9)
    return recorder.trace


def es_mda(problem: InversionProblem, theta0: Tensor, budget: float = math.inf) -> Trace:
    r"""Ensemble smoother with multiple data assimilation, and its mean at the end.

    .. math:: z_j \leftarrow z_j + C_{zd} (C_{dd} + \alpha n \lambda I)^{-1} (o + \sqrt{\alpha n \lambda}\, \epsilon_j - s_j)

    Source:
        Emerick and Reynolds (2013), doi:10.1016/j.cageo.2012.03.011.
    """
    recorder = Recorder(problem, budget)
    random = np.random.default_rng(1)
    start = inside(problem, theta0)
    members = to_inside(problem, start + random.standard_normal((MDA_MEMBERS, len(start))))
    with recorder.until_spent():
        for _ in range(MDA_STEPS):
            misfit, variance = _misfits(recorder, members)
            noise = np.sqrt(MDA_STEPS * variance) * random.standard_normal(misfit.shape)
            members = to_inside(problem, members + (noise - misfit) @ _kalman_gain(members, misfit, MDA_STEPS * variance).T)
        recorder.losses(to_theta(np.vstack([members, members.mean(0)]), problem))
    return recorder.trace


def sbi_npe(problem: InversionProblem, theta0: Tensor, budget: float = math.inf) -> Trace:
    """Amortised posterior by a normalising flow on principal components of NEP; its samples are then evaluated.

    Source:
        Greenberg, Nonnenmacher and Macke (2019), arXiv:1905.07488; `sbi` on PyPI.
    """
    from sbi.inference import NPE
    from sbi.utils import BoxUniform

    recorder = Recorder(problem, budget)
    random = np.random.default_rng(1)
    start = inside(problem, theta0)
    drawn = to_inside(problem, start + random.standard_normal((NPE_SIMULATIONS, len(start))))
    with recorder.until_spent():
        misfit, variance = _misfits(recorder, drawn)
        noisy = misfit + np.sqrt(variance) * random.standard_normal(misfit.shape)
        mean, spread = noisy.mean(0), np.linalg.svd(noisy - noisy.mean(0), full_matrices=False)[2][:NPE_FEATURES].T
        features = torch.as_tensor((noisy - mean) @ spread).float()
        low, high = (torch.as_tensor(side).float() for side in theta_bounds(problem))
        inference = NPE(BoxUniform(low, high), show_progress_bars=False)
        inference.append_simulations(torch.as_tensor(drawn).float(), features, proposal=None).train()
        observed = torch.as_tensor(-mean @ spread).float()
        samples = inference.build_posterior().sample((200,), x=observed, show_progress_bars=False)
        recorder.losses(samples)
    return recorder.trace


def theta_bounds(problem: InversionProblem) -> tuple[Array, Array]:
    """Return lower and upper bounds of theta, (P,) each."""
    space = problem.space
    lower, upper = space.bounds.resolve(space.prior)
    return space.to_theta(lower).double().numpy(), space.to_theta(upper).double().numpy()


def inside(problem: InversionProblem, theta: Tensor) -> Array:
    """Return theta (1, P) as a vector inside the bounds."""
    return to_inside(problem, theta[0].double().numpy())


def to_inside(problem: InversionProblem, theta: Array) -> Array:
    """Clip theta (..., P) to the bounds."""
    return np.clip(theta, *theta_bounds(problem))


def to_theta(values: Array, problem: InversionProblem) -> Tensor:
    """Return one vector or several as theta (B, P) in the problem's precision."""
    return torch.as_tensor(np.atleast_2d(values), dtype=problem.space.prior.dtype)


def residuals(problem: InversionProblem, theta: Tensor) -> Tensor:
    """Return all residuals (B, n + P) of theta (B, P), whose squares sum to the loss.

    Misfit of one output by equal weights and prior in scaled space, as `build_problem` has them by default.
    """
    seen = problem.evaluate(theta)
    weights = {term.name: term.weight for term in problem.terms}
    where = seen.mask.any(0)
    misfit = (seen.simulated - seen.observed)[:, where] * math.sqrt(weights["misfit"] / int(where.sum()))
    return torch.cat([misfit, (seen.scaled - seen.prior_scaled) * math.sqrt(weights["prior"])], dim=1)


def _residuals(recorder: Recorder, theta: Array) -> Array:
    """Evaluate residuals (B, n + P) for a method and note their losses."""
    tensor = to_theta(theta, recorder.problem)
    with torch.no_grad():
        values = residuals(recorder.problem, tensor)
    recorder.note(tensor, values.square().sum(1))
    return values.double().numpy()


def _batched_differences(recorder: Recorder) -> Callable[[Array], Array]:
    """Return the Jacobian by forward differences, backward where a bound is near."""
    upper = theta_bounds(recorder.problem)[1]

    def jacobian(theta: Array) -> Array:
        steps = np.where(theta + DIFFERENCE_STEP > upper, -DIFFERENCE_STEP, DIFFERENCE_STEP)
        values = _residuals(recorder, np.vstack([theta, theta + np.diag(steps)]))
        return np.asarray(((values[1:] - values[0]) / steps[:, None]).T)

    return jacobian


def _least_squares(problem: InversionProblem, theta0: Tensor, budget: float, jacobian: Callable[[Recorder], object]) -> Trace:
    from scipy.optimize import least_squares

    recorder = Recorder(problem, budget)
    with recorder.until_spent():
        least_squares(
            lambda theta: _residuals(recorder, theta)[0],
            inside(problem, theta0),
            jac=jacobian(recorder),
            bounds=theta_bounds(problem),
            method="trf",
            diff_step=DIFFERENCE_STEP,
        )
    return recorder.trace


def _misfits(recorder: Recorder, members: Array) -> tuple[Array, float]:
    """Return simulated minus observed (B, n) of an ensemble, and the variance that makes the loss a posterior."""
    values = np.concatenate([_residuals(recorder, some) for some in np.array_split(members, max(1, len(members) // 50))])
    n = values.shape[1] - members.shape[1]
    weight = next(term.weight for term in recorder.problem.terms if term.name == "prior")
    return values[:, :n] * math.sqrt(n), n * weight


def _kalman_gain(members: Array, simulated: Array, variance: float) -> Array:
    """Return the ensemble's gain (P, n)."""
    parameters, data = (x - x.mean(0) for x in (members, simulated))
    covariance = data.T @ data / (len(data) - 1)
    cross = parameters.T @ data / (len(data) - 1)
    return np.asarray(np.linalg.solve(covariance + variance * np.eye(len(covariance)), cross.T).T)


METHODS: dict[str, Method] = {
    "adam": adam,
    "scipy_lbfgsb": scipy_lbfgsb,
    "scipy_trf": scipy_trf,
    "scipy_trf_batched": scipy_trf_batched,
    "cma": cma_es,
    "spotpy_sceua": spotpy_sceua,
    "es_mda": es_mda,
    "sbi_npe": sbi_npe,
}
