"""Sensitivity against closed forms: a linear model, Ishigami's function, and the toy surrogate."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from lit_invert.cli import main
from lit_invert.errors import ConfigError
from lit_invert.parameters import ParameterSpace
from lit_invert.posterior.sensitivity import analyse, parameter_ranges, run_outputs, sensitivity
from lit_invert.problem import InversionProblem
from lit_invert.testing import toy_problem
from tests.toy_fit import finished_toy_run


def with_table(problem, **changes):
    space = ParameterSpace(replace(problem.space.table, **changes), problem.space.transform)
    return InversionProblem(problem.surrogate, space, problem.forcing, problem.observed, problem.mask, problem.loss_terms)


def test_of_a_linear_model_morris_finds_the_slopes():
    slopes = np.array([3.0, -2.0, 0.0])
    table = analyse(lambda x: {"y": x @ slopes}, ["a", "b", "c"], "morris", 10)
    np.testing.assert_allclose(table["mu_star"], np.abs(slopes), atol=1e-12)
    np.testing.assert_allclose(table["sigma"], 0.0, atol=1e-12)
    assert table[["s1", "st"]].isna().all(axis=None)


def test_of_a_linear_model_sobol_finds_the_shares_of_variance():
    slopes = np.array([3.0, -2.0, 1.0])
    table = analyse(lambda x: {"y": x @ slopes}, ["a", "b", "c"], "sobol", 2048)
    np.testing.assert_allclose(table["s1"], slopes**2 / 14, atol=0.01)
    np.testing.assert_allclose(table["st"], slopes**2 / 14, atol=0.01)
    assert (table["s1_conf"] < 0.1).all()


def test_of_ishigamis_function_sobol_finds_the_known_indices():
    def ishigami(shares):
        x = np.pi * (2 * shares - 1)
        return {"y": np.sin(x[:, 0]) + 7 * np.sin(x[:, 1]) ** 2 + 0.1 * x[:, 2] ** 4 * np.sin(x[:, 0])}

    table = analyse(ishigami, ["x1", "x2", "x3"], "sobol", 4096)
    alone, interacting = 0.5 * (1 + 0.1 * np.pi**4 / 5) ** 2, 0.01 * np.pi**8 * (1 / 18 - 1 / 50)
    whole = alone + 49 / 8 + interacting
    np.testing.assert_allclose(table["s1"], np.array([alone, 49 / 8, 0.0]) / whole, atol=0.02)
    np.testing.assert_allclose(table["st"], np.array([alone + interacting, 49 / 8, interacting]) / whole, atol=0.02)


def test_a_mean_year_of_the_toy_is_linear_in_its_parameters():
    problem = toy_problem()
    table = sensitivity(problem, "nep", "morris", 4).set_index(["output", "parameter"])
    lower, upper = parameter_ranges(problem)
    for i, name in enumerate(problem.space.table.names):
        ends = torch.zeros(2, 3, dtype=torch.float64)
        ends[0, i], ends[1, i] = lower[i], upper[i]
        years = problem.simulate(ends)[..., 2].mean(1) * 365.25
        assert table.loc[("annual_nep", name), "mu_star"] == pytest.approx(abs(years[1] - years[0]).item(), rel=1e-9)


def test_the_first_output_is_the_rmse_of_the_fit_days():
    mask = torch.zeros(1, 60, 4, dtype=torch.bool)
    mask[:, 20:40, 2] = True
    problem = toy_problem(mask=mask)
    lower, upper = parameter_ranges(problem, "bounds")
    shares = np.random.default_rng(0).random((5, 3))
    found = run_outputs(problem, "nep", lower, upper, shares)["rmse_nep"]
    theta = (torch.from_numpy(shares) * 3.0 + 0.5 - 2.0) / 0.5  # bounds 0.5 to 3.5, scaled = (physical - 2) / 0.5
    off = (problem.simulate(theta) - problem.observed)[:, 20:40, 2]
    np.testing.assert_allclose(found, off.square().mean(1).sqrt(), rtol=1e-9)


def test_ranges_are_two_deviations_cut_to_the_bounds_and_a_fixed_parameter_has_none():
    problem = toy_problem()
    prior = torch.tensor([0.6, 2.0, 2.0], dtype=torch.float64)
    problem = with_table(problem, prior=prior, fixed=torch.tensor([False, False, True]))
    lower, upper = parameter_ranges(problem)
    torch.testing.assert_close(lower, torch.tensor([-3.0, -2.0, 0.0], dtype=torch.float64))  # 0.6 lies 0.2 sd from its bound
    torch.testing.assert_close(upper, torch.tensor([-0.8, 2.0, 0.0], dtype=torch.float64))
    assert set(sensitivity(problem, "nep", "morris", 4)["parameter"]) == {"s1", "s2"}


def test_chunks_do_not_change_a_number(monkeypatch):
    problem = toy_problem()
    whole = sensitivity(problem, "nep", "sobol", 8)
    monkeypatch.setattr("lit_invert.posterior.sensitivity._CHUNK", 60 * 7)
    pieces = sensitivity(problem, "nep", "sobol", 8)
    np.testing.assert_allclose(pieces.select_dtypes("number"), whole.select_dtypes("number"), rtol=1e-9)


def test_an_output_that_does_not_vary_has_no_shares():
    table = analyse(lambda x: {"y": np.ones(len(x))}, ["a", "b"], "sobol", 8)
    assert table[["s1", "st", "mu_star"]].isna().all(axis=None)


@pytest.mark.parametrize(
    ("method", "samples", "message"),
    [("morris", 1, "2 or more trajectories"), ("sobol", 48, "a power of two"), ("sobl", 8, "Did you mean 'sobol'")],
)
def test_what_makes_no_sense_is_one_line(method, samples, message):
    with pytest.raises(ConfigError, match=message):
        sensitivity(toy_problem(), "nep", method, samples)


def test_the_command_writes_a_table_into_a_finished_run_and_keeps_the_other_method(tmp_path, capsys):
    run, _ = finished_toy_run(tmp_path)
    before = {path.name: path.read_bytes() for path in run.iterdir() if path.is_file()}
    assert main(["sensitivity", str(run), "--samples", "4"]) == 0
    assert main(["sensitivity", str(run), "--method", "sobol", "--samples", "8", "--over", "bounds"]) == 0
    assert main(["sensitivity", str(run), "--method", "sobol", "--samples", "16"]) == 0
    assert "NEP RMSE of the fit days, sobol" in capsys.readouterr().out
    table = pd.read_csv(run / "sensitivity.csv")
    assert table.groupby("method").size().to_dict() == {"morris": 15, "sobol": 15}  # three parameters, five outputs
    assert {path.name: path.read_bytes() for path in run.iterdir() if path.is_file() and path.name in before} == before
    assert main(["sensitivity", str(run), "--method", "sobol", "--samples", "12"]) == 2
    assert capsys.readouterr().err == "lit-invert: `--samples` is 12, expected a power of two, 2 or more for sobol.\n"
