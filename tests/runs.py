"""A finished inversion whose every number is known, for tests of results and report."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import torch

from lit_invert.observations import Observations
from lit_invert.parameters import parse_parameter_table
from lit_invert.results import InversionResult, InversionStatus, collect_provenance, open_run_folder, tabulate, write_results
from lit_invert.sites import SealedObservations, Site
from lit_invert.surrogates.base import SurrogateSpec, Variable

DAYS = 400
OUTPUTS = ("gpp", "npp", "nep", "rh")
TABLE = parse_parameter_table(
    [
        "name,unit,prior,prior_sd,min,max,scale,fixed,description",
        "pmax,umol m-2 s-1,12,2,5,30,lin,false,photosynthesis",
        "NA,d-1,0.01,0.002,0.001,0.1,log,false,turnover",
        "share,-,0.3,0.1,0.1,limit,lin,false,bounded by another",
        "limit,-,0.5,0.1,0.2,0.8,lin,true,bounds another",
    ]
)
SPEC = SurrogateSpec(
    name="known",
    statics=(
        Variable("pmax", std=4.0),
        Variable("NA", std=2.0, log=True),
        Variable("share", std=0.2),
        Variable("limit", std=0.2),
    ),
    drivers=(Variable("dswrf"),),
    outputs=tuple(Variable(name, "gC m-2 d-1") for name in OUTPUTS),
    accuracy={"nep": 0.2},
)
#: One at its named bound, one a factor e above its prior.
OPTIMUM = torch.tensor([14.0, 0.01 * np.e, 0.5, 0.5], dtype=torch.float64)


def make_site(name: str = "Known", *, test: bool = True) -> tuple[Site, SealedObservations]:
    """NEP is observed on every second day; roles are blocks with gaps."""
    roles = np.full(DAYS, "fit", dtype="<U6")
    roles[200:205], roles[205:260], roles[260:265] = "gap", "select", "gap"
    roles[265:] = "test" if test else "fit"
    is_observed = np.arange(DAYS) % 2 == 0
    roles[~is_observed] = "unused"
    values, mask = np.full((DAYS, 4), np.nan), np.zeros((DAYS, 4), dtype=bool)
    values[:, 2], mask[:, 2] = np.where(is_observed, observed_nep(), np.nan), is_observed
    dates = np.datetime64("2001-01-01") + np.arange(DAYS)
    observed = Observations(dates, OUTPUTS, values, mask, np.where(mask, 0.5, np.nan))
    parts = {role: observed.only(roles == role) for role in ("fit", "select", "test")}
    site = Site(name, 50.0, dates, ("dswrf",), np.zeros((DAYS, 1)), parts["fit"], parts["select"], roles, ("Wind was guessed.",))
    return site, SealedObservations(parts["test"])


def observed_nep() -> np.ndarray:
    return 3 * np.sin(np.arange(DAYS) / 20)


def make_result(shift_prior: float = 2.0, shift_optimum: float = 0.5, **changes) -> InversionResult:
    """Simulated NEP misses the observed one by a constant, so every score has a closed form; GPP 8, NPP 4, Rh 3 each day."""

    def simulated(shift: float) -> np.ndarray:
        fluxes = np.tile([8.0, 4.0, 0.0, 3.0], (DAYS, 1))
        fluxes[:, 2] = observed_nep() + shift
        return fluxes

    scaler = SPEC.static_scaler()
    iterations = np.arange(20)
    weighted = {"weighted/misfit": 4.0 - 0.1 * iterations, "weighted/prior": 0.01 * iterations}
    history = pd.DataFrame({"iteration": iterations, "loss/total": sum(weighted.values()), **weighted})
    history["select/rmse"] = np.where(iterations % 5 == 4, 1.0, np.nan)
    result = InversionResult(
        status=InversionStatus.STEP_LIMIT,
        message="all 20 iterations were used",
        table=TABLE,
        optimum=OPTIMUM,
        optimum_scaled=scaler.to_scaled(OPTIMUM),
        prior_scaled=scaler.to_scaled(TABLE.prior),
        simulated_prior=simulated(shift_prior),
        simulated_optimum=simulated(shift_optimum),
        loss_prior={"loss/total": 4.0, "loss/misfit": 4.0, "weighted/misfit": 4.0},
        loss_optimum={"loss/total": 0.25, "loss/misfit": 0.25, "weighted/misfit": 0.25},
        history=history,
        iterations=20,
        best_iteration=19,
        monitor="select/rmse",
        seconds=1.5,
    )
    return replace(result, **changes)


def write_run(root, result=None, *, site="Known", test=True, spec=SPEC, resimulated=None, **changes):
    """Write a run and return its folder and metrics."""
    folder = open_run_folder(root, "known")
    place, sealed = make_site(site, test=test)
    provenance = collect_provenance(command="lit-invert fit", seed=7, sha256={"weights": "ab"}, plugins={"toy": "toy 1.0"})
    tables = tabulate(result or make_result(), place, sealed, spec, resimulated, **changes)
    write_results(folder, tables, config_text="seed_everything: 7\n", provenance=provenance)
    return folder, tables.metrics
