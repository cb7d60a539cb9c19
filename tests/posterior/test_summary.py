"""What is said of an uncertainty in sentences: of a surrogate that bends, on both sides of the threshold."""

from __future__ import annotations

import pandas as pd
import pytest
import torch

from lit_invert.posterior.summary import advise_on_optimum, describe_bending

#: Draws whose mean over two days is 0 to 1: 0.05 to 0.95.
LINEAR = torch.linspace(0, 1, 101, dtype=torch.float64)[:, None] + torch.tensor([-3.0, 3.0])


@pytest.mark.parametrize(("shift", "is_bent"), [(0.22, False), (0.23, True), (-0.23, True)])
def test_both_ends_together_differ_by_half_the_width_or_more(shift, is_bent):
    """Ends at 0.05 and 0.95 are 0.9 apart: two shifts of 0.225 are half of that."""
    assert bool(describe_bending(LINEAR, LINEAR + shift, "nep")) == is_bent


def test_the_sentence_has_both_intervals():
    (sentence,) = describe_bending(LINEAR, 2 * LINEAR, "nep")
    assert "a mean NEP of 0.10 to 1.90 gC m-2 d-1 (5-95 %), the bands 0.05 to 0.95." in sentence


def advised(outside, gpp=50.0, unit="scaled space"):
    """Advise on an optimum that leaves its band on so many of ten days, and on a year of GPP between 40 and 60."""
    bands = pd.DataFrame({"nep_p05": [-1.0] * 10, "nep_p95": [1.0] * 10})
    fluxes = pd.DataFrame({"nep_optimum": [2.0] * outside + [0.0] * (10 - outside)})
    report = {
        "annual": {"2001": {"gpp": {"p05": 40.0, "p95": 60.0}}, "mean": {"gpp": {"p05": 0.0, "p95": 1.0}}},
        "lambda_prior": {"used_unit": unit, "derived_unit": "prior sd"},
    }
    return advise_on_optimum(bands, report, fluxes, {"2001": {"gpp": {"optimum": gpp}}}, "nep")


def test_an_optimum_outside_on_more_than_a_fifth_of_the_days_is_told():
    assert advised(outside=2) == []
    (sentence,) = advised(outside=3)
    assert "outside the 5-95 % of NEP on 30 % of the days." in sentence
    assert "`inversion.lambda_prior: derived`" in sentence
    assert "derived" not in advised(outside=3, unit="prior sd")[0]


def test_a_year_of_a_flux_outside_its_interval_is_told():
    assert advised(outside=0, gpp=40.0) == []
    assert "of annual GPP in 100 % of the years." in advised(outside=0, gpp=39.9)[0]
