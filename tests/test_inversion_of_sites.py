"""Many sites in one batch: each gets what it gets alone."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from lit_invert.assembly import Record, build_problem
from lit_invert.errors import ConfigError, ShapeError
from lit_invert.inversion import invert_sites
from lit_invert.many.batches import plan_batches
from lit_invert.observations import Observations
from lit_invert.parameters import parse_parameter_table
from lit_invert.results import InversionStatus
from lit_invert.settings import InversionSettings
from lit_invert.surrogates.base import FrozenSurrogate, SurrogateSpec, Variable
from lit_invert.surrogates.lstm import LSTMSurrogate

OUTPUTS = ("gpp", "npp", "nep", "rh")
NAMES = ("a", "b", "c", "d", "e", "f")
SETTINGS = {"solver": "levenberg_marquardt", "lambda_prior": 0.01, "max_iters": 60}
TRAINER = {"accelerator": "cpu", "enable_progress_bar": False}


@pytest.fixture(scope="module")
def surrogate():
    torch.manual_seed(3)
    network = LSTMSurrogate(len(NAMES), 5, hidden_size=16)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.mul_(2.0)  # untrained networks hardly know their inputs
    statics, drivers = (tuple(Variable(name) for name in names) for names in (NAMES, "pqrst"))
    return FrozenSurrogate(network, SurrogateSpec("random", statics, drivers, tuple(Variable(n, "gC m-2 d-1") for n in OUTPUTS)))


@pytest.fixture(scope="module")
def table():
    return parse_parameter_table(["name,prior,prior_sd,min,max", *(f"{name},0,0.5,-2,2" for name in NAMES)])


def make_record(surrogate, days, seed):
    random = np.random.default_rng(seed)
    season = np.sin(2 * np.pi * (np.arange(days)[:, None] + random.uniform(0, 365, 5)) / 365)
    forcing = torch.as_tensor(season + 0.5 * random.normal(size=(days, 5))).float()
    truth = torch.as_tensor(random.normal(0, 0.4, (1, len(NAMES)))).float()
    with torch.no_grad():
        fluxes = surrogate(truth, surrogate.prepare(forcing[None]))[0].double().numpy()
    observed = fluxes + random.normal(0, 0.2 * fluxes.std(), fluxes.shape)
    mask = random.random((days, 4)) < 0.7
    dates = np.datetime64("2001-01-01") + np.arange(days)
    whole = Observations(dates, OUTPUTS, observed, mask)
    is_select = np.arange(days) // 14 % 5 == 0
    return Record(forcing, whole.only(~is_select), whole.only(is_select))


def fit(surrogate, table, records, **changes):
    return invert_sites(surrogate, table, records, InversionSettings(**{**SETTINGS, **changes}), trainer=TRAINER)


@pytest.mark.parametrize("kernel", ["none", "auto"])
def test_fifty_sites_of_random_lengths_get_what_they_get_alone(surrogate, table, kernel):
    lengths = np.random.default_rng(1).integers(366, 1100, 50).tolist()
    records = [make_record(surrogate, days, seed) for seed, days in enumerate(lengths)]
    together = {}
    for batch in plan_batches(lengths, 16, 1e9, lambda shortest, longest: True):
        together |= dict(zip(batch, fit(surrogate, table, [records[i] for i in batch], kernel=kernel), strict=True))
    for i, record in enumerate(records):
        (alone,) = fit(surrogate, table, [record], kernel=kernel)
        found = together[i]
        assert len(found.simulated_optimum) == lengths[i]
        assert found.loss_optimum["loss/total"] == pytest.approx(alone.loss_optimum["loss/total"], rel=2e-4)
        torch.testing.assert_close(found.optimum, alone.optimum, rtol=0, atol=2e-3)
        np.testing.assert_allclose(found.simulated_prior, alone.simulated_prior, atol=1e-5)


def test_a_hard_neighbour_does_not_end_an_easy_sites_fit_early(surrogate, table):
    easy, hard = make_record(surrogate, 400, 1), make_record(surrogate, 400, 2)
    (alone,) = fit(surrogate, table, [easy])
    both = fit(surrogate, table, [easy, hard], max_iters=alone.iterations)
    assert both[0].status is alone.status is InversionStatus.CONVERGED
    assert both[0].iterations == alone.iterations
    assert len(both[0].history) == alone.iterations


def test_a_member_that_has_finished_is_not_simulated_again(surrogate, table, monkeypatch):
    from lit_invert.problem import InversionProblem

    records = [make_record(surrogate, 400, seed) for seed in range(6)]
    counts = []
    original = InversionProblem.push

    def count(self, theta, members=None):
        counts.append(len(theta))
        return original(self, theta, members)

    monkeypatch.setattr(InversionProblem, "push", count)
    results = fit(surrogate, table, records, coarse_start=False)
    assert counts[0] == 6
    assert counts == sorted(counts, reverse=True)
    assert sum(counts) <= sum(result.iterations for result in results)


def test_sites_with_and_without_select_days_do_not_share_a_batch(surrogate, table):
    with_select, without = make_record(surrogate, 400, 1), make_record(surrogate, 400, 2)
    with pytest.raises(ConfigError, match="1 of 2 sites have `select` days"):
        fit(surrogate, table, [with_select, Record(without.forcing, without.fit)])


def test_a_record_whose_weather_has_another_length_is_named(surrogate, table):
    record = make_record(surrogate, 400, 1)
    with pytest.raises(ShapeError, match="forcing has 399 days, expected the 400 days of the observations"):
        fit(surrogate, table, [Record(record.forcing[:-1], record.fit, record.select)])


def test_adam_leaves_a_diverged_member_where_it_was_and_goes_on_with_the_others(surrogate, table):
    from lit_invert.losses import LossTerm

    class Cliff(LossTerm):
        name = "cliff"
        seen = 0

        def forward(self, evaluation):
            Cliff.seen += 1
            total = 0.0 * evaluation.scaled.sum(-1)
            return torch.where((torch.arange(2) == 1) & (Cliff.seen > 8), torch.nan, total)

    records = [make_record(surrogate, 400, seed) for seed in (1, 2)]
    settings = InversionSettings(solver="adam", max_iters=40, lr=0.05, lambda_prior=0.01)
    first, second = invert_sites(surrogate, table, records, settings, terms=[Cliff()], trainer=TRAINER)
    assert second.status is InversionStatus.DIVERGED
    assert "loss term 'cliff' was not finite at iteration" in second.message
    assert first.status is InversionStatus.STEP_LIMIT
    assert first.best_iteration > 20
    assert bool(torch.isfinite(second.optimum).all())
    assert len(second.history) == second.iterations < 12
    assert second.best_iteration <= second.iterations


def test_a_term_can_tell_sites_apart_whichever_members_a_solver_asks_for(surrogate, table):
    records = [replace(make_record(surrogate, 60, seed), site=name) for seed, name in enumerate("xyz")]
    problem = build_problem(surrogate, table, records, InversionSettings(**SETTINGS))
    theta = problem.space.to_theta(problem.space.priors).expand(3, -1)
    assert problem.evaluate(theta).sites == ("x", "y", "z")
    assert problem.evaluate(theta[:2], torch.tensor([2, 0])).sites == ("z", "x")
    alone = build_problem(surrogate, table, records[:1], InversionSettings(**SETTINGS))
    assert alone.evaluate(theta, torch.tensor([0, 0, 0])).sites == ("x",)  # three starts of one site
