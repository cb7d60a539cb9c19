r"""Prior and posterior fluxes of a run as the two files that CalLMIP asks for.

CalLMIP gives net exchange as release (`NEE_daily`, gC m-2 d-1) and takes back net production as uptake: `nep` in kgC m-2 s-1,
positive into the land,

.. math:: 1\ \mathrm{gC\,m^{-2}\,d^{-1}} = \frac{10^{-3}}{86400}\ \mathrm{kgC\,m^{-2}\,s^{-1}} = 1.1574 \cdot 10^{-8}

with `reco` = `gpp` - `nep`. `nep_post_unc` is one standard deviation of the posterior of the simulated flux: what the parameters
leave open, and what the surrogate adds as it stands for the model,

.. math:: \sigma = \sqrt{\sigma_{\mathrm{parameters}}^2 + \sigma_{\mathrm{surrogate}}^2}

The noise of an observation is no part of it: it is not a property of the flux. So that it is the spread around what it stands
beside, the posterior's fluxes are the medians of the same draws, and those at the fit's optimum only where there is no median.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..errors import ConfigError, ResultsError
from ..netcdf import site_dataset, write_dataset
from ..observations import FLUX_UNITS
from ..results import Run

#: The unit of every flux.
UNIT = "kgC m-2 s-1"
#: Fluxes by their name, with what CF calls them; there is no standard name for respiration of the whole ecosystem.
FLUXES = {
    "nep": (
        "net ecosystem production, positive into the land",
        "surface_net_downward_mass_flux_of_carbon_dioxide_expressed_as_carbon_due_to_all_land_processes"
        "_excluding_anthropogenic_land_use_change",
    ),
    "gpp": ("gross primary production, positive into the land", "gross_primary_productivity_of_biomass_expressed_as_carbon"),
    "reco": ("ecosystem respiration, gpp - nep, positive out of the land", ""),
    "npp": ("net primary production, positive into the land", "net_primary_productivity_of_biomass_expressed_as_carbon"),
    "rh": (
        "heterotrophic respiration, positive out of the land",
        "surface_upward_mass_flux_of_carbon_dioxide_expressed_as_carbon_due_to_heterotrophic_respiration",
    ),
}
#: Stages of a calibration, and the run that they are.
STAGES = {"Prior": "prior", "Posterior": "optimum"}
#: What the posterior's value of a flux is, with a median and without.
_POINTS = {True: "median of the posterior's draws, day by day", False: "at the optimum of the fit"}
#: The posterior's spread of NEP.
UNCERTAINTY = "nep_post_unc"
_POINT = re.compile(r"[A-Za-z0-9-]+")


@dataclass(frozen=True)
class CalLMIP:
    """What a submission says of itself.

    Raises:
        ConfigError: If a part of the file's name holds what would break it.
    """

    site: str
    """Its name, as the protocol has it."""
    model: str
    version: str
    longitude: float
    """[degrees east]"""
    phase: str = "1b"
    scenario: str = "2"

    def __post_init__(self) -> None:
        for name, value in (("site", self.site), ("model", self.model), ("phase", self.phase), ("scenario", self.scenario)):
            if not _POINT.fullmatch(value):
                raise ConfigError(
                    f"`--{name}` is {value!r}, expected letters, digits and hyphens, since it is part of a file's name."
                )
        if not re.fullmatch(r"[A-Za-z0-9.-]+", self.version):
            raise ConfigError(f"`--version` is {self.version!r}, expected letters, digits, dots and hyphens, such as 1.0.")
        if not -180.0 <= self.longitude <= 360.0:
            raise ConfigError(f"`--longitude` is {self.longitude!r}, expected degrees east from -180 to 360.")

    def file_name(self, stage: str) -> str:
        """Return the name of a file.

        Example:
            >>> CalLMIP("FR-Hes", "LitInvert", "1.0", 7.06).file_name("Posterior")
            'LitInvert.1.0_Phase1b_Scen2_FR-Hes_Cal_Posterior.nc'
        """
        return f"{self.model}.{self.version}_Phase{self.phase}_Scen{self.scenario}_{self.site}_Cal_{stage}.nc"

    def attributes(self, stage: str) -> dict[str, str]:
        """Return the global attributes of a file."""
        return {
            "Model": self.model,
            "CalLMIP_Phase": self.phase,
            "Calibration_Scenario": self.scenario,
            "Calibration_stage": stage,
            "Cal_Val": "Cal",
        }


def write_callmip(run: Run, submission: CalLMIP, folder: Path) -> list[Path]:
    """Write the files of both stages.

    Args:
        run: A finished run with a posterior.
        submission: What the files say of themselves.
        folder: An existing folder for them.

    Returns:
        Their paths.

    Raises:
        ResultsError: If the run has no bands of NEP, or a file cannot be written.
    """
    spread = posterior_sd(run)
    dates = run.fluxes["date"].to_numpy().astype("datetime64[D]")
    paths = []
    for stage, simulation in STAGES.items():
        is_posterior = stage == "Posterior"
        medians = _medians(run) if is_posterior else {}
        series = {
            name: (_to_si(values), {**_about(name), **(_comment(name, medians) if is_posterior else {})})
            for name, values in _fluxes(run, simulation, medians).items()
        }
        if is_posterior:
            series[UNCERTAINTY] = (_to_si(spread), _about_uncertainty())
        attributes = {**submission.attributes(stage), "title": f"{stage} fluxes of {submission.site}", "source": "lit-invert"}
        paths.append(folder / submission.file_name(stage))
        write_dataset(paths[-1], site_dataset(dates, run.metrics["latitude"], submission.longitude, series, attributes))
    return paths


def posterior_sd(run: Run) -> NDArray[np.float64]:
    """Return one standard deviation of the posterior of simulated NEP, (T,) [gC m-2 d-1].

    Raises:
        ResultsError: If the run has none.
    """
    bands = run.bands
    needed = [f"nep_{part}_sd" for part in ("parameter", "surrogate")]
    if bands is None or any(name not in bands for name in needed):
        raise ResultsError(
            f"{run.folder}: has no posterior of NEP (bands.csv). Add `uncertainty:` to the config and run the fit again."
        )
    if not np.array_equal(bands["date"], run.fluxes["date"]):
        raise ResultsError(f"{run.folder}: bands.csv and fluxes.csv are not of the same days. Run the fit again.")
    spread: NDArray[np.float64] = np.linalg.norm(bands[needed].to_numpy(dtype=np.float64), axis=1)
    return spread


def _medians(run: Run) -> dict[str, NDArray[np.float64]]:
    """Return the posterior's median of each flux that has one, (T,) [gC m-2 d-1]."""
    bands = run.bands
    columns = {} if bands is None else {name: f"{name}_p50" for name in run.outputs if f"{name}_p50" in bands}
    return {name: bands[column].to_numpy(dtype=np.float64) for name, column in columns.items() if bands is not None}


