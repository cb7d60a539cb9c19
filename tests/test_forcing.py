from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from lit_invert import solar
from lit_invert.derivations import background_co2, low_pass, saturation_vapour_pressure, specific_humidity
from lit_invert.errors import ForcingError, ObservationError
from lit_invert.forcing import DriverSettings
from lit_invert.surrogates.base import Variable
from tests.tower import DRIVERS, SPEC, make_frame, read


def driver(site, name):
    return site.forcing[:, site.drivers.index(name)]


def test_drivers_come_in_the_order_of_the_spec_and_the_sun_is_computed(tmp_path):
    frame = make_frame()
    site, _ = read(frame, tmp_path, latitude=48.0)
    assert site.drivers == tuple(DRIVERS)
    for name in ("tmp_sfc", "dswrf", "aco2"):
        assert driver(site, name) == pytest.approx(frame[name].to_numpy(), rel=1e-12)
    assert (driver(site, "day_length") == solar.day_length(site.dates, 48.0)).all()
    assert (driver(site, "sun_noon") == solar.sun_noon(site.dates, 48.0)).all()
    assert site.notes == ()


@pytest.mark.parametrize(
    ("name", "unit", "to_file"),
    [
        ("tmp_2m", "degC", lambda x: x - 273.15),
        ("dswrf", "MJ m-2 d-1", lambda x: x * 0.0864),
        ("prate", "mm d-1", lambda x: x * 86_400),
        ("spfh", "g kg-1", lambda x: x * 1000),
        ("tcdc", "fraction", lambda x: x / 100),
        ("wind", "km h-1", lambda x: x * 3.6),
    ],
)
def test_a_mapped_column_is_converted_from_its_unit(tmp_path, name, unit, to_file):
    frame = make_frame()
    expected = frame[name].to_numpy().copy()
    frame["theirs"] = to_file(frame.pop(name))
    site, _ = read(frame, tmp_path, drivers={name: DriverSettings("theirs", unit)})
    assert driver(site, name) == pytest.approx(expected, rel=1e-12)


def test_the_spec_may_ask_for_another_unit_and_for_drivers_of_its_own(tmp_path):
    spec = replace(SPEC, drivers=(Variable("tmp_2m", "degC"), Variable("prate", "mm d-1"), Variable("ozone", "ppb")))
    frame = make_frame().assign(ozone=40.0)
    site, _ = read(frame, tmp_path, spec=spec)
    expected = np.stack([frame["tmp_2m"] - 273.15, frame["prate"] * 86_400, frame["ozone"]], axis=1)
    assert site.forcing == pytest.approx(expected, rel=1e-12)


def test_leap_days_are_kept(tmp_path):
    site, _ = read(make_frame("2016-01-01", 366), tmp_path)
    assert np.datetime64("2016-02-29") in site.dates
    assert (np.diff(site.dates) == np.timedelta64(1, "D")).all()


def test_a_constant_is_noted(tmp_path):
    site, _ = read(make_frame().drop(columns="aco2"), tmp_path, drivers={"aco2": DriverSettings(constant=412.0)})
    assert (driver(site, "aco2") == 412.0).all()
    assert site.notes == ("`aco2` is constant at 412 (config).",)


def test_what_no_instrument_measured_is_derived_and_noted(tmp_path):
    frame = make_frame().drop(columns=["tmp_sfc", "tmp10_soil", "tmp200_soil", "tcdc", "aco2", "spfh"])
    air = frame["tmp_2m"].to_numpy()
    frame = frame.assign(vpd=300.0, pressure=98_000.0)
    site, _ = read(frame, tmp_path)
    assert (driver(site, "tmp_sfc") == driver(site, "tmp_2m")).all()
    assert driver(site, "tmp10_soil") == pytest.approx(low_pass(air, 4.0))
    assert driver(site, "tmp200_soil") == pytest.approx(low_pass(low_pass(air, 4.0), 35.0))
    assert driver(site, "spfh") == pytest.approx(specific_humidity(saturation_vapour_pressure(air) - 300.0, 98_000.0))
    assert driver(site, "aco2") == pytest.approx(background_co2(site.dates))
    for name in ("tmp_sfc", "tmp10_soil", "tmp200_soil", "tcdc", "spfh", "aco2"):
        assert sum(note.startswith(f"`{name}` ") for note in site.notes) == 1


@pytest.mark.parametrize(
    ("name", "value", "complaint"),
    [
        ("tmp_2m", 11.5, r"row 7 \(2015-01-06\), column 'tmp_2m': driver 'tmp_2m' is 11.5 K.*degrees Celsius"),
        ("prate", 12.0, r"driver 'prate' is 12 kg m-2 s-1.*millimetres a day"),
        ("spfh", 6.0, r"driver 'spfh' is 6 kg kg-1.*grams per kilogram"),
        ("wind", -1.0, r"driver 'wind' is -1 m s-1, expected 0 to 75"),
        ("wind", np.nan, r"row 7 .*driver 'wind' has no value, and none on 1 days in all"),
        ("wind", -9999, r"row 7 .*driver 'wind' has no value"),
    ],
)
def test_a_value_that_cannot_be_right_is_named_with_row_and_cause(tmp_path, name, value, complaint):
    frame = make_frame()
    frame.loc[5, name] = value
    with pytest.raises(ForcingError, match=complaint):
        read(frame, tmp_path)


@pytest.mark.parametrize(("name", "factor", "cause"), [("dswrf", 0.0864, "MJ m-2 d-1"), ("tcdc", 0.01, "fraction")])
def test_a_year_in_a_larger_unit_is_recognised_by_its_peak(tmp_path, name, factor, cause):
    frame = make_frame()
    frame[name] *= factor
    with pytest.raises(ForcingError, match=f"driver '{name}' never exceeds .*{cause}"):
        read(frame, tmp_path)


def test_a_missing_day_is_named(tmp_path):
    with pytest.raises(ForcingError, match=r"the day 2015-01-11 is missing after row 11, 2 days in all"):
        read(make_frame().drop(index=[10, 40]), tmp_path)


def test_a_driver_that_is_nowhere_is_named_with_the_columns_there_are(tmp_path):
    with pytest.raises(
        ForcingError, match=r"driver 'wind' is not there\. Map its column in `data\.drivers\.wind`.*Columns: date, tmp_sfc"
    ):
        read(make_frame().drop(columns="wind"), tmp_path)


def test_wrong_settings_are_named(tmp_path):
    with pytest.raises(ForcingError, match=r"'winds' is not a driver of the surrogate\. Did you mean 'wind'\?"):
        read(make_frame(), tmp_path, drivers={"winds": DriverSettings("wind")})
    with pytest.raises(
        ForcingError, match=r"data\.drivers\.wind\.unit: 'knots' is not a unit that converts to 'm s-1'\. Known: km h-1"
    ):
        read(make_frame(), tmp_path, drivers={"wind": DriverSettings("wind", "knots")})
    with pytest.raises(ForcingError, match=r"data\.drivers\.wind: gives both `column` and `constant`"):
        read(make_frame(), tmp_path, drivers={"wind": DriverSettings("wind", constant=3.0)})
    with pytest.raises(ObservationError, match=r"has no column 'speed', which `data\.drivers\.wind` asks for"):
        read(make_frame(), tmp_path, drivers={"wind": DriverSettings("speed")})
