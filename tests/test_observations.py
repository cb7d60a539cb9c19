from __future__ import annotations

import numpy as np
import pytest

from lit_invert.errors import ObservationError, ShapeError
from lit_invert.observations import Observations, ObservedSettings, QualityRule, to_carbon
from tests.tower import NEP, make_frame, read


@pytest.mark.parametrize(
    ("unit", "factor"),
    [("gC m-2 d-1", 1.0), ("umol m-2 s-1", 1.0377504), ("MgC ha-1 d-1", 100.0), ("kgC m-2 s-1", 8.64e7)],
)
def test_units_convert_as_by_hand(unit, factor):
    values = np.array([1.0, -2.0])
    assert to_carbon(values, unit, "nep", "unit") == pytest.approx(factor * values, rel=1e-12)
    assert to_carbon(values, unit, "nee", "unit") == pytest.approx(-factor * values, rel=1e-12)


def test_unknown_unit_names_the_nearest():
    with pytest.raises(ObservationError, match=r"data\.observed\.nep\.unit: unit 'gC m-2 d1' .* Did you mean 'gC m-2 d-1'\?"):
        to_carbon(np.ones(1), "gC m-2 d1", "nep", "data.observed.nep.unit")


def test_sign_and_unit_of_the_config_are_applied_once(tmp_path):
    frame = make_frame()
    expected = frame["nep"].to_numpy()
    frame["flux"] = -frame.pop("nep") / 1.0377504
    settings = {"nep": ObservedSettings("flux", sign="nee", unit="umol m-2 s-1")}
    site, _ = read(frame, tmp_path, observed=settings)
    assert site.fit.values[:, NEP] == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("missing", ["sign", "unit"])
def test_a_column_whose_name_says_nothing_needs_sign_and_unit(tmp_path, missing):
    stated = {"sign": "nep", "unit": "gC m-2 d-1"} | {missing: None}
    frame = make_frame().rename(columns={"nep": "flux"})
    with pytest.raises(ObservationError, match=rf"data\.observed\.nep\.{missing}: is not stated, and the name of column 'flux'"):
        read(frame, tmp_path, observed={"nep": ObservedSettings("flux", **stated)})


def test_nee_under_its_own_name_is_turned(tmp_path):
    frame = make_frame()
    expected = frame["nep"].to_numpy()
    frame["nee"] = -frame.pop("nep")
    site, _ = read(frame, tmp_path)
    assert site.fit.values[:, NEP] == pytest.approx(expected)


def test_fluxes_take_the_place_of_the_output_and_leave_the_others_empty(tmp_path):
    frame = make_frame().assign(gpp=5.0)
    site, _ = read(frame, tmp_path, observed={"nep": ObservedSettings(), "gpp": ObservedSettings("gpp")})
    assert site.fit.names == ("gpp", "npp", "nep", "rh")
    assert site.fit.mask.all(axis=0).tolist() == [True, False, True, False]
    assert np.isnan(site.fit.values[:, [1, 3]]).all()
    assert (site.fit.values[:, 0] == 5.0).all()


def test_the_missing_value_code_is_never_observed(tmp_path):
    frame = make_frame()
    frame.loc[[3, 9], "nep"] = [-9999, np.nan]
    site, _ = read(frame, tmp_path)
    assert np.flatnonzero(~site.fit.mask[:, NEP]).tolist() == [3, 9]
    assert np.isnan(site.fit.values[[3, 9], NEP]).all()


def test_mask_of_ones(tmp_path):
    site, _ = read(make_frame(), tmp_path)
    assert site.fit.mask[:, NEP].all()


def test_mask_of_fourteen_days(tmp_path):
    frame = make_frame().assign(good=0)
    frame.loc[100:113, "good"] = 1
    site, _ = read(frame, tmp_path, quality=QualityRule("good", minimum=1))
    assert np.flatnonzero(site.fit.mask[:, NEP]).tolist() == list(range(100, 114))
    assert (site.roles == "unused").sum() == 365 - 14


def test_mask_of_none_is_an_error(tmp_path):
    with pytest.raises(ObservationError, match=r"no day of 2015-01-01 to 2015-12-31 is observed.*`data.quality`"):
        read(make_frame().assign(good=0), tmp_path, quality=QualityRule("good", minimum=1))


def test_rules_for_all_and_for_one_flux_add_up(tmp_path):
    frame = make_frame().assign(n=np.arange(365), flag=np.arange(365) % 3, gpp=1.0)
    frame.loc[50, "n"] = np.nan
    settings = {"nep": ObservedSettings(quality=QualityRule("flag", maximum=1)), "gpp": ObservedSettings()}
    site, _ = read(frame, tmp_path, observed=settings, quality=[QualityRule("n", minimum=24)])
    days = np.arange(365)
    measured = (days >= 24) & (days != 50)
    assert (site.fit.mask[:, 0] == measured).all()
    assert (site.fit.mask[:, NEP] == (measured & (days % 3 <= 1))).all()


