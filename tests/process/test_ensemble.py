"""The ensemble: inside the box, around the prior, reproducible, and blind to held-out years."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from lit_invert.errors import ConfigError
from lit_invert.process.ensemble import EnsembleSettings, WeatherSite, build_ensembles, draw_statics, run_members
from lit_invert.process.simcycle import simulate

from .conftest import ASSETS


@pytest.fixture
def settings(tmp_path):
    return EnsembleSettings(
        sites=[
            WeatherSite(str(ASSETS / "sites" / "FR-Hes_2016.csv"), 48.67),
            WeatherSite(str(ASSETS / "sites" / "US-AR1_2009-2012.csv"), 36.43, [2012]),
        ],
        parameters=str(ASSETS / "parameters" / "simcycle_36.csv"),
        members=4,
        held_out_members=2,
        days=20,
        cache=str(tmp_path),
    )


def test_sobol_members_fill_the_box_evenly_in_each_parameter_s_scale(table):
    drawn = draw_statics(table, 256, near_prior=0.0, seed=0)
    lower, upper = table.bounds.resolve(table.prior)
    logged = torch.where(table.log, drawn.log(), drawn)
    low, high = (torch.where(table.log, side.clamp(min=1e-300).log(), side) for side in (lower, upper))
    even = (logged - low) / (high - low)
    # each sixteenth of each axis holds exactly its share of a scrambled Sobol sequence
    counts = torch.stack([torch.histc(even[:, i], 16, 0.0, 1.0) for i in range(36)])
    assert torch.equal(counts, torch.full_like(counts, 16.0))


def test_members_near_the_prior_are_normal_around_it(table):
    drawn = draw_statics(table, 1024, near_prior=1.0, seed=0)
    i = table.index("topt")  # nearly symmetric in its box, so truncation moves the median little
    assert drawn[:, i].median().item() == pytest.approx(table.prior[i].item(), abs=0.3)
    middle = ((drawn[:, i] - table.prior[i]).abs() < table.prior_sd[i]).double().mean().item()
    assert middle == pytest.approx(0.683 / 0.954, abs=0.03)  # one sd within a box of two


def test_near_prior_is_a_share_of_the_members(table):
    mixed = draw_statics(table, 100, near_prior=0.3, seed=0)
    wide = draw_statics(table, 100, near_prior=0.0, seed=0)
    assert ((mixed == wide).all(1)).sum().item() == 70


def test_members_are_inside_their_bounds(table):
    drawn = draw_statics(table, 128, near_prior=0.5, seed=1)
    assert torch.equal(table.bounds.clip(drawn), drawn)


def test_chunks_do_not_change_members(table, hesse, monkeypatch):
    static = draw_statics(table, 3, near_prior=0.0, seed=0)
    weather = [hesse.forcing()[:20]] * 3
    whole = run_members(static, weather)
    monkeypatch.setattr("lit_invert.process.ensemble.CHUNK", 2)
    torch.testing.assert_close(run_members(static, weather).simulated, whole.simulated, rtol=1e-6, atol=1e-6)
    expected = simulate(static[1:2], torch.from_numpy(hesse.forcing()[:20].astype(np.float32))[None])
    torch.testing.assert_close(whole.simulated[1:2].double(), expected, rtol=1e-5, atol=1e-5)


def test_the_same_settings_give_the_same_ensemble_from_the_cache_and_anew(settings, tmp_path):
    first = build_ensembles(settings)
    cached = build_ensembles(settings)
    assert len(list(tmp_path.glob("*.safetensors"))) == 1
    settings.cache = str(tmp_path / "elsewhere")
    anew = build_ensembles(settings)
    for part in ("training", "members", "years"):
        for name in ("static", "forcing", "simulated"):
            tensors = [getattr(getattr(e, part), name) for e in (first, cached, anew)]
            assert torch.equal(tensors[0], tensors[1])
            assert torch.equal(tensors[0], tensors[2])


def test_held_out_years_are_run_as_measured_with_held_out_members(settings, woodward):
    ensembles = build_ensembles(settings)
    assert torch.equal(ensembles.years.static, ensembles.members.static)
    measured = torch.from_numpy(woodward.only([2012]).forcing()[:365].astype(np.float32))
    assert torch.equal(ensembles.years.forcing[0], measured)


def test_a_site_without_a_year_to_train_on_is_an_error(settings):
    settings.sites[1].held_out_years = [2009, 2010, 2011, 2012]
    with pytest.raises(ConfigError, match=r"every year of .*US-AR1.* is held out"):
        build_ensembles(settings)


def test_no_members_is_an_error(settings):
    settings.members = 0
    with pytest.raises(ConfigError, match=r"`ensemble\.members` is 0, expected 1 or more"):
        build_ensembles(settings)
