"""Directions are those of finite differences; estimates stay under another scale, and move where there are two answers."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch
from lit_invert_invariance.directions import Directions, derivatives_hold, find_directions, residual_variance
from lit_invert_invariance.estimates import find_invertible, try_estimates
from lit_invert_invariance.fitting import MORE_STARTS, STARTS, Best, draw_starts, find_misfit, fit_best, fit_members
from lit_invert_invariance.runs import cut_runs, draw_masks, spread_evenly
from lit_invert_invariance.settings import InvarianceSettings
from lit_invert_invariance.units import rescalings_of, summarize
from lit_invert_invariance.windows import cut_windows
from sound import CutsAGradient, Sound, sound_problem
from torch import nn

from lit_invert import FrozenSurrogate
from lit_invert.losses import Misfit, Prior
from lit_invert.parameters import ParameterSpace
from lit_invert.posterior.target import to_units
from lit_invert.testing import toy_problem, toy_truth
from lit_invert.transforms import ScaledTransform, SigmoidTransform

NEP = 2
POINT = torch.tensor([[2.1, 1.6, 2.3]], dtype=torch.float64)


class TwoAnswers(nn.Module):
    """NEP knows the square of the parameters alone, so that plus and minus are as good as one another."""

    def forward(self, static, forcing):
        season = forcing[..., 2:].cos()
        return (3 * static.square().sum(-1)[:, None, None] * season + forcing[..., :1]).expand(-1, -1, 4)


class NoNep(Sound):
    def forward(self, static, forcing):
        return super().forward(static, forcing) * torch.tensor([1.0, 1.0, torch.nan, 1.0])


class NoRh(Sound):
    def forward(self, static, forcing):
        return super().forward(static, forcing) * torch.tensor([1.0, 1.0, 1.0, torch.nan])


class LosesOneDay(Sound):
    day = 36

    def forward(self, static, forcing):
        is_lost = (torch.arange(forcing.shape[1]) == self.day)[:, None]
        return torch.where(is_lost, torch.nan, super().forward(static, forcing))


class Kinks(nn.Module):
    """A network of rectifiers with random weights."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(7, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 4))

    def forward(self, static, forcing):
        days = static[:, None].expand(-1, forcing.shape[1], -1)
        return self.layers(torch.cat([days, forcing.expand(len(static), -1, -1)], dim=-1))


