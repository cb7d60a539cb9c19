"""The process model: budgets, limits, gradients and what a forest's year must look like."""

from __future__ import annotations

import pytest
import torch

from lit_invert.errors import ShapeError
from lit_invert.process.ensemble import draw_statics
from lit_invert.process.environment import DRIVERS, Environment, read_environment
from lit_invert.process.simcycle import SimCycle, decomposition, initial_state, maintenance, season, simulate, step, trajectory
from lit_invert.process.statics import Statics

CARBON = ("leaf", "reserve", "stem", "root", "litter", "humus")


@pytest.fixture(scope="module")
def members(table):
    return draw_statics(table, 24, near_prior=0.0, seed=3)


@pytest.fixture(scope="module")
def run(members, forcing):
    return trajectory(members, forcing[:, :366], spinup_years=1)


def test_table_lists_the_model_s_parameters_in_its_order(table):
    assert table.names == SimCycle().statics


def test_carbon_pools_change_by_nep_to_rounding(run):
    pools = sum(getattr(run.states, name) for name in CARBON)
    nep = run.fluxes.gpp - run.fluxes.autotrophic - run.fluxes.heterotrophic
    torch.testing.assert_close(pools.diff(dim=1), nep[:, 1:], rtol=0.0, atol=1e-9)


def test_water_stores_change_by_what_enters_and_leaves_to_rounding(run):
    stores = run.states.bucket + run.states.snow
    balance = run.fluxes.precipitation - run.fluxes.evaporation - run.fluxes.runoff
    torch.testing.assert_close(stores.diff(dim=1), balance[:, 1:], rtol=0.0, atol=1e-10)


def test_pools_stay_positive_and_leaves_below_their_ceiling_over_the_whole_box(run, members):
    assert all((pool >= 0.0).all() for pool in run.states)
    p = Statics(*members.unbind(-1))
    leaf_area = 1e-4 * p.sla[:, None] * run.states.leaf / 0.5
    assert (leaf_area <= p.lai_max[:, None]).all()


def test_corners_of_the_box_stay_finite(table, forcing):
    lower, upper = table.bounds.resolve(table.prior)
    corners = torch.where(torch.rand(16, 36, generator=torch.Generator().manual_seed(0)) < 0.5, lower, upper)
    assert torch.isfinite(simulate(corners, forcing[:, :60], spinup_years=1)).all()


def test_outputs_close_the_carbon_balance_exactly(members, forcing, run):
    gpp, npp, nep, rh = simulate(members, forcing[:, :366], spinup_years=1).unbind(-1)
    assert torch.equal(npp, run.fluxes.gpp - run.fluxes.autotrophic)
    assert torch.equal(nep, npp - rh)
    assert torch.equal(gpp, run.fluxes.gpp)


def test_beech_forest_at_the_prior_is_plausible(table, forcing):
    gpp, npp, nep, _ = simulate(table.prior[None], forcing)[0].unbind(-1)
    assert 300.0 < gpp.sum() < 2500.0
    assert 0.3 < npp.sum() / gpp.sum() < 0.7
    assert -600.0 < nep.sum() < 600.0
    assert gpp[150:240].mean() > 5.0 * gpp[:31].mean()


def test_members_do_not_see_each_other(members, forcing):
    together = simulate(members[:3], forcing[:, :40], spinup_years=1)
    alone = simulate(members[1:2], forcing[:, :40], spinup_years=1)
    torch.testing.assert_close(together[1:2], alone, rtol=1e-12, atol=1e-12)


def test_each_member_can_have_its_own_weather(members, forcing):
    warmer = forcing.clone()
    warmer[..., DRIVERS.index("tmp10_soil")] += 5.0
    both = torch.cat([forcing, warmer])[:, :40]
    rh = simulate(members[[0, 0]], both, spinup_years=0)[..., 3]
    assert (rh[1] > 1.2 * rh[0]).all()


