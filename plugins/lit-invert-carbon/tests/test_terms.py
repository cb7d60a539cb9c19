"""Each term is zero where carbon behaves, has the stated price where it does not, and keeps lit-invert's contract."""

from __future__ import annotations

from dataclasses import replace
from importlib.resources import files

import lit_invert_carbon
import pytest
import torch
from lit_invert_carbon import CarbonBalance, CarbonUseEfficiency, SeasonalPlausibility, TurnoverOrder

from lit_invert import LitInvertError, load_parameter_table
from lit_invert.plugins import PluginInfo, build_registry
from lit_invert.testing import check_loss_term, toy_problem

RATES = ("sr_l", "sr_h", "lf0", "lc0", "lr0")


def _fluxes(gpp, npp, nep, rh):
    """Return an evaluation of one member whose fluxes are given day by day."""
    days = torch.tensor([gpp, npp, nep, rh], dtype=torch.float64).T[None]
    evaluation = toy_problem(n_days=days.shape[1]).evaluate(torch.zeros(1, 3, dtype=torch.float64))
    return replace(evaluation, simulated=days)


def _rates(**rates):
    problem = toy_problem(n_days=2, names=RATES)
    evaluation = problem.evaluate(torch.zeros(1, 5, dtype=torch.float64))
    return replace(evaluation, physical=torch.tensor([[rates[name] for name in RATES]], dtype=torch.float64))


@pytest.mark.parametrize("term", [CarbonBalance(), CarbonUseEfficiency(), CarbonUseEfficiency(0.55, 0.6), SeasonalPlausibility()])
def test_contract(term):
    check_loss_term(term)


def test_contract_of_the_seasons_where_they_cost():
    check_loss_term(SeasonalPlausibility(gpp_share=0.95, rh_share=0.95))


def test_contract_of_turnover():
    check_loss_term(TurnoverOrder(per_day={}), toy_problem(n_days=4, names=RATES))


def test_a_closed_budget_is_free():
    assert CarbonBalance()(_fluxes([4, 0], [2, 0], [1.5, -0.5], [0.5, 0.5])).item() == 0


def test_a_gap_in_the_budget_costs_its_square():
    assert CarbonBalance()(_fluxes([4, 4], [2, 2], [1.8, 1.5], [0.5, 0.5])).item() == pytest.approx(0.3**2 / 2, rel=1e-12)


def test_more_npp_than_gpp_costs_its_square():
    assert CarbonBalance()(_fluxes([1, 4], [3, 2], [3, 2], [0, 0])).item() == pytest.approx(2**2 / 2, rel=1e-12)


@pytest.mark.parametrize(
    ("gpp", "npp", "price"),
    [([10, 0], [3, 0], 0.0), ([10, 0], [7, 0], 0.0), ([10, 10], [2, 2], 1.0), ([10, 0], [9, 0], 1.0), ([0, 0], [0, 0], 0.0)],
)
def test_efficiency_of_the_whole_run(gpp, npp, price):
    term = CarbonUseEfficiency(0.3, 0.7)
    assert term(_fluxes(gpp, npp, [0, 0], [0, 0])).item() == pytest.approx(price, rel=1e-12, abs=1e-30)


def test_the_range_must_be_a_range():
    with pytest.raises(LitInvertError, match=r"low is 0\.7 and high is 0\.3"):
        CarbonUseEfficiency(0.7, 0.3)


def test_a_season_costs_only_when_it_is_reversed():
    in_season = toy_problem(n_days=40).evaluate(torch.zeros(1, 3, dtype=torch.float64))
    reversed_year = replace(in_season, simulated=in_season.simulated.roll(20, dims=1))
    term = SeasonalPlausibility()
    assert term(in_season).item() == 0
    assert term(reversed_year).item() > 0.1
    assert SeasonalPlausibility(gpp_share=0, rh_share=0)(reversed_year).item() == 0


def test_a_season_has_the_price_of_what_it_lacks():
    evaluation = _fluxes([4, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0])
    light = torch.tensor([1.0, 2.0, 3.0, 4.0], dtype=torch.float64)[None, :, None].expand(1, 4, 3)
    assert SeasonalPlausibility()(replace(evaluation, forcing=light)).item() == (0.5 * 1) ** 2


def test_turnover_in_order_is_free_and_units_are_converted():
    assert TurnoverOrder()(_rates(sr_l=1.5, sr_h=0.1, lf0=6e-4, lc0=9.5e-5, lr0=5e-4)).item() == 0
    # humus at 1 permil a day is 1e-3 a day, twice as fast as the roots
    price = TurnoverOrder()(_rates(sr_l=1.5, sr_h=1.0, lf0=6e-4, lc0=9.5e-5, lr0=5e-4)).item()
    assert price == pytest.approx(0.6931471805599453**2, rel=1e-9)


def test_other_names_may_be_given():
    term = TurnoverOrder(orders=[("lr0", "lf0")], per_day={"lr0": 0.5})
    assert term(_rates(sr_l=1, sr_h=1, lf0=2, lc0=1, lr0=1)).item() == pytest.approx(1.3862943611198906**2, rel=1e-9)


def test_an_unknown_rate_is_answered_with_the_known_ones():
    with pytest.raises(LitInvertError, match=r"'lf' is not a known static parameter\. Did you mean 'lf0'\?"):
        TurnoverOrder(orders=[("lf", "lc0")])(_rates(**dict.fromkeys(RATES, 1.0)))


def test_the_priors_of_the_shipped_table_cost_nothing():
    table = load_parameter_table(str(files("lit_invert") / "assets" / "parameters" / "simcycle_36.csv"))
    problem = toy_problem(n_days=2, names=table.names)
    evaluation = replace(problem.evaluate(torch.zeros(1, 36, dtype=torch.float64)), physical=table.prior[None])
    assert TurnoverOrder()(evaluation).item() == 0


def test_all_is_registered_under_the_plugins_name():
    registry = build_registry([PluginInfo("carbon", lit_invert_carbon, "lit-invert-carbon", "0.1.0")])
    assert {"carbon_balance", "carbon_use_efficiency", "seasonal_plausibility", "turnover_order"} <= set(registry.loss_terms)
    assert "carbon-budget" in registry.commands
    assert "Carbon-use efficiency" in registry.report_sections
    assert list(registry.config_sections) == ["carbon"]
    assert registry.owner(CarbonBalance).label == "lit-invert-carbon 0.1.0"
