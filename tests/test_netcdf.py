"""NetCDF in: CalLMIP's fluxes, CF weather, calendars and clocks; files are made here, by xarray itself."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from lit_invert.derivations import saturation_vapour_pressure
from lit_invert.errors import ForcingError, ObservationError
from lit_invert.netcdf import NetcdfReader, site_dataset, write_dataset
from lit_invert.observations import ObservedSettings
from lit_invert.sites import DataSettings, SplitSettings, read_site
from lit_invert.surrogates.base import SurrogateSpec, Variable
from tests.tower import DRIVERS, NEP, READERS, SPEC, make_frame

ALL_READERS = {**READERS, "netcdf": NetcdfReader()}
#: Four drivers that CF has names for.
WEATHER_SPEC = SurrogateSpec(
    "weather",
    statics=(Variable("a"),),
    drivers=tuple(Variable(name, DRIVERS[name]) for name in ("tmp_2m", "prate", "dswrf", "aco2")),
    outputs=SPEC.outputs,
)
CF = {
    "tmp_2m": ("air_temperature", "degrees_C", lambda v: v - 273.15),
    "prate": ("precipitation_flux", "kg m-2 s-1", lambda v: v),
    "dswrf": ("surface_downwelling_shortwave_flux_in_air", "W/m^2", lambda v: v),
    "aco2": ("mole_fraction_of_carbon_dioxide_in_air", "1", lambda v: v * 1e-6),
}


def write_fluxes(path, nee, dates, *, unit="gC m-2 d-1", **attributes):
    """Fluxes as CalLMIP gives them: (time, lat, lon), release positive, NaN on most days."""
    uncertainty = np.where(np.isnan(nee), np.nan, 0.5)
    series = {"NEE_daily": (nee, {"units": unit, **attributes}), "NEE_uc_daily": (uncertainty, {"units": unit})}
    write_dataset(path, site_dataset(dates, 38.4, -120.9, series, {}))


def write_weather(path, frame, *, calendar="standard", **columns):
    """Weather as CF has it, under names that are not ours, along time alone."""
    time = {"units": "days since 2015-01-01", "calendar": calendar}
    variables = {"time": ("time", np.arange(float(len(frame))), time)}
    for number, (driver, (name, unit, convert)) in enumerate({**CF, **columns}.items()):
        values = convert(frame[driver].to_numpy() * np.ones(len(frame)))
        variables[f"x{number}"] = ("time", values, {"standard_name": name, "units": unit})
    xr.Dataset(variables).to_netcdf(path, engine="h5netcdf")


def read(path, *, spec=SPEC, drivers_path=None, nep=None, **settings):
    settings = {"split": SplitSettings("none"), "latitude": 48.0, **settings}
    observed = {} if nep is None else {"nep": nep}
    return read_site(DataSettings(str(path), observed=observed, drivers_path=drivers_path, **settings), spec, ALL_READERS)[0]


@pytest.fixture
def weather(tmp_path):
    """The drivers of a year, as CSV."""
    path = tmp_path / "weather.csv"
    make_frame().drop(columns="nep").to_csv(path, index=False)
    return str(path)


def days(count=365):
    return np.datetime64("2015-01-01") + np.arange(count)


def test_fourteen_days_of_callmip_are_read_with_sign_place_and_uncertainty(tmp_path, weather):
    nee = np.full(365, np.nan)
    observed = np.arange(5, 365, 27)[:14]
    nee[observed] = np.linspace(-6.0, 2.0, 14)
    write_fluxes(tmp_path / "site.nc", nee, days())
    site = read(
        tmp_path / "site.nc", drivers_path=weather, latitude=None, nep=ObservedSettings("NEE_daily", uncertainty="NEE_uc_daily")
    )
    assert site.latitude == 38.4
    assert np.flatnonzero(site.fit.mask[:, NEP]).tolist() == observed.tolist()
    assert site.fit.values[observed, NEP].tolist() == (-nee[observed]).tolist()
    assert site.fit.sigma[observed, NEP].tolist() == [0.5] * 14


def test_the_name_of_callmip_needs_no_config(tmp_path, weather):
    write_fluxes(tmp_path / "site.nc", np.full(365, -2.0), days())
    assert (read(tmp_path / "site.nc", drivers_path=weather).fit.values[:, NEP] == 2.0).all()


@pytest.mark.parametrize(("unit", "factor"), [("kg C m-2 s-1", 86.4e6), ("umolCO2/m2/s", 1.0377504), ("gC m**-2 day**-1", 1.0)])
def test_units_of_the_file_are_converted(tmp_path, weather, unit, factor):
    write_fluxes(tmp_path / "site.nc", np.full(365, -3.0) / factor, days(), unit=unit)
    np.testing.assert_allclose(read(tmp_path / "site.nc", drivers_path=weather).fit.values[:, NEP], 3.0, rtol=1e-12)


@pytest.mark.parametrize(
    ("attributes", "setting", "message"),
    [
        (
            {"unit": "kgC m-2 s-1"},
            {"unit": "gC m-2 d-1"},
            r"'NEE_daily' is 'kgC m-2 s-1' by its own attributes, but `data\.observed",
        ),
        ({"unit": "kgC m-2 yr-1"}, {}, "unit 'kgC m-2 yr-1' is not a carbon flux unit"),
        ({"unit": "g m-2 d-1"}, {}, "unit 'g m-2 d-1' is not a carbon flux unit"),
        ({"positive": "down"}, {}, r"'NEE_daily' is 'nep' by its own attributes, but `data\.observed\.nep\.sign` is 'nee'"),
    ],
)
def test_contradictions_are_one_clear_error(tmp_path, weather, attributes, setting, message):
    write_fluxes(tmp_path / "site.nc", np.full(365, -3.0), days(), **attributes)
    with pytest.raises(ObservationError, match=message):
        read(tmp_path / "site.nc", drivers_path=weather, nep=ObservedSettings("NEE_daily", **setting))


def test_a_mass_without_substance_is_carbon_where_the_config_says_so(tmp_path, weather):
    write_fluxes(tmp_path / "site.nc", np.full(365, -3.0), days(), unit="g m-2 d-1")
    site = read(tmp_path / "site.nc", drivers_path=weather, nep=ObservedSettings("NEE_daily", unit="gC m-2 d-1"))
    assert (site.fit.values[:, NEP] == 3.0).all()


def test_a_flux_of_another_name_takes_sign_and_unit_from_its_attributes(tmp_path, weather):
    name = "surface_upward_mass_flux_of_carbon_dioxide_expressed_as_carbon_due_to_all_land_processes"
    about = {"units": "kg m-2 s-1", "standard_name": name}
    write_dataset(tmp_path / "site.nc", site_dataset(days(), 48.0, 7.0, {"fco2": (np.full(365, -3.0 / 86.4e6), about)}, {}))
    site = read(tmp_path / "site.nc", drivers_path=weather, nep=ObservedSettings("fco2"))
    np.testing.assert_allclose(site.fit.values[:, NEP], 3.0, rtol=1e-12)


def weather_site(path, tmp_path):
    """Read weather alone; the fluxes are zero but for one day."""
    write_fluxes(tmp_path / "flux.nc", np.r_[1.0, np.zeros(364)], days())
    return read(tmp_path / "flux.nc", spec=WEATHER_SPEC, drivers_path=str(path))


def test_cf_weather_is_found_by_standard_name_and_converted(tmp_path):
    frame = make_frame()
    write_weather(tmp_path / "met.nc", frame)
    site = weather_site(tmp_path / "met.nc", tmp_path)
    wanted = frame[["tmp_2m", "prate", "dswrf", "aco2"]].to_numpy(dtype=float)
    np.testing.assert_allclose(site.forcing, wanted, rtol=1e-12)


def test_relative_humidity_gives_the_specific_one(tmp_path):
    """Tetens at 283 K and 50 %: vapour pressure is half the saturated one, and q = 0.622 e / (p - 0.378 e)."""
    frame = make_frame().assign(tmp_2m=283.0, relative_humidity=0.5, pressure=1000.0)
    extra = {"relative_humidity": ("relative_humidity", "1", lambda v: v), "pressure": ("surface_air_pressure", "hPa", lambda v: v)}
    write_weather(tmp_path / "met.nc", frame, **extra)
    spec = SurrogateSpec("q", statics=(Variable("a"),), drivers=(Variable("spfh", "kg kg-1"),), outputs=SPEC.outputs)
    write_fluxes(tmp_path / "flux.nc", np.r_[1.0, np.zeros(364)], days())
    site = read(tmp_path / "flux.nc", spec=spec, drivers_path=str(tmp_path / "met.nc"))
    vapour = 0.5 * saturation_vapour_pressure(np.array([283.0]))[0]
    np.testing.assert_allclose(site.forcing[:, 0], 0.622 * vapour / (1e5 - 0.378 * vapour), rtol=1e-3)
    assert any("`vpd` is computed from `tmp_2m` and `relative_humidity`" in note for note in site.notes)


def test_two_variables_of_one_standard_name_are_not_chosen_between(tmp_path):
    frame = make_frame().assign(high=280.0)
    write_weather(tmp_path / "met.nc", frame, high=("air_temperature", "K", lambda v: v))
    with pytest.raises(ForcingError, match="driver 'tmp_2m' is not there"):
        weather_site(tmp_path / "met.nc", tmp_path)


@pytest.mark.parametrize("calendar", ["noleap", "360_day"])
def test_calendars_without_leap_days_are_refused(tmp_path, calendar):
    write_weather(tmp_path / "met.nc", make_frame(), calendar=calendar)
    with pytest.raises(ObservationError, match=f"its calendar is '{calendar}', expected one of standard, gregorian"):
        weather_site(tmp_path / "met.nc", tmp_path)


def steps(path, values, *, since="2020-02-28 00:00", hours=0.5, bounds=None, offset=None, unit="K"):
    """One variable in steps of hours."""
    stamps = np.arange(len(values)) * hours
    about = {"units": f"hours since {since}", "calendar": "gregorian", **({"bounds": "edges"} if bounds else {})}
    variables = {"time": ("time", stamps, about), "x": ("time", np.asarray(values, float), {"units": unit})}
    if bounds:
        variables["edges"] = (("time", "two"), np.stack([stamps + bounds[0], stamps + bounds[1]], axis=1))
    dataset = xr.Dataset(variables, attrs={} if offset is None else {"utc_offset": offset})
    dataset.to_netcdf(path, engine="h5netcdf")
    return NetcdfReader().read(path, DataSettings())


def test_half_hours_are_averaged_as_pandas_does_it_over_a_leap_day(tmp_path):
    values = np.random.default_rng(1).normal(size=48 * 4)
    frame = steps(tmp_path / "a.nc", values)
    times = pd.date_range("2020-02-28", periods=len(values), freq="30min")
    wanted = pd.Series(values, times).resample("D").mean()
    assert frame["date"].tolist() == ["2020-02-28", "2020-02-29", "2020-03-01", "2020-03-02"]
    np.testing.assert_allclose(frame["x"], wanted, rtol=1e-12)
    assert frame.attrs["notes"] == ("a.nc: its 48 time steps a day were put together to days.",)


def test_amounts_are_summed_and_become_a_rate(tmp_path):
    frame = steps(tmp_path / "a.nc", np.full(48, 0.25), unit="mm")
    assert (frame["x"].tolist(), frame.attrs["units"]["x"]) == ([12.0], "mm d-1")


def test_the_clock_is_moved_only_where_the_file_says_so(tmp_path):
    """Hours 0..71 of UTC at +6 h: the first whole local day starts at 18 UTC, so it has the hours 18 to 41."""
    plain = steps(tmp_path / "a.nc", np.arange(72), hours=1.0)
    moved = steps(tmp_path / "b.nc", np.arange(72), hours=1.0, offset=6.0)
    assert plain["x"].tolist() == [11.5, 35.5, 59.5]
    assert (moved["date"].tolist(), moved["x"].tolist()) == (["2020-02-29", "2020-03-01"], [29.5, 53.5])
    assert "in local standard time (UTC +6 h)" in moved.attrs["notes"][0]


def test_stamps_at_the_end_of_a_step_count_by_their_bounds(tmp_path):
    """Stamps 1..24 h with bounds that start an hour earlier are one whole day; by the stamps they would be 23 h of it."""
    frame = steps(tmp_path / "a.nc", np.arange(24), since="2020-02-28 01:00", hours=1.0, bounds=(-1.0, 0.0))
    assert (frame["date"].tolist(), frame["x"].tolist()) == (["2020-02-28"], [11.5])


def test_a_day_with_a_missing_step_has_no_value(tmp_path):
    values = np.ones(24 * 3)
    values[30] = np.nan
    found = steps(tmp_path / "a.nc", values, hours=1.0)["x"]
    assert (found.isna().tolist(), found[1]) == ([False, True, False], 1.0)


@pytest.mark.parametrize(("hours", "count"), [(7.0, 10), (192.0, 4)])
def test_steps_that_make_no_day_are_refused(tmp_path, hours, count):
    with pytest.raises(ObservationError, match=f"its time steps are {hours:g} h, expected days"):
        steps(tmp_path / "a.nc", np.ones(count), hours=hours)


def test_a_grid_is_refused(tmp_path):
    grid = {"time": ("time", [0.0, 1.0], {"units": "days since 2020-01-01"}), "lat": ("lat", [1.0, 2.0])}
    xr.Dataset({**grid, "x": (("time", "lat"), np.ones((2, 2)))}).to_netcdf(tmp_path / "a.nc", engine="h5netcdf")
    with pytest.raises(ObservationError, match="holds 2 places along 'lat', expected one"):
        NetcdfReader().read(tmp_path / "a.nc", DataSettings())


@pytest.mark.parametrize(
    ("content", "message"), [(b"CDF\x01rest", "is classic NetCDF, expected NetCDF-4"), (b"date,nep\n", "is not a NetCDF file")]
)
def test_what_is_no_netcdf_4_is_named(tmp_path, content, message):
    (tmp_path / "a.nc").write_bytes(content)
    with pytest.raises(ObservationError, match=message):
        NetcdfReader().read(tmp_path / "a.nc", DataSettings())


def test_a_file_without_time_is_named(tmp_path):
    xr.Dataset({"x": ("day", [1.0])}).to_netcdf(tmp_path / "a.nc", engine="h5netcdf")
    with pytest.raises(ObservationError, match="has no variable 'time'"):
        NetcdfReader().read(tmp_path / "a.nc", DataSettings())