def test_spin_up_recycles_the_first_year(members, forcing):
    whole = trajectory(members[:2], forcing[:, :365], spinup_years=1)
    twice = trajectory(members[:2], torch.cat([forcing[:, :365]] * 2, dim=1), spinup_years=0)
    torch.testing.assert_close(whole.states.stem, twice.states.stem[:, 365:], rtol=0.0, atol=0.0)


def test_gradient_agrees_with_central_differences(table, forcing):
    window = forcing[:, 120:180]
    theta = table.prior.clone().requires_grad_()
    simulate(theta[None], window, spinup_years=0)[..., 2].sum().backward()
    for name in ("pmax", "alloc_ass", "rmr_s", "sr_h", "kmh", "gs_b2"):
        i = table.index(name)
        nudge = torch.zeros(36, dtype=torch.float64)
        nudge[i] = 1e-5 * table.prior[i]
        up, down = (simulate((table.prior + s * nudge)[None], window, spinup_years=0)[..., 2].sum() for s in (1, -1))
        assert theta.grad[i].item() == pytest.approx(((up - down) / (2 * nudge[i])).item(), rel=1e-5)


def test_decomposition_is_one_in_a_moist_soil_at_ten_degrees(table):
    p = Statics(*table.prior[None].unbind(-1))
    one = torch.ones(1, dtype=torch.float64)
    torch.testing.assert_close(decomposition(p, 10.0 * one, one), one)


def test_maintenance_at_fifteen_degrees_is_rate_times_carbon(table):
    p = Statics(*table.prior[None].unbind(-1))
    day = Environment(*[torch.tensor([15.0], dtype=torch.float64)] * len(Environment._fields))
    pool = torch.tensor([1000.0], dtype=torch.float64)
    leaf, stem, root = maintenance(p, day, pool, pool, pool)
    # half of a stem of 3000 is sapwood, three quarters of one of 1000
    expected = [p.rmf0, p.rmc_s * 0.75, p.rmr_s]
    for found, wanted in zip((leaf, stem, root), expected, strict=True):
        torch.testing.assert_close(found, wanted)


def test_season_opens_at_the_display_and_closes_at_the_shedding_temperature(table, forcing):
    p = Statics(*table.prior[None].unbind(-1))
    day = Environment(*(values[:, 0] for values in read_environment(forcing)))
    one = torch.ones(1, dtype=torch.float64)
    assert season(p, day._replace(mean_air=p.ctmp_lfdsp, lengthening=one)) == 0.0
    assert season(p, day._replace(mean_air=p.ctmp_lfshd, lengthening=0.0 * one)) == 0.0


def test_a_starving_plant_eats_its_own_tissue(table, forcing):
    """In the dark, respiration comes out of the tissues that respire; the reserve for leaves is not touched by it."""
    p = Statics(*table.prior[None].unbind(-1))
    dark = Environment(*(values[:, 10] for values in read_environment(forcing)))._replace(
        noon_par=torch.zeros(1, dtype=torch.float64), mean_air=torch.full((1,), -10.0, dtype=torch.float64)
    )
    before = initial_state(p)
    after, fluxes = step(p, dark, before)
    assert fluxes.autotrophic > 0.0
    assert after.stem < before.stem * (1.0 - p.lc0)
    assert after.reserve == before.reserve


@pytest.mark.parametrize(
    ("static", "forcing_shape", "message"),
    [
        ((1, 35), (1, 5, 12), r"static parameters of shape \(batch, 36\), found \(1, 35\)"),
        ((1, 36), (1, 5, 11), r"forcing of shape \(batch, time, 12\).*found \(1, 5, 11\)"),
        ((3, 36), (2, 5, 12), "2 members but there are 3 parameter sets"),
    ],
)
def test_wrong_shapes_are_named(static, forcing_shape, message):
    with pytest.raises(ShapeError, match=message):
        simulate(torch.ones(static), torch.ones(forcing_shape))
