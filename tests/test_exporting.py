"""The command `export`: every format, read again by other means."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from lit_invert.cli import main
from lit_invert.exports import every_table
from lit_invert.results import read_run
from tests.runs import DAYS, observed_nep, write_run
from tests.test_callmip import write_bands


@pytest.fixture
def run(tmp_path):
    folder, _ = write_run(tmp_path, site="FR-Hes")
    write_bands(folder, nep_p05=-1.0, nep_p95=1.0)
    return read_run(folder)


def export(run, *arguments):
    return main(["export", str(run.folder), *map(str, arguments)])


def test_callmip_is_written_checked_and_checked_again(run, capsys):
    assert export(run, "--format", "callmip", "--longitude", 7.06, "--model", "Toy", "--version", "2.1") == 0
    path = run.folder / "export" / "Toy.2.1_Phase1b_Scen2_FR-Hes_Cal_Posterior.nc"
    assert capsys.readouterr().out.count(": complete") == 2
    assert main(["export", "--check", str(path)]) == 0
    path.rename(path.with_name("other.nc"))
    assert main(["export", "--check", str(path.with_name("other.nc"))]) == 1
    assert "1 faults\n  file name 'other.nc'" in capsys.readouterr().out


def test_netcdf_holds_fluxes_bands_and_parameters(run, tmp_path):
    assert export(run, "--format", "netcdf", "--longitude", -99.4, "--out", tmp_path / "new" / "place") == 0
    with xr.open_dataset(tmp_path / "new" / "place" / "FR-Hes.nc", engine="h5netcdf") as found:
        np.testing.assert_allclose(found["nep_optimum"].to_numpy().ravel(), observed_nep() + 0.5, rtol=1e-8)
        np.testing.assert_array_equal(found["nep_observed"].to_numpy().ravel(), run.fluxes["nep_observed"])
        assert found["nep_observed"].isnull().sum() > DAYS / 2
        assert (found["nep_p95"] == 1.0).all()
        assert found["nep_prior"].attrs["units"] == "g m-2 d-1"
        assert found["nep_prior"].attrs["standard_name"].startswith("surface_net_downward_mass_flux")
        assert found["parameter"].to_numpy().tolist() == run.parameters["name"].tolist()
        np.testing.assert_array_equal(found["parameter_optimum"], run.parameters["optimum"])
        assert found["parameter_unit"].to_numpy().tolist() == run.parameters["unit"].tolist()
        assert found["lon"].item() == -99.4


@pytest.mark.parametrize(("kind", "read"), [("parquet", pd.read_parquet), ("csv", pd.read_csv)])
def test_every_table_comes_back(run, kind, read, tmp_path):
    assert export(run, "--format", kind, "--out", tmp_path / "tables") == 0
    written = {path.stem: read(path) for path in (tmp_path / "tables").iterdir()}
    assert set(written) == {path.stem for path in run.folder.glob("*.csv")} | {"scores"}
    np.testing.assert_array_equal(written["fluxes"]["nep_optimum"], run.fluxes["nep_optimum"])
    scores = written["scores"].set_index(["role", "flux", "run", "score"])["value"]
    assert scores["test", "nep", "optimum", "rmse"] == pytest.approx(0.5, rel=1e-12)
    assert scores["test", "nep", "observed", "n"] == run.metrics["roles"]["test"]["nep"]["n"]


def test_names_of_parameters_survive_parquet(run):
    """One parameter of the made-up run is called NA."""
    assert every_table(run)["parameters"]["name"].tolist() == ["pmax", "NA", "share", "limit"]


def test_a_template_is_filled_with_the_optimum(run, tmp_path):
    (tmp_path / "veg.nml").write_text("! {site} at {latitude}\n&veg pmax = {pmax}, rate = {NA:.6f} /\n")
    assert export(run, "--format", "template", "--template", tmp_path / "veg.nml") == 0
    filled = (run.folder / "export" / "veg.nml").read_text()
    assert filled == f"! FR-Hes at 50.0\n&veg pmax = 14.0, rate = {0.01 * np.e:.6f} /\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--format", "callmip"), "`--longitude` is missing"),
        (("--format", "template"), "`--template` is missing"),
        ((), "expected RUN and `--format`"),
        (("--format", "excel"), "invalid choice: 'excel'"),
        (("--format", "template", "--template", "BAD"), r"bad.nml:2: 'pmx' is not known. Did you mean 'pmax'"),
        (("--format", "template", "--template", "GOOD", "--out", "GOOD"), "`--out` is the template itself"),
        (("--format", "template", "--template", "GOOD", "--out", "/no/such/folder/x"), "expected the path of a file in a folder"),
    ],
)
def test_mistakes_are_one_line(run, tmp_path, capsys, arguments, message):
    (tmp_path / "bad.nml").write_text("a\n{pmx}\n")
    (tmp_path / "good.nml").write_text("{pmax}\n")
    names = {"BAD": tmp_path / "bad.nml", "GOOD": tmp_path / "good.nml"}
    assert export(run, *(names.get(argument, argument) for argument in arguments)) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert (tmp_path / "good.nml").read_text() == "{pmax}\n"
