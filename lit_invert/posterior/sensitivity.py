r"""Which parameters the simulated fluxes respond to at all, before any data are asked: Morris and Sobol through SALib.

Parameters are varied evenly and independently over two standard deviations of the prior to each side, cut to the bounds, in the
surrogate's scaled space (in the logarithm where it takes one). The bounds themselves are wide: over all of them a few parameters
that nobody believes at their limits would drown the others; `over="bounds"` does so nevertheless.

* Morris moves one parameter at a time along r trajectories: :math:`\mu^*` is the mean of the absolute effect of moving it over its
  whole range, in the output's unit, and :math:`\sigma` the spread of the effect, large where it interacts or bends. It costs
  r (K + 1) simulations.
* Sobol shares the output's variance out: :math:`S_1` is what the parameter explains alone, :math:`S_T` what would stay unexplained
  without it, interactions included. It costs N (K + 2) simulations, N a power of two.

The outputs are plain numbers of a run: the RMSE of the target on the `fit` days and the mean year of each flux.

Source:
    Morris (1991), Factorial sampling plans for preliminary computational experiments, Technometrics 33, 161-174,
    doi:10.1080/00401706.1991.10484804. Saltelli et al. (2010), Variance based sensitivity analysis of model output, Computer
    Physics Communications 181, 259-270, doi:10.1016/j.cpc.2009.09.018.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Literal, get_args

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..errors import ConfigError, suggest
from ..losses.misfit import masked_mean_square
from ..problem import InversionProblem

Values = NDArray[np.float64]
Method = Literal["morris", "sobol"]
Range = Literal["prior", "bounds"]

#: Trajectories of Morris, and base samples of Sobol, where nobody says how many.
SAMPLES: Mapping[str, int] = {"morris": 20, "sobol": 64}
#: Half the width of a parameter's range [prior sd].
WIDTH = 2.0
#: Columns of the table after parameter, method and output, and what SALib calls them.
_MEASURES = {
    "mu_star": "mu_star", "mu_star_conf": "mu_star_conf", "sigma": "sigma", "s1": "S1", "s1_conf": "S1_conf", "st": "ST",
    "st_conf": "ST_conf",
}  # fmt: skip
_LEVELS = 4
#: Days that are simulated at once.
_CHUNK = 1 << 16
_DAYS_A_YEAR = 365.25


def sensitivity(
    problem: InversionProblem,
    target: str,
    method: Method = "morris",
    samples: int | None = None,
    over: Range = "prior",
    seed: int = 0,
) -> pd.DataFrame:
    """Return the sensitivity of a run's numbers to each free parameter.

    Args:
        problem: The problem of one site.
        target: The flux whose RMSE on the `fit` days is one of the outputs.
        method: `morris` or `sobol`.
        samples: Trajectories, or base samples, a power of two; see :data:`SAMPLES`.
        over: Range of the parameters: around the `prior`, or the whole `bounds`.
        seed: Seed of the samples and of the bootstrap behind the confidence intervals.

    Returns:
        A row a parameter and output: `parameter`, `method`, `output` (`rmse_<target>` [gC m-2 d-1], `annual_<flux>`
        [gC m-2 yr-1]), `mu_star`, `mu_star_conf`, `sigma` [of the output], `s1`, `s1_conf`, `st`, `st_conf` [-]; what the other
        method gives is NaN, and so is the share of an output that does not vary. The half-widths are of 95 % intervals.

    Raises:
        ConfigError: If SALib is not installed, or the numbers make no sense.
    """
    samples = SAMPLES.get(method, 0) if samples is None else samples
    _check(problem, method, samples)
    lower, upper = parameter_ranges(problem, over)
    names = [name for name, fixed in zip(problem.space.table.names, problem.space.fixed.tolist(), strict=True) if not fixed]

    def simulate(shares: Values) -> dict[str, Values]:
        return run_outputs(problem, target, lower, upper, shares)

    return analyse(simulate, names, method, samples, seed)


def analyse(
    simulate: Callable[[Values], Mapping[str, Values]], names: list[str], method: Method, samples: int, seed: int = 0
) -> pd.DataFrame:
    """Return the sensitivity of any model to K parameters.

    Args:
        simulate: From points of the unit cube, (n, K), to the outputs by name, (n,) each.
        names: Names of the parameters.
        method: `morris` or `sobol`.
        samples: Trajectories, or base samples.
        seed: Seed of the samples and of the bootstrap.

    Returns:
        As `sensitivity`.
    """
    sampler, analyser = _salib(method)
    box = {"num_vars": len(names), "names": names, "bounds": [[0.0, 1.0]] * len(names)}
    own = {"num_levels": _LEVELS} if method == "morris" else {"calc_second_order": False}
    shares = sampler.sample(box, samples, seed=seed, **own)
    tables = []
    for output, values in simulate(shares).items():
        asked = (shares, values) if method == "morris" else (values,)
        # SALib takes a seed of 0 for none.
        found = analyser.analyze(box, *asked, seed=seed + 1, **own) if np.ptp(values) > 0 else {}
        measures = {
            column: np.ma.filled(np.ma.asarray(found[key], dtype=np.float64), np.nan) if key in found else np.nan
            for column, key in _MEASURES.items()
        }
        tables.append(pd.DataFrame({"parameter": names, "method": method, "output": output, **measures}))
    return pd.concat(tables, ignore_index=True)


def parameter_ranges(problem: InversionProblem, over: Range = "prior") -> tuple[Tensor, Tensor]:
    """Return the ranges over which parameters are varied, in scaled space, (P,) each; a fixed one stays at its prior.

    Raises:
        ConfigError: If a bound that is asked for is infinite.
    """
    space = problem.space
    known = space.priors[0]
    prior, sd = space.scaler.to_scaled(known), space.prior_sd_scaled.reshape(-1, len(known))[0]
    lower, upper = (space.scaler.to_scaled(side) for side in space.bounds.resolve(known))
    if over == "prior":
        lower, upper = torch.maximum(lower, prior - WIDTH * sd), torch.minimum(upper, prior + WIDTH * sd)
    lower, upper = torch.where(space.fixed, prior, lower), torch.where(space.fixed, prior, upper)
    if not bool(torch.isfinite(upper - lower).all()):
        raise ConfigError("`--over bounds`: a parameter has no finite bounds. Use `--over prior`.")
    return lower, upper


@torch.no_grad()
def run_outputs(problem: InversionProblem, target: str, lower: Tensor, upper: Tensor, shares: Values) -> dict[str, Values]:
    """Simulate points of the unit cube of the free parameters, a bounded number at once, and return what is asked of each run.

    Args:
        problem: The problem of one site.
        target: The flux whose RMSE on the `fit` days is asked.
        lower: Lower ends of the ranges in scaled space, (P,).
        upper: Upper ends, (P,).
        shares: Places in the ranges of the K free parameters, (n, K).
    """
    space, spec = problem.space, problem.surrogate.spec
    place, days = spec.output_names.index(target), problem.days[0]
    parts: dict[str, list[Tensor]] = {f"rmse_{target}": [], **{f"annual_{name}": [] for name in spec.output_names}}
    for some in torch.from_numpy(shares).split(max(1, _CHUNK // len(days))):
        scaled = lower.expand(len(some), -1).clone()
        scaled[:, ~space.fixed] += some.to(scaled) * (upper - lower)[~space.fixed]
        simulated = problem.simulate(space.to_theta(space.bounds.clip(space.scaler.to_physical(scaled))))
        fit = masked_mean_square(simulated[..., place], problem.observed[..., place], problem.mask[..., place])
        parts[f"rmse_{target}"].append(fit.sqrt())
        for i, name in enumerate(spec.output_names):
            parts[f"annual_{name}"].append(simulated[:, days, i].mean(-1) * _DAYS_A_YEAR)
    return {name: torch.cat(values).double().cpu().numpy() for name, values in parts.items()}


def _check(problem: InversionProblem, method: str, samples: int) -> None:
    if method not in get_args(Method):
        raise ConfigError(f"`--method`: {method!r} is not known.{suggest(method, get_args(Method))}")
    if samples < 2 or (method == "sobol" and samples & (samples - 1)):
        expected = "a power of two, 2 or more" if method == "sobol" else "2 or more trajectories"
        raise ConfigError(f"`--samples` is {samples}, expected {expected} for {method}.")
    if len(problem.mask) != 1:
        raise ConfigError(f"sensitivity is taken of one site, the problem has {len(problem.mask)}. Ask for one after the other.")


def _salib(method: str) -> tuple[ModuleType, ModuleType]:
    """Return SALib's modules that sample and analyse.

    Raises:
        ConfigError: If it is not installed.
    """
    try:
        from SALib.analyze import morris as morris_analyze
        from SALib.analyze import sobol as sobol_analyze
        from SALib.sample import morris as morris_sample
        from SALib.sample import sobol as sobol_sample
    except ImportError:
        raise ConfigError(
            "sensitivity needs SALib, which is not installed. Install it with `pip install 'lit-invert[sensitivity]'`."
        ) from None
    return (morris_sample, morris_analyze) if method == "morris" else (sobol_sample, sobol_analyze)
