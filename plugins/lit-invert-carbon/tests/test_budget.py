"""The budget is what fluxes.csv says, times the days of a year."""

from __future__ import annotations

import pandas as pd
import pytest
from lit_invert_carbon.budget import load_budget, print_budget, render_budget

from lit_invert import LitInvertError


@pytest.fixture
def folder(tmp_path):
    """A run of two days whose prior keeps nine tenths of GPP and whose optimum keeps half."""
    pd.DataFrame(
        {
            "date": ["2016-01-01", "2016-01-02"],
            "gpp_prior": [1.0, 3.0],
            "npp_prior": [0.9, 2.7],
            "nep_prior": [0.4, 2.2],
            "rh_prior": [0.5, 0.5],
            "gpp_optimum": [2.0, 4.0],
            "npp_optimum": [1.0, 2.0],
            "nep_optimum": [-1.0, 0.0],
            "rh_optimum": [2.0, 2.0],
            "nep_observed": [float("nan"), 1.0],
        }
    ).to_csv(tmp_path / "fluxes.csv", index=False)
    return tmp_path


def test_sums_of_a_year(folder):
    budget = load_budget(folder)
    assert list(budget.index) == ["prior", "optimum"]
    assert budget.loc["optimum", ["GPP", "NPP", "NEP", "Rh"]].tolist() == [3 * 365.25, 1.5 * 365.25, -0.5 * 365.25, 2 * 365.25]
    assert budget["CUE"].tolist() == pytest.approx([0.9, 0.5], rel=1e-12)


def test_the_section_names_what_is_implausible(folder):
    html = render_budget(folder)
    assert "<td>1096</td>" in html
    assert "<td>0.50</td>" in html
    assert "outside: prior." in html
    assert "<script" not in html


def test_no_carbon_no_section(folder):
    pd.DataFrame({"date": ["2016-01-01"], "discharge_prior": [1.0]}).to_csv(folder / "fluxes.csv", index=False)
    assert render_budget(folder) == ""
    with pytest.raises(LitInvertError, match="no budget to print"):
        print_budget([str(folder)])


def test_the_command_prints_it(folder, capsys):
    assert print_budget([str(folder)]) == 0
    out = capsys.readouterr().out
    assert "gC m-2 yr-1" in out
    assert out.splitlines()[-1].split() == ["optimum", "1096", "548", "-183", "730", "0.50"]


def test_a_folder_without_fluxes_is_named(tmp_path):
    with pytest.raises(LitInvertError, match=r"fluxes\.csv: expected the fluxes of a finished run"):
        print_budget([str(tmp_path)])
