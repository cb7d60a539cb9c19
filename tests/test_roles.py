from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from lit_invert.errors import ConfigError, ObservationError
from lit_invert.roles import SplitSettings, assign_roles

SEASON = np.array([0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3, 0])


def days(first, last):
    return np.arange(first, np.datetime64(last) + 1, dtype="datetime64[D]")


def season_of(dates):
    return SEASON[dates.astype("datetime64[M]").astype(int) % 12]


def distance(a, b):
    """Smallest number of days between two sets of days."""
    return np.abs(np.flatnonzero(a)[:, None] - np.flatnonzero(b)[None]).min()


ONE_YEAR = days("2016-01-01", "2016-12-31")
FOUR_YEARS = days("2009-01-01", "2012-12-31")
ALL = np.ones(len(ONE_YEAR), dtype=bool)


@pytest.mark.parametrize("seed", range(5))
def test_one_year_has_every_role_in_every_season(seed):
    roles = assign_roles(ONE_YEAR, ALL, SplitSettings(seed=seed))
    for role in ("fit", "select", "test"):
        assert set(season_of(ONE_YEAR)[roles == role]) == {0, 1, 2, 3}
    used = np.isin(roles, ["fit", "select", "test"])
    assert 0.55 < (roles == "fit").sum() / used.sum() < 0.75
    assert (roles == "select").sum() == pytest.approx((roles == "test").sum(), abs=8 * 3)


@pytest.mark.parametrize(("dates", "gap"), [(ONE_YEAR, 3), (ONE_YEAR, 7), (FOUR_YEARS, 3), (ONE_YEAR, 0)])
def test_roles_are_apart_by_more_than_the_gap(dates, gap):
    roles = assign_roles(dates, np.ones(len(dates), bool), SplitSettings(gap_days=gap))
    for a, b in (("fit", "select"), ("fit", "test"), ("select", "test")):
        assert distance(roles == a, roles == b) > gap


def test_the_same_seed_gives_the_same_roles_and_another_seed_others():
    first, again, other = (assign_roles(ONE_YEAR, ALL, SplitSettings(seed=seed)) for seed in (0, 0, 1))
    assert (first == again).all()
    assert (first != other).any()


def test_the_last_of_several_years_is_the_test():
    roles = assign_roles(FOUR_YEARS, np.ones(len(FOUR_YEARS), bool), SplitSettings())
    years = FOUR_YEARS.astype("datetime64[Y]").astype(str)
    assert (roles[years == "2012"] == "test").all()
    assert not (roles[years != "2012"] == "test").any()
    assert set(season_of(FOUR_YEARS)[roles == "select"]) == {0, 1, 2, 3}


def test_a_year_that_is_cut_short_is_not_a_full_year():
    dates = days("2014-03-01", "2015-12-31")
    roles = assign_roles(dates, np.ones(len(dates), bool), SplitSettings())
    # One full year only, so test days come in blocks, before it too.
    assert (roles[dates < np.datetime64("2015-01-01")] == "test").any()


def test_warm_up_and_unobserved_days_have_no_role():
    observed = ALL.copy()
    observed[200:210] = False
    roles = assign_roles(ONE_YEAR, observed, SplitSettings(), warmup_days=30)
    assert (roles[:30] == "unused").all()
    assert (roles[200:210] == "unused").all()


def test_named_years():
    settings = SplitSettings("years", select=[2011], test=[2012], gap_days=0)
    roles = assign_roles(FOUR_YEARS, np.ones(len(FOUR_YEARS), bool), settings)
    years = FOUR_YEARS.astype("datetime64[Y]").astype(str)
    assert set(roles[years == "2011"]) == {"select"}
    assert set(roles[years == "2012"]) == {"test"}
    assert set(roles[years < "2011"]) == {"fit"}


def test_named_dates_are_inclusive_and_keep_their_gaps():
    settings = SplitSettings("dates", test=[["2016-06-01", "2016-06-20"]])
    roles = assign_roles(ONE_YEAR, ALL, settings)
    assert (roles == "test").sum() == 20
    assert (roles == "gap").sum() == 6
    assert (roles == "fit").sum() == 366 - 26


def test_none_fits_every_observed_day():
    assert (assign_roles(ONE_YEAR, ALL, SplitSettings("none")) == "fit").all()


def test_too_few_days_to_hold_any_back_are_all_fitted():
    dates = np.arange("2010-01-01", "2016-01-01", dtype="datetime64[D]")
    observed = np.arange(len(dates)) % 150 == 0
    assert Counter(assign_roles(dates, observed, SplitSettings())) == {"fit": 15, "unused": len(dates) - 15}


def test_scattered_days_are_held_back_too():
    """Towers that keep only days of measured half-hours have a sixth of their days, never half of two weeks."""
    dates = np.arange("2010-01-01", "2016-01-01", dtype="datetime64[D]")
    roles = assign_roles(dates, np.arange(len(dates)) % 6 == 0, SplitSettings())
    assert {"fit", "select", "test"} <= set(roles)
    assert (dates[roles == "test"] >= np.datetime64("2015-01-01")).all()


def test_the_test_year_is_one_that_was_observed():
    dates = np.arange("2010-01-01", "2016-01-01", dtype="datetime64[D]")
    roles = assign_roles(dates, dates < np.datetime64("2014-01-01"), SplitSettings())
    assert set(dates[roles == "test"].astype("datetime64[Y]").astype(str)) == {"2013"}


def test_named_days_without_observations_are_an_error():
    with pytest.raises(ObservationError, match="no observed day is left for `test`"):
        assign_roles(ONE_YEAR, ALL, SplitSettings("years", test=[2031]))
    with pytest.raises(ObservationError, match="no observed day is left for `fit`"):
        assign_roles(ONE_YEAR, ALL, SplitSettings("years", test=[2016]))


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        (SplitSettings("years", test=[["2016-06-01", "2016-06-20"]]), r"data\.split\.test: with `method: years` expected a year"),
        (SplitSettings("dates", test=[2016]), r"with `method: dates` expected a pair of dates"),
        (SplitSettings("dates", test=[["2016-06-01", "June"]]), r"expected dates as 2016-01-31, found"),
        (SplitSettings("years", select=[2016], test=[2016]), r"2016-01-01 is in `select` and in `test`"),
        (SplitSettings("auto", test=[2016]), r"`method` is 'auto'\. Set it to 'years' or 'dates'"),
        (SplitSettings(block_days=0), r"block_days: is 0, expected 1 or more"),
        (SplitSettings(gap_days=-1), r"gap_days: is -1, expected 0 or more"),
    ],
)
def test_wrong_settings_are_named(settings, complaint):
    with pytest.raises(ConfigError, match=complaint):
        assign_roles(ONE_YEAR, ALL, settings)
