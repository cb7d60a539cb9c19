from __future__ import annotations

import copy
import gc
import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import lit_invert
from lit_invert.errors import ConfigError
from lit_invert.forcing import DriverSettings
from lit_invert.observations import QualityRule
from lit_invert.sites import DataSettings, SplitSettings, read_site
from tests.tower import NEP, READERS, SPEC, make_frame, read

SHIPPED = Path(lit_invert.__file__).parent / "assets" / "sites"


@pytest.fixture
def split_site(tmp_path):
    return read(make_frame(), tmp_path, split=SplitSettings())


def reachable(root):
    """Return every object that can be reached from one, through attributes, containers, closures and array bases."""
    found, todo = {}, [root]
    while todo:
        thing = todo.pop()
        if id(thing) in found or isinstance(thing, type) or type(thing).__name__ == "module":
            continue
        found[id(thing)] = thing
        todo += gc.get_referents(thing)
        if isinstance(thing, np.ndarray) and thing.base is not None:
            todo.append(thing.base)
    return found.values()


def test_nothing_reachable_from_a_site_holds_a_test_value(split_site):
    site, sealed = split_site
    test = sealed.open()
    secret = test.values[test.mask]
    assert len(secret) > 30
    for thing in reachable(site):
        if isinstance(thing, np.ndarray) and thing.dtype == np.float64:
            assert not np.isin(thing, secret).any()
        assert not (isinstance(thing, float) and thing in secret)


def test_the_walk_would_find_a_leak(split_site):
    site, sealed = split_site
    test = sealed.open()
    leaky = replace(site, notes=({"hidden": [test]},))
    assert any(isinstance(thing, np.ndarray) and thing is test.values for thing in reachable(leaky))


def test_the_three_roles_share_out_the_observed_days(split_site):
    site, sealed = split_site
    masks = {"fit": site.fit.mask, "select": site.select.mask, "test": sealed.open().mask}
    for role, mask in masks.items():
        assert (mask[:, NEP] == (site.roles == role)).all()
    assert sum(mask.sum() for mask in masks.values()) == np.isin(site.roles, list(masks)).sum()


def test_test_days_open_once(split_site):
    _, sealed = split_site
    assert np.isfinite(sealed.open().values[:, NEP]).sum() > 30
    with pytest.raises(RuntimeError, match="opened before"):
        sealed.open()


@pytest.mark.parametrize("escape", [copy.copy, copy.deepcopy, pickle.dumps])
def test_sealed_days_are_neither_copied_nor_pickled_nor_shown(split_site, escape):
    _, sealed = split_site
    with pytest.raises(TypeError, match="cannot be copied or pickled"):
        escape(sealed)
    assert repr(sealed) == "SealedObservations(...)"


def test_without_a_split_nothing_is_selected_or_tested(tmp_path):
    site, sealed = read(make_frame(), tmp_path)
    assert site.select is None
    assert not sealed.open().mask.any()


def test_the_warm_up_of_the_surrogate_is_unused(tmp_path):
    site, _ = read(make_frame(), tmp_path, spec=replace(SPEC, warmup_days=60))
    assert (site.roles[:60] == "unused").all()
    assert np.isnan(site.fit.values[:60]).all()


def test_observations_with_gaps_beside_complete_weather(tmp_path):
    frame = make_frame()
    weather = tmp_path / "weather.csv"
    frame.drop(columns="nep").to_csv(weather, index=False)
    tower = frame[["date", "nep"]].drop(index=range(50, 60))
    tower.loc[len(frame)] = ["2016-01-01", 1.0]
    site, _ = read(tower, tmp_path, drivers_path=weather)
    assert np.flatnonzero(~site.fit.mask[:, NEP]).tolist() == list(range(50, 60))
    assert site.fit.values[60, NEP] == pytest.approx(frame["nep"][60])
    assert site.notes == ("tower.csv: 1 days outside the period of the forcing were left out.",)


def test_a_fluxnet_file_needs_path_and_latitude_alone(tmp_path):
    ours = make_frame()
    fluxnet = ours[[]].assign(
        TIMESTAMP=ours["date"].str.replace("-", ""),
        TA_F=ours["tmp_2m"] - 273.15,
        SW_IN_F=ours["dswrf"],
        VPD_F=4.0,
        PA_F=98.0,
        P_F=ours["prate"] * 86_400,
        WS_F=ours["wind"],
        TS_F_MDS_1=ours["tmp10_soil"] - 273.15,
        CO2_F_MDS=-9999,
        NEE_VUT_REF=-ours["nep"],
        NEE_VUT_REF_QC=0.9,
    )
    fluxnet.loc[7, "NEE_VUT_REF_QC"] = 0.5
    site, _ = read(fluxnet, tmp_path)
    assert site.name == "tower"
    measured = ours["nep"].where(ours.index != 7)
    assert site.fit.values[:, NEP] == pytest.approx(measured.to_numpy(), nan_ok=True)
    assert np.flatnonzero(~site.fit.mask[:, NEP]).tolist() == [7]
    for name in ("tmp_2m", "tmp10_soil", "prate"):
        assert site.forcing[:, site.drivers.index(name)] == pytest.approx(ours[name].to_numpy())
    assert "CO2_F_MDS lacks 365 days and was not used for `aco2`." in site.notes
    assert any("NEE_VUT_REF_QC below 0.8" in note for note in site.notes)


def test_a_unit_in_the_config_overrules_the_one_of_fluxnet(tmp_path):
    frame = make_frame()
    frame["TA_F"] = frame.pop("tmp_2m")
    site, _ = read(frame, tmp_path, drivers={"tmp_2m": DriverSettings(unit="K")})
    assert site.forcing[:, site.drivers.index("tmp_2m")] == pytest.approx(frame["TA_F"].to_numpy())


def test_a_latitude_off_the_earth_is_an_error(tmp_path):
    with pytest.raises(ConfigError, match=r"`data\.latitude` is 148\.0, expected degrees north"):
        read(make_frame(), tmp_path, latitude=148.0)


@pytest.mark.parametrize(
    ("name", "latitude", "quality", "observed"),
    [
        ("FR-Hes_2016", 48.67, QualityRule("n_nee_ssitc01", minimum=24), 336),
        ("US-AR1_2009-2012", 36.43, QualityRule("nee_qc", minimum=0.75), 1190),
    ],
)
def test_shipped_sites_are_complete(name, latitude, quality, observed):
    site, sealed = read_site(DataSettings(SHIPPED / f"{name}.csv", latitude, quality=quality), SPEC, READERS)
    assert site.notes == ()
    assert np.isfinite(site.forcing).all()
    roles = dict(zip(*np.unique(site.roles, return_counts=True), strict=True))
    assert len(site.dates) - roles["unused"] == observed
    assert sealed.open().mask.sum() == roles["test"] > 50
