"""Simulating other weather at the optimum of a finished fit."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from lit_invert.config import parse_fit
from lit_invert.errors import ConfigError, ForcingError, ResultsError
from lit_invert.fit import fit
from lit_invert.plugins import build_registry
from lit_invert.prediction import predict
from lit_invert.results import read_run
from tests.toy_fit import write_toy_fit


@pytest.fixture
def finished(tmp_path):
    registry = build_registry()
    config = parse_fit(["--config", str(write_toy_fit(tmp_path))], registry)
    return read_run(fit(config, registry).folder), config, registry


def test_the_fits_own_weather_gives_the_fits_own_fluxes(finished, tmp_path):
    run, config, registry = finished
    found = predict(run, config, tmp_path / "tower.csv", 48.0, registry)
    for column in ("nep_prior", "nep_optimum", "gpp_optimum"):
        assert found[column].to_numpy() == pytest.approx(run.fluxes[column].to_numpy(), rel=1e-5, abs=1e-5)


def test_new_weather_without_observations_is_enough(finished, tmp_path):
    run, config, registry = finished
    weather = pd.read_csv(tmp_path / "tower.csv").drop(columns=["nep", "n_good"]).iloc[:30]
    weather["dswrf"] *= 0.5
    weather.to_csv(tmp_path / "dark.csv", index=False)
    dark = predict(run, config, tmp_path / "dark.csv", 48.0, registry)
    light = run.fluxes.iloc[:30]
    assert len(dark) == 30
    assert (dark["gpp_optimum"].to_numpy() < light["gpp_optimum"].to_numpy()).mean() > 0.9
    assert np.isfinite(dark.drop(columns="date").to_numpy()).all()


def test_another_surrogate_is_refused(finished, tmp_path):
    run, config, registry = finished
    run.provenance["sha256"]["surrogate_weights"] = "0" * 64
    with pytest.raises(ResultsError, match="was fitted with surrogate weights of SHA-256 0000"):
        predict(run, config, tmp_path / "tower.csv", 48.0, registry)


def test_a_missing_driver_is_named(finished, tmp_path):
    run, config, registry = finished
    pd.read_csv(tmp_path / "tower.csv").drop(columns="dswrf").to_csv(tmp_path / "short.csv", index=False)
    with pytest.raises(ForcingError, match="dswrf"):
        predict(run, config, tmp_path / "short.csv", 48.0, registry)


def test_a_latitude_off_the_earth_is_an_error(finished, tmp_path):
    run, config, registry = finished
    with pytest.raises(ConfigError, match="`--latitude` is 480"):
        predict(run, replace(config), tmp_path / "tower.csv", 480.0, registry)