def test_a_rule_without_a_limit_is_an_error(tmp_path):
    with pytest.raises(ObservationError, match=r"has no limit\. Give `minimum` or `maximum`"):
        read(make_frame(), tmp_path, quality=QualityRule("wind"))


def test_uncertainty_is_converted_and_absent_days_take_the_median(tmp_path):
    frame = make_frame().assign(sd=0.5)
    frame.loc[:9, "sd"] = 0.2
    frame.loc[20, "sd"] = np.nan
    frame["flux"] = frame.pop("nep") / 1.0377504
    settings = {"nep": ObservedSettings("flux", "nee", "umol m-2 s-1", uncertainty="sd")}
    site, _ = read(frame, tmp_path, observed=settings)
    assert site.fit.sigma[[0, 10, 20], NEP] == pytest.approx(1.0377504 * np.array([0.2, 0.5, 0.5]))
    assert any("1 observed days without sd" in note for note in site.notes)


def test_uncertainty_of_zero_is_an_error(tmp_path):
    frame = make_frame().assign(sd=0.5)
    frame.loc[4, "sd"] = 0.0
    with pytest.raises(ObservationError, match=r"row 6 \(2015-01-05\), column 'sd': uncertainty is 0, expected it above zero"):
        read(frame, tmp_path, observed={"nep": ObservedSettings(uncertainty="sd")})


def test_without_uncertainty_there_is_no_sigma(tmp_path):
    site, _ = read(make_frame(), tmp_path)
    assert site.fit.sigma is None


@pytest.mark.parametrize(
    ("value", "complaint"),
    [
        (150.0, r"row 12 \(2015-01-11\), column 'nep': 150 gC m-2 d-1 cannot be a daily carbon flux.*unit is not 'gC m-2 d-1'"),
        (-6999, r"row 12 .*missing-value code other than -9999"),
        (np.inf, r"row 12 .*expected a finite number, found inf"),
        ("n.d.", r"row 12 .*expected a finite number, found 'n.d.'"),
    ],
)
def test_values_that_cannot_be_right_are_named_with_their_row(tmp_path, value, complaint):
    frame = make_frame().astype({"nep": object})
    frame.loc[10, "nep"] = value
    with pytest.raises(ObservationError, match=complaint):
        read(frame, tmp_path)


def test_a_record_in_a_much_larger_unit_is_an_error(tmp_path):
    frame = make_frame()
    frame["nep"] /= 8.64e7
    with pytest.raises(ObservationError, match=r"column 'nep' never exceeds 3.*Likely cause: the unit is not 'gC m-2 d-1'"):
        read(frame, tmp_path)


def test_ecosystem_respiration_is_not_taken_for_heterotrophic(tmp_path):
    settings = {"nep": ObservedSettings(), "rh": ObservedSettings("RECO_NT_VUT_REF", unit="gC m-2 d-1")}
    with pytest.raises(ObservationError, match="'RECO_NT_VUT_REF' is ecosystem respiration"):
        read(make_frame().assign(RECO_NT_VUT_REF=2.0), tmp_path, observed=settings)


def test_unknown_flux_and_column_are_named(tmp_path):
    with pytest.raises(ObservationError, match=r"'NEP' is not an output of the surrogate\..*Known: gpp, nep, npp, rh"):
        read(make_frame(), tmp_path, observed={"NEP": ObservedSettings()})
    with pytest.raises(ObservationError, match=r"has no column 'gppp', which `data\.observed\.gpp\.column` asks for"):
        read(make_frame(), tmp_path, observed={"gpp": ObservedSettings("gppp", unit="gC m-2 d-1")})


def test_only_keeps_values_of_the_days_asked_for_and_nothing_else():
    dates = np.datetime64("2015-01-01") + np.arange(3)
    full = Observations(dates, ("nep",), np.array([[1.0], [2.0], [3.0]]), np.ones((3, 1), bool), np.ones((3, 1)))
    part = full.only(np.array([True, False, False]))
    assert part.values[0, 0] == 1.0
    assert np.isnan(part.values[1:]).all()
    assert np.isnan(part.sigma[1:]).all()
    assert part.mask[:, 0].tolist() == [True, False, False]
    assert not np.shares_memory(part.values, full.values)


def test_arrays_that_do_not_belong_together_are_an_error():
    dates = np.datetime64("2015-01-01") + np.arange(3)
    with pytest.raises(ShapeError, match=r"'mask' has shape \(2, 1\), expected \(3, 1\)"):
        Observations(dates, ("nep",), np.zeros((3, 1)), np.zeros((2, 1), bool))
