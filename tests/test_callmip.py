"""CalLMIP out: names, signs and units of the files, and a validator that finds each fault that is put in."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from lit_invert.errors import ConfigError, ResultsError
from lit_invert.exports import CalLMIP, check_callmip, write_callmip
from lit_invert.results import read_run
from tests.runs import DAYS, observed_nep, write_run

SUBMISSION = CalLMIP("FR-Hes", "Toy", "1.0", 7.06)
POSTERIOR = "Toy.1.0_Phase1b_Scen2_FR-Hes_Cal_Posterior.nc"
#: gC m-2 d-1 in kgC m-2 s-1, as the protocol writes it.
FACTOR = 1.1574e-8


def write_bands(folder, days=DAYS, **columns):
    dates = pd.date_range("2001-01-01", periods=days).strftime("%Y-%m-%d")
    spread = {"nep_parameter_sd": 0.3, "nep_noise_sd": 9.0, "nep_surrogate_sd": 0.4}
    pd.DataFrame({"date": dates, **{**spread, **columns}}).to_csv(folder / "bands.csv", index=False)


@pytest.fixture
def run(tmp_path):
    folder, _ = write_run(tmp_path, site="FR-Hes")
    write_bands(folder)
    return read_run(folder)


@pytest.fixture
def posterior(run, tmp_path):
    """A file without a fault."""
    return write_callmip(run, SUBMISSION, tmp_path)[1]


def change(path, make):
    """Write the file again with something changed."""
    with xr.open_dataset(path, engine="h5netcdf") as dataset:
        changed = make(dataset.load())
    changed.to_netcdf(path, engine="h5netcdf")
    return check_callmip(path)


def test_prior_and_posterior_are_written_without_a_fault(run, tmp_path):
    paths = write_callmip(run, SUBMISSION, tmp_path)
    assert [path.name for path in paths] == [POSTERIOR.replace("Posterior", "Prior"), POSTERIOR]
    assert [check_callmip(path) for path in paths] == [[], []]


def test_values_are_in_the_protocols_unit_and_sign(run, tmp_path):
    """The made-up run simulates the observed NEP plus 0.5 at the optimum and plus 2 at the prior; GPP is 8."""
    for path, shift in zip(write_callmip(run, SUBMISSION, tmp_path), (2.0, 0.5), strict=True):
        with xr.open_dataset(path, engine="h5netcdf") as found:
            nep = found["nep"].to_numpy().ravel()
            np.testing.assert_allclose(nep, FACTOR * (observed_nep() + shift), rtol=1e-4, atol=1e-12)
            np.testing.assert_allclose(found["gpp"], 8.0 * FACTOR, rtol=1e-4)
            np.testing.assert_allclose(found["reco"].to_numpy().ravel(), found["gpp"].to_numpy().ravel() - nep, rtol=1e-12)
            assert (found["nep"].attrs["units"], found["nep"].dims) == ("kgC m-2 s-1", ("time", "lat", "lon"))


def test_the_posterior_is_the_median_that_its_spread_is_around(run, tmp_path):
    """Medians of 1.25 and 8.5 in place of the optimum; a flux without a median stays at it, and says so."""
    write_bands(run.folder, nep_p50=1.25, gpp_p50=8.5)
    prior, posterior = write_callmip(read_run(run.folder), SUBMISSION, tmp_path)
    with xr.open_dataset(posterior, engine="h5netcdf") as found, xr.open_dataset(prior, engine="h5netcdf") as before:
        for name, value in (("nep", 1.25), ("gpp", 8.5), ("reco", 7.25)):
            np.testing.assert_allclose(found[name], value * FACTOR, rtol=1e-4)
        np.testing.assert_allclose(before["nep"].to_numpy().ravel(), FACTOR * (observed_nep() + 2.0), rtol=1e-4, atol=1e-12)
        assert found["nep"].attrs["comment"] == "median of the posterior's draws, day by day"
        assert found["npp"].attrs["comment"] == "at the optimum of the fit"
        assert "comment" not in before["nep"].attrs
    assert check_callmip(posterior) == []


def test_uncertainty_is_that_of_the_flux_not_of_an_observation(posterior):
    """sqrt(0.3^2 + 0.4^2) = 0.5; the noise of 9 is no part of it."""
    with xr.open_dataset(posterior, engine="h5netcdf") as found:
        np.testing.assert_allclose(found["nep_post_unc"], 0.5 * FACTOR, rtol=1e-4)
        assert "without the noise" in found["nep_post_unc"].attrs["comment"]


def test_place_days_and_attributes(posterior):
    with xr.open_dataset(posterior, engine="h5netcdf") as found:
        assert (found["lat"].item(), found["lon"].item()) == (50.0, 7.06)
        assert found["time"].to_numpy()[[0, -1]].astype("datetime64[D]").astype(str).tolist() == ["2001-01-01", "2002-02-04"]
        said = [found.attrs[n] for n in ("Model", "CalLMIP_Phase", "Calibration_Scenario", "Calibration_stage", "Cal_Val")]
    assert said == ["Toy", "1b", "2", "Posterior", "Cal"]


def test_without_a_posterior_nothing_is_written(tmp_path):
    folder, _ = write_run(tmp_path, site="FR-Hes")
    with pytest.raises(ResultsError, match=r"has no posterior of NEP \(bands\.csv\)\. Add `uncertainty:`"):
        write_callmip(read_run(folder), SUBMISSION, tmp_path)
    assert list(tmp_path.glob("*.nc")) == []


def test_bands_of_other_days_are_refused(run, tmp_path):
    write_bands(run.folder, days=DAYS - 1)
    with pytest.raises(ResultsError, match=r"bands\.csv and fluxes\.csv are not of the same days"):
        write_callmip(read_run(run.folder), SUBMISSION, tmp_path)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("S", "My_Model", "1.0", 7.0), "`--model` is 'My_Model'"),
        (("S", "Toy", "1/0", 7.0), "`--version` is '1/0'"),
        (("a_b", "Toy", "1.0", 7.0), "`--site` is 'a_b'"),
        (("S", "Toy", "1.0", 400.0), r"`--longitude` is 400\.0"),
        (("S", "Toy", "1.0", float("nan")), "`--longitude` is nan"),
    ],
)
def test_a_name_that_would_break_is_refused(arguments, message):
    with pytest.raises(ConfigError, match=message):
        CalLMIP(*arguments)


@pytest.mark.parametrize(
    ("make", "fault"),
    [
        (lambda d: d.drop_vars("reco"), "variable reco is missing"),
        (lambda d: d.drop_vars("nep_post_unc"), "variable nep_post_unc is missing"),
        (lambda d: d.assign(nep=-d["nep"].assign_attrs(d["nep"].attrs)), "nep is not gpp - reco"),
        (lambda d: d.assign(nep=d["nep"].assign_attrs(units="gC m-2 d-1")), "variable nep: units are 'gC m-2 d-1'"),
        (lambda d: d.assign(nep=d["nep"].assign_attrs(standard_name="x")), "says that it is positive into the land"),
        (lambda d: d.assign(gpp=d["gpp"] * 0 + 8.0), "variable gpp: its largest magnitude is 6.91e+08 gC m-2 d-1"),
        (lambda d: d.assign(npp=d["npp"] * np.nan), "variable npp: 0% of the days have a value, expected 90% or more"),
        (lambda d: d.assign(rh=d["rh"].isel(lat=0)), "variable rh: dimensions are ('time', 'lon')"),
        (lambda d: d.assign(nep_post_unc=-d["nep_post_unc"]), "a standard deviation is negative"),
        (lambda d: d.assign_attrs(Cal_Val="Test"), "global attribute Cal_Val is 'Test', expected one of Cal, Val"),
        (lambda d: d.assign_attrs(Calibration_Scenario="1"), "is '1', but the file name says '2'"),
        (lambda d: d.drop_attrs(deep=False), "global attribute Model is missing"),
        (lambda d: d.assign_coords(lat=[99.0]), "coordinate lat: expected one number of degrees, found [99.0]"),
        (lambda d: d.isel(time=[*range(9), *range(10, DAYS)]), "coordinate time: expected one value a day, without a gap"),
    ],
)
def test_the_validator_finds(posterior, make, fault):
    assert any(fault in found for found in change(posterior, make))


def test_ten_days_in_a_hundred_may_be_missing_and_no_more(posterior):
    def without(days):
        return lambda d: d.assign(rh=d["rh"].where(np.arange(DAYS)[:, None, None] >= days))

    assert change(posterior, without(DAYS // 10)) == []
    assert any("variable rh: 90% of" in fault for fault in change(posterior, without(DAYS // 10 + 1)))


def test_the_validator_names_a_wrong_file_name_and_no_file(posterior, tmp_path):
    posterior.rename(tmp_path / "posterior.nc")
    assert check_callmip(tmp_path / "posterior.nc") == [
        "file name 'posterior.nc': expected <model>.<version>_Phase1b_Scen2_<Site>_Cal_Posterior.nc"
    ]
    assert check_callmip(tmp_path / "no.nc") == ["the file cannot be opened (No such file or directory)"]
