"""From a fit's optimum to everything that is said of its uncertainty: mode, draws, classes, bands and worth, as tables."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Generator, Tensor

from ..errors import ConfigError, ResultsError, suggest
from ..losses import Prior
from ..losses.base import index_of
from ..parameters import ParameterTable
from ..problem import InversionProblem
from ..results import RunTables
from ..settings import UncertaintySettings
from . import ensemble, laplace, nuts, population
from .bands import annual_intervals, linear_draws, simulate_draws, tabulate_bands
from .conflict import count_conflicts, find_conflicts
from .directions import describe_directions, describe_trade_offs
from .disagreement import disagreements, spread_of_starts
from .identify import identify, practical_rank
from .misspecification import find_misspecification
from .profiles import Profiles, profile
from .summary import (
    advise_on_coverage,
    advise_on_optimum,
    describe_bending,
    describe_lambda,
    describe_meaning,
    describe_noise,
    describe_replaced,
    summarise,
)
from .tables import correlation_table, posterior_table, sample_table
from .target import Mode, find_mode
from .twins import make_twins
from .worth import data_worth

#: Draws of the prior predictive, in which the record is looked for: rarer than one in so many is beyond them.
_PREDICTIVE = 800
#: Draws of a linearisation that are simulated, too, to see whether the surrogate bends.
_SIMULATED = 100
#: Fewest draws that have a 5-95 % interval.
_FEWEST = 20
#: Fall of a profile below the mode that is more than an unfinished descent [-2 log p].
_FALL = 1.0
#: R-hat above which chains have not mixed.
_UNMIXED = 1.05


@dataclass(frozen=True)
class Uncertainty:
    """What is known beyond the optimum; its tables are files of the run's folder."""

    target: str
    posterior: pd.DataFrame
    samples: pd.DataFrame
    correlation: pd.DataFrame
    bands: pd.DataFrame
    report: Mapping[str, Any]
    """Content of uncertainty.json."""
    advice: Sequence[str] = ()
    """What a reader should know before believing it."""
    profiles: pd.DataFrame | None = None

    @property
    def files(self) -> dict[str, pd.DataFrame | Mapping[str, Any]]:
        """Tables and values by the name of their file."""
        return {
            "posterior.csv": self.posterior,
            "posterior_samples.csv": self.samples,
            "posterior_correlation.csv": self.correlation,
            "bands.csv": self.bands,
            **({} if self.profiles is None else {"profiles.csv": self.profiles}),
            "uncertainty.json": self.report,
        }

    def add_to(self, tables: RunTables) -> RunTables:
        """Return the tables of a run with this beside them: its files, and its summary and advice in the metrics."""
        summary = summarise(self.posterior, self.bands, self.report, tables.fluxes, self.target)
        apart = advise_on_optimum(self.bands, self.report, tables.fluxes, tables.metrics["annual_sums"], self.target)
        advice = [*tables.metrics["advice"], *self.advice, *advise_on_coverage(summary), *apart]
        return replace(
            tables, metrics={**tables.metrics, "uncertainty": summary, "advice": advice}, more={**tables.more, **self.files}
        )


def check_uncertainty(settings: UncertaintySettings, table: ParameterTable) -> None:
    """Check before a fit what would spoil its uncertainty after it.

    Raises:
        ConfigError: If a profile is of no free parameter, or the method's package is not installed.
    """
    free = [name for name, fixed in zip(table.names, table.fixed.tolist(), strict=True) if not fixed]
    for name in settings.profiles:
        if name not in free:
            raise ConfigError(f"`uncertainty.profiles`: {name!r} is not a free static parameter.{suggest(name, free)}")
    if settings.method == "nuts":
        nuts.import_pyro()


def quantify(
    problem: InversionProblem,
    theta: Tensor,
    target: str,
    dates: NDArray[np.datetime64],
    settings: UncertaintySettings,
    seed: int = 0,
    lambda_prior: float = math.nan,
    starts: pd.DataFrame | None = None,
) -> Uncertainty:
    """Quantify the uncertainty of one site's fit.

    Args:
        problem: The problem of the fit.
        theta: Its optimum, (1, P).
        target: The flux that was fitted.
        dates: The T days.
        settings: How.
        seed: Seed of the draws.
        lambda_prior: Weight of the prior in the fit, to be told beside the derived one.
        starts: Record of the fit's starts, where there were several: those that are equally good may contradict a class.

    Raises:
        LitInvertError: If draws cannot be made, for want of a package or because they did not converge.
    """
    started, generator = time.monotonic(), Generator().manual_seed(seed)
    mode = find_mode(problem, theta, target)
    draws, notes = draw(problem, mode, settings, generator)
    profiles = profile(mode, settings.profiles) if settings.profiles else None
    identified = identify(mode, draws)
    classes = dict(zip(problem.space.table.names, identified.classes, strict=True))
    spread = None if starts is None else spread_of_starts(problem, starts)
    disagreement = disagreements(classes, None if profiles is None else profiles.flags, spread)
    simulated, bending = _follow(problem, mode, draws, target, settings.method)
    meaning = [*describe_meaning(mode, settings.method), *describe_replaced(problem.loss_terms)]
    predicted = make_twins(problem, mode, _PREDICTIVE, generator)
    report = {
        "method": settings.method,
        "members": len(draws),
        **_describe(problem, mode, target, dates, lambda_prior),
        "trade_offs": describe_trade_offs(mode, draws),
        "annual": _annual(problem, simulated, dates),
        "conflict": find_conflicts(predicted, mode.noise, dates),
        "conflict_expected": count_conflicts(predicted, mode.noise),
        "misspecification": find_misspecification(predicted, mode, dates),
        "profiles": {} if profiles is None else profiles.flags,
        "notes": [*notes, *_note_of(profiles), *bending, *meaning],
    }
    return Uncertainty(
        target=target,
        posterior=posterior_table(mode, draws, identified, disagreement),
        samples=sample_table(problem, draws),
        correlation=correlation_table(problem, draws),
        bands=tabulate_bands(simulated, problem.surrogate.spec, dates, mode.noise),
        report={**report, "seconds": time.monotonic() - started},
        advice=bending,
        profiles=None if profiles is None else profiles.table,
    )


