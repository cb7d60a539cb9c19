"""Compare the certificate of recoverability of a site with what an inversion from many starts finds there.

A parameter that the certificate calls recoverable should come out alike from every start that fits well; one that it calls not
identifiable is held by the prior alone, so that without the prior the starts leave it where they were. Each is told by the spread
of the ends of the starts that fit nearly as well as the best, with the config's prior and without it, in prior standard
deviations.

    python tools/coverage.py --config configs/fr_hes.yaml [--starts 50] [--twins 100] [--method rml]
"""

from __future__ import annotations

import argparse
from dataclasses import replace

import pandas as pd
import torch

from lit_invert import InversionProblem, load_plugins, parse_fit
from lit_invert.fit import read_inputs
from lit_invert.losses import Misfit
from lit_invert.posterior.certificate import certify
from lit_invert.posterior.sampling import SAMPLERS
from lit_invert.posterior.target import find_mode, to_theta, to_units, unit_bounds
from lit_invert.posterior.twins import draw_prior, invert_twins, make_twins
from lit_invert.problem_objective import ProblemObjective
from lit_invert.solvers import LevenbergMarquardt, minimize

#: A start fits nearly as well as the best when its misfit is at most this much larger.
GOOD = 1.1
STEPS = 60
#: How close to a bound is on it [prior sd].
ON_BOUND = 1e-3


def main() -> None:
    """Print a row a parameter, and the median of each verdict."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--config", required=True)
    parser.add_argument("--starts", type=int, default=50)
    parser.add_argument("--twins", type=int, default=100)
    parser.add_argument("--method", choices=tuple(SAMPLERS), default="rml")
    arguments = parser.parse_args()
    registry = load_plugins()
    config = replace(parse_fit(["--config", arguments.config], registry), checks="skip")
    problem, target = read_inputs(config, registry).problem, config.inversion.target_variable
    generator = torch.Generator().manual_seed(config.seed_everything)
    starts = to_theta(problem, draw_prior(problem, arguments.starts, generator))
    table = certificate(problem, target, arguments, generator).set_index("name")
    alone = problem.variant(terms=[term for term in problem.loss_terms if isinstance(term, Misfit)])
    for column, asked in (("spread", problem), ("spread_alone", alone)):
        table[column], table[f"{column}_at_bound"] = spread_of_ends(asked, starts)
    print(table.round(2).to_string())
    print(table.groupby("verdict").median(numeric_only=True).round(2).to_string())


def certificate(problem: InversionProblem, target: str, arguments: argparse.Namespace, generator: torch.Generator) -> pd.DataFrame:
    """Return verdict and errors of each free parameter."""
    mode = find_mode(problem, problem.space.to_theta(problem.space.priors), target)
    twins = make_twins(problem, mode, arguments.twins, generator)
    found = invert_twins(twins, target, SAMPLERS[arguments.method], 99, generator)
    return certify(problem, found, target).table[["name", "verdict", "rmse", "rmse_of_prior", "coverage_90"]]


def spread_of_ends(problem: InversionProblem, starts: torch.Tensor) -> tuple[list[float], list[float]]:
    """Return the spread of each free parameter over the ends of the starts that fit well [prior sd], and their share on a bound.

    On a bound they agree though the data hold nothing there.
    """
    found = minimize(ProblemObjective(problem), starts, LevenbergMarquardt, max_iters=STEPS)
    with torch.no_grad():
        misfit = problem(found.theta).terms["misfit"]
    good = misfit <= GOOD * misfit.min()
    print(f"{int(good.sum())} of {len(starts)} starts fit within {GOOD - 1:.0%} of the best misfit, {misfit.min():.3f}")
    theta, free = found.theta[good], ~problem.space.fixed
    units, (lower, upper) = to_units(problem, theta), unit_bounds(problem, theta)
    on_bound = ((units - lower < ON_BOUND) | (upper - units < ON_BOUND)).double().mean(0)
    return units[:, free].std(0).tolist(), on_bound[free].tolist()


if __name__ == "__main__":
    main()
