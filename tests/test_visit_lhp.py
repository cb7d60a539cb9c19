"""The case of VISIT at Lambir Hills: what is shipped, what stands behind it, and its inversion from the command line."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from lit_invert import solar
from lit_invert.cli import main
from lit_invert.parameters import load_parameter_table
from lit_invert.process import simulate as simulate_simcycle
from lit_invert.process.environment import DRIVERS, Environment, read_environment
from lit_invert.process.simcycle import State
from lit_invert.process.weather import MEASURED
from lit_invert.surrogates.base import file_hash
from lit_invert.surrogates.loaders import LOADERS, load_surrogate
from lit_invert.surrogates.windows import Windows
from lit_invert.trust import Trust
from tools import visit_lhp
from tools.train_visit_lhp import HELD_OUT, TWIN_NOISE, judge, run_members, twin_parameters, write_twin

ROOT = Path(__file__).parents[1]
ASSETS = ROOT / "lit_invert" / "assets" / "visit_lhp"
TABLE = load_parameter_table(ROOT / "lit_invert" / "assets" / "parameters" / "visit_lhp_36.csv")


@pytest.fixture(scope="module")
def surrogate():
    return load_surrogate(ASSETS / "spec.json", {loader.name: loader for loader in LOADERS}, Trust())


def named(static):
    return dict(zip(TABLE.names, static.unbind(1), strict=True))


def prior(members=1):
    return TABLE.prior[None].repeat(members, 1)


def test_the_config_inverts_the_twin_in_its_own_units(tmp_path):
    assert main(["fit", "--config", str(ROOT / "configs" / "visit_lhp.yaml"), "--logs", str(tmp_path)]) == 0
    folder = tmp_path / "visit_lhp" / "version_0"
    metrics = json.loads((folder / "metrics.json").read_text())
    assert all(metrics["roles"][role]["nep"]["rmse_change_percent"] < -40 for role in ("fit", "select", "test"))
    assert metrics["message"].count("levenberg_marquardt was chosen") == 1
    optimum = pd.read_csv(folder / "parameters.csv", index_col="name")["optimum"]
    for plant in ("tree", "c3"):
        assert 0.01 <= optimum[f"{plant}_alloc_ass"] <= optimum[f"{plant}_alloc_abg"] <= 0.9
    fluxes, tower = pd.read_csv(folder / "fluxes.csv"), pd.read_csv(ASSETS / "twin_tower.csv")
    assert fluxes["role"][:180].unique().tolist() == ["unused"]
    seen = fluxes["nep_mask"] & (fluxes["role"] != "unused")
    assert fluxes["nep_observed"][seen].to_numpy() == pytest.approx(100 * tower["twin_nep"][seen].to_numpy(), rel=1e-5)


def test_what_is_shipped_is_small_and_fits_together(surrogate):
    spec = surrogate.spec
    assert spec.windows == Windows(180, 30)
    assert spec.warmup_days == 180
    assert tuple(v.name for v in spec.statics) == TABLE.names
    assert {v.unit for v in spec.outputs} == {"MgC ha-1 d-1"}
    assert spec.sha256 == file_hash(ASSETS / "weights.safetensors")
    assert (ASSETS / "weights.safetensors").stat().st_size < 400_000
    assert (ASSETS / "twin_tower.csv").stat().st_size < 250_000


def test_the_network_knows_the_twin(surrogate):
    """At the twin's own parameters its errors are the noise of the observations and the network's, no more."""
    tower = pd.read_csv(ASSETS / "twin_tower.csv")
    dates = visit_lhp.FIRST_DAY + np.arange(len(tower))
    sun = np.stack([solar.day_length(dates, visit_lhp.LATITUDE), solar.sun_noon(dates, visit_lhp.LATITUDE)], axis=1)
    forcing = torch.from_numpy(np.concatenate([tower[list(MEASURED)], sun], axis=1)).float()[None]
    static = surrogate.static_scaler.to_scaled(twin_parameters(TABLE).float())[None]
    nep = surrogate(static, surrogate.prepare(forcing))[0, :, 2].numpy()
    error = (nep - 100 * tower["twin_nep"])[180:].dropna()
    noise = TWIN_NOISE[0] + TWIN_NOISE[1] * np.abs(nep[error.index])
    assert np.sqrt((error**2).mean()) < 1.1 * np.sqrt((noise**2).mean() + surrogate.spec.accuracy["nep"] ** 2)


@pytest.mark.slow
def test_the_spec_states_what_its_tool_measures(surrogate):
    scores = judge(surrogate, run_members(TABLE, HELD_OUT, seed=1))
    assert {flux: values["rmse"] for flux, values in scores.items()} == pytest.approx(surrogate.spec.accuracy, rel=1e-2)


def test_trees_alone_are_simcycle(monkeypatch):
    """Below the trees nothing grows and nothing rots, so both canopies together are the trees."""
    monkeypatch.setattr(visit_lhp, "UNDERSTOREY", visit_lhp.UNDERSTOREY | {"lai_max": 1e-6, "c_h0": 0.0})
    monkeypatch.setattr(visit_lhp, "UNDERSTOREY_SHARE", 1e-9)
    forcing = visit_lhp.draw_weather(1, 60, np.random.default_rng(0))
    tree, _ = visit_lhp.to_simcycle(named(prior()))
    alone = simulate_simcycle(torch.stack(list(tree), dim=1), forcing, spinup_years=visit_lhp.SPINUP_YEARS)
    torch.testing.assert_close(visit_lhp.simulate(named(prior()), forcing), alone, rtol=0, atol=1e-4)


def test_the_shade_is_that_of_the_leaves_above():
    forcing = visit_lhp.draw_weather(1, 1, np.random.default_rng(0)).double()
    day = Environment(*(values[:, 0] for values in read_environment(forcing)))
    tree, _ = visit_lhp.to_simcycle(named(prior()))
    leaves = State(*[torch.full((1,), 100.0, dtype=torch.float64)] * 8)  # 100 gC m-2 at 170 cm2 g-1: 3.4 m2 m-2
    left = np.exp(-0.5 / day.light_path.item() * 3.4)
    below = visit_lhp.shaded(day, tree, leaves)
    assert below.noon_par.item() == pytest.approx(left * day.noon_par.item(), rel=1e-12)
    assert below.net_radiation.item() == pytest.approx(left * day.net_radiation.item(), rel=1e-12)
    assert below.air.item() == day.air.item()


def test_shares_of_growth_are_translated():
    tree, below = visit_lhp.to_simcycle(named(prior()))
    leaf, aboveground = (TABLE.prior[TABLE.names.index(f"tree_alloc_{part}")].item() for part in ("ass", "abg"))
    stem = (1 - tree.alloc_ass) * tree.alloc_abg
    assert tree.alloc_ass.item() == leaf
    assert (leaf + stem).item() == pytest.approx(aboveground, rel=1e-12)
    assert tree.sr_l.item() == below.sr_l.item() == pytest.approx(0.4 * 1.5 + 0.3 * 0.5 + 0.3 * 1.2, rel=1e-12)


def test_weather_is_that_of_a_rain_forest():
    weather = visit_lhp.draw_weather(40, 730, np.random.default_rng(1)).double()
    drivers = dict(zip(DRIVERS, weather.unbind(-1), strict=True))
    assert 25 < drivers["tmp_2m"].mean() - 273.15 < 27.5
    assert 2200 < drivers["prate"].mean() * 86_400 * 365 < 3000
    assert 170 < drivers["dswrf"].mean() < 210
    assert 0 < drivers["tcdc"].min() <= drivers["tcdc"].max() <= 100


@pytest.mark.slow
def test_the_twin_is_made_again_by_its_tool(tmp_path):
    write_twin(tmp_path / "twin.csv", TABLE)
    again, shipped = pd.read_csv(tmp_path / "twin.csv"), pd.read_csv(ASSETS / "twin_tower.csv")
    pd.testing.assert_frame_equal(again, shipped, rtol=1e-4)