def _comment(name: str, medians: Mapping[str, object]) -> dict[str, str]:
    """Say which point of the posterior a flux is at."""
    parts = ("gpp", "nep") if name == "reco" else (name,)
    points = [f"{part} {_POINTS[part in medians]}" for part in parts]
    return {"comment": f"difference of {' and '.join(points)}" if name == "reco" else points[0].removeprefix(f"{name} ")}


def _fluxes(run: Run, simulation: str, medians: Mapping[str, NDArray[np.float64]]) -> dict[str, NDArray[np.float64]]:
    """Return the fluxes, a median where there is one, and what follows from them, (T,) each [gC m-2 d-1]."""
    simulated = {name: run.fluxes[f"{name}_{simulation}"].to_numpy(dtype=np.float64) for name in FLUXES if name in run.outputs}
    found = {**simulated, **{name: medians[name] for name in simulated if name in medians}}
    if {"gpp", "nep"} <= set(found):
        found["reco"] = found["gpp"] - found["nep"]
    return {name: found[name] for name in FLUXES if name in found}


def _to_si(values: NDArray[np.float64]) -> NDArray[np.float64]:
    return values / FLUX_UNITS[UNIT]


def _about(name: str) -> dict[str, str]:
    long_name, standard_name = FLUXES[name]
    return {"long_name": long_name, "units": UNIT, **({"standard_name": standard_name} if standard_name else {})}


def _about_uncertainty() -> dict[str, str]:
    return {
        "long_name": "posterior standard deviation of nep",
        "standard_name": f"{FLUXES['nep'][1]} standard_error",
        "units": UNIT,
        "comment": "one sigma of the simulated flux: parameters and surrogate in quadrature, without the noise of an observation",
    }
