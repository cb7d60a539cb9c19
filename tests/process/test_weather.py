"""Perturbed weather: what must stay together, and what must stay within its range."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from lit_invert import solar
from lit_invert.errors import ForcingError
from lit_invert.process.environment import DRIVERS
from lit_invert.process.weather import load_weather, perturb


class Fixed(np.random.Generator):
    """Draws everything from a seed, but perturbs with the strength it is told."""

    def __init__(self, seed, strength):
        super().__init__(np.random.PCG64(seed))
        self.strength = strength

    def uniform(self, low=0.0, high=1.0, size=None):
        if self.strength is not None:
            strength, self.strength = self.strength, None
            return strength
        return super().uniform(low, high, size)


def column(forcing, name):
    return forcing[:, DRIVERS.index(name)]


def test_measured_weather_carries_its_sun(hesse):
    forcing = hesse.forcing()
    assert forcing.shape == (366, 12)
    np.testing.assert_array_equal(column(forcing, "day_length"), solar.day_length(hesse.dates, 48.67))


def test_strength_zero_gives_measured_days_but_for_carbon_dioxide(hesse):
    drawn = perturb(hesse, 366, Fixed(0, 0.0))
    others = [i for i, name in enumerate(DRIVERS) if name != "aco2"]
    np.testing.assert_allclose(drawn[:, others], hesse.forcing()[:, others], rtol=1e-12)


def test_the_same_seed_gives_the_same_weather(hesse):
    first, second = (perturb(hesse, 400, np.random.default_rng(5)) for _ in range(2))
    np.testing.assert_array_equal(first, second)


def test_years_come_only_from_those_allowed(woodward):
    some = woodward.only([2010])
    assert some.years == [2010]
    rain = set(np.round(column(some.forcing(), "prate"), 12))
    drawn = perturb(some, 365, Fixed(1, 0.0))
    assert set(np.round(column(drawn, "prate"), 12)) <= rain


def test_relative_humidity_survives_warming(hesse):
    def humidity(forcing):
        celsius = column(forcing, "tmp_2m") - 273.15
        return column(forcing, "spfh") / np.exp(17.27 * celsius / (celsius + 237.3))

    class NoShift(Fixed):
        def uniform(self, low=0.0, high=1.0, size=None):
            drawn = super().uniform(low, high, size)
            return np.zeros_like(drawn) if size is not None else drawn

    drawn = perturb(hesse, 366, NoShift(2, 1.0))
    assert np.abs(column(drawn, "tmp_2m") - column(hesse.forcing(), "tmp_2m")).max() > 1.0
    np.testing.assert_allclose(humidity(drawn), humidity(hesse.forcing()), rtol=1e-9)


def test_soil_follows_the_air_damped(hesse):
    drawn = perturb(hesse, 366, Fixed(4, 1.0)) - perturb(hesse, 366, Fixed(4, 0.0))
    # both runs draw the same numbers, but move days differently; compare the anomaly's spread only
    assert column(drawn, "tmp200_soil").std() < column(drawn, "tmp_2m").std()


def test_perturbations_keep_their_ranges(woodward):
    random = np.random.default_rng(0)
    for _ in range(20):
        drawn = perturb(woodward, 365, random)
        assert 320.0 <= column(drawn, "aco2").min() <= column(drawn, "aco2").max() <= 522.0
        assert column(drawn, "prate").min() >= 0.0
        assert column(drawn, "prate").max() <= 1.6 * column(woodward.forcing(), "prate").max() + 1e-12
        assert column(drawn, "dswrf").min() > 0.0


def test_a_gap_is_named_with_driver_and_row(tmp_path, hesse):
    table = pd.DataFrame(hesse.measured, columns=list(DRIVERS[:-2]))
    table.insert(0, "date", hesse.dates)
    table.loc[3, "wind"] = np.nan
    table.to_csv(tmp_path / "site.csv", index=False)
    with pytest.raises(ForcingError, match=r"site\.csv: driver 'wind' has a gap in row 5"):
        load_weather(tmp_path / "site.csv", 48.67)


def test_a_missing_driver_is_named(tmp_path):
    (tmp_path / "site.csv").write_text("date,tmp_2m\n2016-01-01,280\n")
    with pytest.raises(ForcingError, match=r"missing: tmp_sfc, tmp10_soil"):
        load_weather(tmp_path / "site.csv", 48.67)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ForcingError, match=r"none\.csv: cannot be read as a CSV of drivers"):
        load_weather(tmp_path / "none.csv", 48.67)