def noisy_problem(transform=ScaledTransform, days=90):
    problem = toy_problem(n_days=days, transform=transform, terms=[Misfit(), Prior(weight=0.01)])
    noise = 0.5 * torch.randn(problem.observed.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return problem.variant(observed=problem.observed + noise)


def eigenvalues_by_differences(problem, physical):
    """Return eigenvalues of the Fisher information of NEP from central differences, with numpy alone."""
    space, size = problem.space, 1e-5
    scaled = space.scaler.to_scaled(physical)

    def residuals(u):
        theta = space.to_theta(space.scaler.to_physical(u * space.prior_sd_scaled))
        return (problem.simulate(theta) - problem.observed)[0, problem.mask[0, :, NEP], NEP].numpy()

    u = scaled / space.prior_sd_scaled
    steps = size * torch.eye(3, dtype=torch.float64)
    jacobian = np.stack([(residuals(u + step) - residuals(u - step)) / (2 * size) for step in steps], axis=1)
    r = residuals(u)
    rho = np.clip((r[1:] * r[:-1]).mean() / np.square(r).mean(), 0, 0.9)
    variance = max(np.square(r).mean() * (1 + rho) / (1 - rho), 0.2**2)
    return np.linalg.eigvalsh(jacobian.T @ jacobian / variance)


@pytest.mark.parametrize("transform", [ScaledTransform, SigmoidTransform])
def test_directions_are_those_of_finite_differences(transform):
    problem = noisy_problem(transform)
    directions = find_directions(problem, Misfit(), problem.space.to_theta(POINT))
    expected = eigenvalues_by_differences(problem, POINT)
    np.testing.assert_allclose(directions.eigenvalues[0].numpy(), expected, rtol=1e-6)
    assert expected[0] < 1 < expected[1]


def test_the_variance_counts_days_that_resemble_each_other_less():
    random = np.random.default_rng(0)
    series = [random.normal()]
    for _ in range(20_000):
        series.append(0.6 * series[-1] + random.normal())
    residuals = torch.tensor(np.array([series])) / len(series) ** 0.5
    assert residual_variance(residuals).item() == pytest.approx(1 / (1 - 0.36) * 1.6 / 0.4, rel=0.05)


def test_the_variance_has_a_floor():
    assert residual_variance(torch.zeros(1, 5, dtype=torch.float64)).tolist() == [pytest.approx(0.04)]


def test_a_distance_is_counted_in_posterior_standard_deviations_where_the_data_say_something():
    directions = Directions(torch.eye(3).double()[None], torch.tensor([[0.5, 3.0, 99.0]]).double())
    before, after = torch.zeros(1, 3).double(), torch.tensor([[5.0, 0.5, -0.2]], dtype=torch.float64)
    assert directions.distance(before, after).item() == pytest.approx(((4 * 0.25 + 100 * 0.04) / 2) ** 0.5, rel=1e-12)


def test_no_distance_is_known_where_the_data_determine_nothing():
    directions = Directions(torch.eye(2).double()[None], torch.tensor([[0.1, 1.0]]).double())
    assert directions.distance(torch.zeros(1, 2), torch.ones(1, 2)).isnan()


def test_prior_units_do_not_depend_on_the_coordinates_of_theta():
    scaled, sigmoid = (to_units(p, p.space.to_theta(POINT)) for p in (noisy_problem(), noisy_problem(SigmoidTransform)))
    torch.testing.assert_close(scaled, sigmoid, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(scaled, (POINT - 2.0) / 0.5, rtol=1e-6, atol=0)


def test_members_find_the_truth_of_their_windows():
    problem = toy_problem(n_days=60)
    mask = problem.mask.repeat(2, 1, 1)
    mask[0, 30:], mask[1, :30] = False, False
    estimates, losses = fit_members(problem.variant(mask=mask), torch.zeros(2, 3).double())
    torch.testing.assert_close(problem.space.to_physical(estimates), toy_truth().expand(2, -1), rtol=1e-6, atol=0)
    assert losses.max() < 1e-12


def test_a_site_with_a_prior_of_its_own_serves_all_windows():
    problem = toy_problem(n_days=60)
    alone, _ = fit_members(problem, torch.full((3, 3), 0.5, dtype=torch.float64))
    space = problem.space
    problem.space = ParameterSpace(space.table, space.transform, prior=space.prior[None])
    # the first member has arrived before the others begin
    own, _ = fit_members(problem, torch.cat([alone[:1], torch.full((2, 3), 0.5, dtype=torch.float64)]), torch.zeros(3).long())
    torch.testing.assert_close(own, alone, rtol=0, atol=1e-6)


def test_a_start_that_is_not_finite_is_not_measured_and_stops_no_other():
    problem = toy_problem()
    start = torch.tensor([[0.0, 0.0, 0.0], [torch.nan, 0.0, 0.0]]).double()
    estimates, losses = fit_members(problem, start, torch.tensor([0, 0]))
    assert estimates.isnan().tolist() == [[False] * 3, [True] * 3]
    assert losses[1] == torch.inf


def test_the_best_start_wins_whatever_its_place():
    problem = toy_problem().variant(surrogate=FrozenSurrogate(Slanted(), toy_problem().surrogate.spec).double())
    problem = problem.variant(observed=problem.simulate(torch.tensor([[1.0, 0.0, 0.0]]).double()))
    good, poor = torch.tensor([[0.8, 0.0, 0.0]]).double(), torch.tensor([[-0.8, 0.0, 0.0]]).double()
    first, second = (fit_best(problem, torch.cat(order)) for order in ((good, poor), (poor, good)))
    assert torch.equal(first.start, good)
    assert torch.equal(second.start, good)
    assert first.theta[0, 0].item() == pytest.approx(1.0, abs=1e-4)
    torch.testing.assert_close(first.theta, second.theta, rtol=0, atol=1e-9)


class Slanted(nn.Module):
    """The square of the first parameter, and a little of itself: two minima, one of them deeper."""

    def forward(self, static, forcing):
        z = static[:, :1, None]
        return torch.cat([z.square() * torch.ones_like(forcing[..., :2]), z.square() + 0.05 * z * forcing[..., :2]], dim=-1)


def test_another_scale_leaves_estimates_where_they_are():
    problem = noisy_problem()
    rescalings = summarize(rescalings_of(problem))
    trials, reason = try_estimates(problem, cut_windows(problem.days[0], 30), rescalings, InvarianceSettings())
    assert reason == ""
    assert [trial.transform for trial in trials] == [*(r.name for r in rescalings), "starts", "resampled mask"]
    assert all(trial.samples == 3 and trial.retained == 1 for trial in trials)
    assert max(trial.worst for trial in trials[:-1]) < 1e-4
    assert 0.05 < trials[-1].worst < 2.0


def test_two_answers_fail_the_starts():
    problem = noisy_problem()
    surrogate = FrozenSurrogate(TwoAnswers(), problem.surrogate.spec).double()
    problem = problem.variant(surrogate=surrogate)
    fluxes = problem.simulate(problem.space.to_theta(toy_truth()[None]))
    problem = problem.variant(observed=fluxes)
    trials, _ = try_estimates(problem, cut_windows(problem.days[0], 30), [], InvarianceSettings())
    starts = next(trial for trial in trials if trial.transform == "starts")
    assert starts.failed.any()


def test_a_fixed_parameter_stays_and_is_no_direction():
    problem = noisy_problem()
    problem.space.fixed[1] = True
    starts, *others = draw_starts(problem, 0)
    assert [len(starts), *map(len, others)] == [STARTS, STARTS, MORE_STARTS, MORE_STARTS]
    assert torch.cat([starts, *others])[:, 1].unique().numel() == 1
    estimates, _ = fit_members(problem, starts[:1])
    assert estimates[0, 1] == starts[0, 1]
    directions = find_directions(problem, Misfit(), estimates)
    assert directions.eigenvalues[0, 0] == 0
    assert directions.vectors[0, 1, 1:].abs().max() == 0


def test_masks_are_draws_of_the_same_size_from_the_days_of_the_window():
    mask = toy_problem(n_days=60).mask.clone()
    mask[:, 3:9] = False
    windows = [slice(0, 30), slice(30, 60)]
    masks = draw_masks(mask, windows, seed=0)
    assert len(masks) == 5
    for drawn in masks:
        assert drawn.sum(1).tolist() == [[19] * 4, [24] * 4]
        assert not (drawn & ~mask).any()
        assert not drawn[0, 30:].any()
        assert not drawn[1, :30].any()
    assert not any(torch.equal(masks[0], other) for other in masks[1:])
    assert all(torch.equal(a, b) for a, b in zip(masks, draw_masks(mask, windows, seed=0), strict=True))


@pytest.mark.parametrize(("observed", "chosen"), [(15, [0, 1]), (14, [1])])
def test_a_window_needs_half_of_its_days(observed, chosen):
    problem = toy_problem(n_days=60)
    mask = problem.mask.clone()
    mask[:, observed:30, NEP] = False
    assert find_invertible(problem.variant(mask=mask), Misfit(), cut_windows(problem.days[0], 30), 0) == (chosen, "")


def test_windows_are_spread_over_the_record():
    places = spread_evenly(range(49))
    assert (len(places), places[0], places[-1]) == (12, 0, 48)
    assert {b - a for a, b in itertools.pairwise(places)} == {4, 5}


@pytest.mark.parametrize(("days", "starts"), [(1461, (0, 365, 1095)), (900, (0, 365, 365)), (300, (0, 0, 0))])
def test_a_window_has_a_run_of_its_own_that_begins_whole_years_later(days, starts):
    problem = toy_problem(n_days=days)
    problem.days[:, :5] = False
    windows = [slice(5, 35), slice(min(380, days - 40), min(410, days - 10)), slice(days - 30, days)]
    runs, within = cut_runs(problem, windows)
    for member, (window, own, start) in enumerate(zip(windows, within, starts, strict=True)):
        assert window.start - own.start == start
        torch.testing.assert_close(runs.forcing[member, own], problem.forcing[0, window], rtol=0, atol=0)
        torch.testing.assert_close(runs.observed[member, own], problem.observed[0, window], rtol=0, atol=0)
        assert torch.equal(runs.forcing[member, :100], problem.forcing[0, start : start + 100])
        assert runs.mask[member, own].all()
    assert runs.mask.shape[1] <= min(days, 2 * 366 + 30)


def test_a_run_of_fixed_length_is_not_cut():
    problem = toy_problem(n_days=400)
    tied = FrozenSurrogate(problem.surrogate.network, replace(problem.surrogate.spec, fixed_length=400)).double()
    assert cut_runs(problem.variant(surrogate=tied), [slice(0, 30)])[0].mask.shape == (1, 400, 4)


def test_the_better_of_two_estimates_is_kept_for_the_members_asked():
    values = torch.arange(3.0)[:, None]
    first = Best(values, torch.tensor([1.0, 1.0, 1.0]), values)
    other = Best(values[:2] + 10, torch.tensor([2.0, 0.5]), values[:2] + 20)
    better = first.improve(torch.tensor([0, 2]), other)
    assert better.theta.flatten().tolist() == [0, 1, 11]
    assert better.loss.tolist() == [1, 1, 0.5]
    assert better.start.flatten().tolist() == [0, 1, 21]


@pytest.mark.parametrize(
    ("network", "reason"), [(Sound, ""), (CutsAGradient, "derivatives of nep"), (NoNep, "not finite on observed days"), (NoRh, "")]
)
def test_estimates_want_values_and_derivatives_of_the_target_that_can_be_trusted(network, reason):
    problem, _ = sound_problem(network())
    windows = cut_windows(problem.days[0], 30)
    chosen, found = find_invertible(problem, find_misfit(problem), windows, 0)
    assert bool(chosen) == (reason == "")
    assert reason in found
    if reason:
        assert try_estimates(problem, windows, [], InvarianceSettings()) == ([], found)


def test_one_day_that_is_not_finite_costs_its_window_alone():
    problem, _ = sound_problem(LosesOneDay())
    windows = cut_windows(problem.days[0], 30)
    chosen, _ = find_invertible(problem, find_misfit(problem), windows, 0)
    assert set(range(len(windows))) - set(chosen) == {int(LosesOneDay.day // 30)}


@pytest.mark.parametrize("seed", range(12))
def test_a_network_with_kinks_is_trusted(seed):
    torch.manual_seed(seed)
    problem, _ = sound_problem(Kinks())
    assert derivatives_hold(problem, find_misfit(problem), seed)


def test_derivatives_of_the_toy_hold_in_other_coordinates_too():
    assert derivatives_hold(noisy_problem(SigmoidTransform), Misfit(), 0)


def test_without_a_misfit_nothing_is_inverted():
    problem = toy_problem(terms=[Prior()])
    assert find_misfit(problem) is None
    assert try_estimates(problem, cut_windows(problem.days[0], 30), [], InvarianceSettings()) == ([], "no term is a misfit")
