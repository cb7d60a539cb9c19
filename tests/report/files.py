"""The optional files of a run's folder, small and with known numbers, for the figures and pages that show them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd

from tests.runs import TABLE

NAMES = list(TABLE.names)
DRAWS = 50


def add_uncertainty(folder: Path) -> None:
    """Add everything that an uncertainty analysis, many starts and a sensitivity analysis leave."""
    parameters = pd.read_csv(folder / "parameters.csv", keep_default_na=False)
    fluxes = pd.read_csv(folder / "fluxes.csv")
    optimum = parameters["optimum"].to_numpy(dtype=float)
    tables = {
        "posterior": _posterior(parameters),
        "posterior_samples": pd.DataFrame(optimum * np.linspace(0.9, 1.0, DRAWS)[:, None], columns=NAMES),
        "posterior_correlation": _correlation(),
        "bands": _bands(fluxes),
        "profiles": pd.DataFrame({"parameter": "pmax", "value": [12.0, 14.0, 16.0], "rise": [4.0, 0.0, 4.0]}),
        "starts": _starts(optimum),
        "sensitivity": _sensitivity(),
    }
    for name, table in tables.items():
        table.to_csv(folder / f"{name}.csv", index=False)
    (folder / "uncertainty.json").write_text(json.dumps(UNCERTAINTY))
    metrics = json.loads((folder / "metrics.json").read_text())
    (folder / "metrics.json").write_text(json.dumps(metrics | METRICS))


UNCERTAINTY = {
    "method": "laplace",
    "members": DRAWS,
    "seconds": 0.5,
    "noise": {"nep": {"sigma": 0.4, "share": 0.1, "rho": 0.6, "n": 100, "n_eff": 25.0}},
    "lambda_prior": {"used": 0.1, "derived": 0.2, "formula": "<sigma>"},
    "rank": 2,
    "eigenvalues": [50.0, 2.0, 0.1, 0.0],
    "directions": [
        {"eigenvalue": 50.0, "words": "pmax up, NA up: <trade-off>", "weights": {"pmax": 0.9, "NA": 0.4}},
        {"eigenvalue": 2.0, "words": "share up", "weights": {"share": 1.0}},
        {"eigenvalue": 0.1, "words": "NA up", "weights": {"NA": 1.0}},
    ],
    "data_worth": [
        {"what": "gpp on the fit days", "parameter": "pmax", "sd_reduction_percent": 31.0, "rank_gain": 1},
        {"what": "no NEP from March to May", "parameter": "pmax", "sd_reduction_percent": -313.9, "rank_gain": -1},
    ],
    "trade_offs": [{"words": "pmax and NA can rise together, unseen by these data", "correlation": 0.9}],
    "annual": {"2001": {"gpp": {"p05": 2500.0, "p50": 2920.0, "p95": 3300.0}}},
    "constrained": {"gpp": False, "npp": False, "nep": True, "rh": False},
    "conflict": [{"date": "2001-07-01", "observed": 9.0, "low": -1.0, "high": 5.0}],
    "conflict_expected": {"days": 1, "expected_days": 0.25, "n": 200},
    "misspecification": {
        "tests": [
            {"flux": "nep", "test": "follows wind", "value": 0.2, "p": 0.012, "p_corrected": 0.2, "verdict": "pass", "sentence": ""}
        ],
        "verdict": "None of 1 tests speaks against surrogate, noise and prior.",
    },
    "profiles": {"pmax": {"flag": "two-sided"}},
    "notes": ["A note of <the> analysis."],
}
METRICS = {
    "baselines": {"test": {"season": {"rmse": 1.0}, "prior": {"rmse": 2.0}, "skill": {"season": 0.75, "prior": 0.9375}}},
    "support": {
        "parameters": {"pmax": {"sd": 2.0, "place": 1.1, "outside": True}},
        "outside": ["pmax"],
        "distance": 3.76,
        "percentile": 12.0,
        "nearest": {"members": [3], "distance": [0.85], "between_members": 1.49, "rmse": {"nep": 0.4}},
        "resimulation_gap": None,
        "error": {"rmse": 0.21, "source": "on held-out members"},
        "misfit": {"days_below_error": 0.19, "error_to_misfit": 0.03},
    },
    "starts": {
        "count": 4,
        "failed": 1,
        "r_t": [
            {"starts": 1, "select": 1.5, "low": 1.2, "high": 1.9, "seconds": 0.4},
            {"starts": 3, "select": 1.1, "low": 1.0, "high": 1.2, "seconds": 1.2},
        ],
    },
}


def _posterior(parameters: pd.DataFrame) -> pd.DataFrame:
    optimum = parameters["optimum"]
    shares = {"p05": 0.9, "p25": 0.95, "p50": 1.0, "p75": 1.05, "p95": 1.1}
    return pd.DataFrame(
        {
            "name": NAMES,
            "unit": parameters["unit"],
            "fixed": parameters["fixed"],
            "mode": optimum,
            "mean": optimum,
            "sd": 0.05 * optimum,
            **{name: share * optimum for name, share in shares.items()},
            **{f"prior_{name}": share * parameters["prior"] for name, share in (("p05", 0.5), ("p50", 1.0), ("p95", 1.5))},
            "prior_sd": parameters["prior_sd"],
            "shift_in_sd": parameters["shift_in_sd"],
            "sd_reduction_percent": [80.0, 40.0, 5.0, np.nan],
            "variance_ratio": [0.04, 0.36, 0.9, np.nan],
            "class": ["determined", "traded off", "at bound", "fixed"],
            "traded_with": ["", "pmax", "", ""],
            "disagreement": ["", "", "Two methods disagree.", ""],
        }
    )


def _correlation() -> pd.DataFrame:
    values = np.array([[1, 0.9, -0.2, np.nan], [0.9, 1, 0.1, np.nan], [-0.2, 0.1, 1, np.nan], [np.nan] * 4])
    return pd.DataFrame(values, columns=NAMES).assign(name=NAMES)[["name", *NAMES]]


def _bands(fluxes: pd.DataFrame) -> pd.DataFrame:
    bands = {"date": fluxes["date"]}
    for name in ("gpp", "npp", "nep", "rh"):
        middle = fluxes[f"{name}_optimum"]
        bands |= {f"{name}_p05": middle - 1, f"{name}_p50": middle, f"{name}_p95": middle + 1}
        bands |= {f"{name}_{part}_sd": 0.5 + 0 * middle for part in ("parameter", "noise", "surrogate")}
    bands |= {"nep_low": bands["nep_p05"] - 1, "nep_high": bands["nep_p95"] + 1}
    return pd.DataFrame(bands)


def _starts(optimum: np.ndarray) -> pd.DataFrame:
    """Two that agree, one elsewhere, one that failed."""
    ends = optimum * np.array([[1.0], [1.0], [0.7], [0.5]])
    return pd.DataFrame(
        {
            "start": range(4),
            "origin": ["prior", "draw", "draw", "draw"],
            "status": ["finished", "finished", "finished", "failed"],
            "round": 1,
            "loss_start": 4.0,
            "loss": [0.25, 0.251, 0.6, np.nan],
            "select_rmse": [0.5, 0.5, 0.8, np.nan],
            "iterations": 20,
            "seconds": 0.4,
            "cluster": [0, 0, 1, -1],
            "message": ["", "", "", "the loss was not finite"],
            **dict(zip(NAMES, ends.T, strict=True)),
        }
    )


def _sensitivity() -> pd.DataFrame:
    nothing = dict.fromkeys(("mu_star", "mu_star_conf", "sigma", "s1", "s1_conf", "st", "st_conf"), np.nan)
    morris = [
        {"parameter": name, "method": "morris", "output": "nep", **nothing, "mu_star": i} for i, name in enumerate(NAMES[:3], 1)
    ]
    sobol = [
        {"parameter": name, "method": "sobol", "output": "nep", **nothing, "st": 0.1 * i} for i, name in enumerate(NAMES[:3], 1)
    ]
    return pd.DataFrame([*morris, *sobol])