def draw(problem: InversionProblem, mode: Mode, settings: UncertaintySettings, generator: Generator) -> tuple[Tensor, list[str]]:
    """Draw from the posterior of one member by the method that the settings name.

    Returns:
        Draws in prior units, (M, P), and sentences on how far they can be believed.

    Raises:
        LitInvertError: If a package is missing, or hardly a draw converged.
    """
    if settings.method == "rml":
        draws = ensemble.sample(problem, mode, settings.draws, generator)
        if len(draws) < _FEWEST:
            raise ResultsError(
                f"{len(draws)} of {settings.draws} members of the ensemble converged, {_FEWEST} are needed. Use `method: laplace`."
            )
        lost = settings.draws - len(draws)
        return draws, [f"{lost} of {settings.draws} members of the ensemble did not converge and were left out."] if lost else []
    if settings.method == "population":
        found = population.sample(mode, settings.draws, generator)
        return found.units[0], [f"{found.accepted:.0%} of the population's moves were accepted."]
    if settings.method == "nuts":
        chains = nuts.sample_chains(mode, math.ceil(settings.draws / nuts.CHAINS), generator)
        worst, least = chains.rhat.max().item(), chains.ess.min().item()
        mixed = "have mixed" if worst <= _UNMIXED else "have not mixed; take more draws"
        return chains.draws, [
            f"{nuts.CHAINS} chains {mixed} (R-hat at most {worst:.2f}, at least {least:.0f} effective draws, "
            f"{chains.divergences} divergences)."
        ]
    return laplace.sample(mode, settings.draws, generator), []


def _follow(problem: InversionProblem, mode: Mode, draws: Tensor, target: str, method: str) -> tuple[Tensor, list[str]]:
    """Return the fluxes of each draw, (M, T, V), and a sentence where those of a linearisation are not what draws simulate."""
    if method != "laplace":
        return simulate_draws(problem, draws), []
    place = index_of(target, problem.surrogate.spec.output_names, "output of the surrogate")
    linear, some = linear_draws(mode, draws), simulate_draws(problem, draws[:_SIMULATED])
    return linear, describe_bending(linear[..., place], some[..., place], target)


def _describe(
    problem: InversionProblem, mode: Mode, target: str, dates: NDArray[np.datetime64], lambda_prior: float
) -> dict[str, Any]:
    return {
        "noise": {name: describe_noise(noise) for name, noise in mode.noise.items()},
        "lambda_prior": describe_lambda(mode.noise[target], lambda_prior, _unit_of_prior(problem)),
        "rank": int(practical_rank(mode.information)[0]),
        "spent": {name: float(spent[0]) for name, spent in mode.spent_on.items()},
        "eigenvalues": torch.linalg.eigvalsh(mode.information[0]).flip(0).tolist(),
        "directions": describe_directions(mode),
        "data_worth": data_worth(mode, target, dates),
        "constrained": {name: name in mode.noise for name in mode.problem.surrogate.spec.output_names},
    }


def _unit_of_prior(problem: InversionProblem) -> str:
    """Return what a distance of one from the prior means in the fit's loss; "" where it has no prior."""
    units = {"scaled": "scaled space", "prior_sd": "prior sd"}
    return next((units[term.unit] for term in problem.loss_terms if isinstance(term, Prior)), "")


def _annual(problem: InversionProblem, simulated: Tensor, dates: NDArray[np.datetime64]) -> dict[str, Any]:
    spec = problem.surrogate.spec
    return annual_intervals(simulated[:, spec.warmup_days :], spec.output_names, dates[spec.warmup_days :])


def _note_of(profiles: Profiles | None) -> list[str]:
    """Say where a profile went clearly below the mode, which then is not the best one."""
    if profiles is None or profiles.fall < _FALL:
        return []
    return [f"The profiles found a place {profiles.fall:.1f} below the mode in -2 log p: there is a better mode."]
