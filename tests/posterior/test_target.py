"""The posterior as a problem: its loss, its derivatives, and its mode."""

from __future__ import annotations

import pytest
import torch

from lit_invert.errors import ObservationError
from lit_invert.guards import GuardedTerm, PluginInfo
from lit_invert.losses import Boundary, Misfit, Prior
from lit_invert.posterior.target import (
    find_mode,
    linearise,
    noise_of,
    posterior_problem,
    push_fluxes,
    to_theta,
    to_units,
    unit_bounds,
)
from lit_invert.testing import toy_problem
from tests.posterior.posteriors import NEP, dense_covariance, known_mode, known_noise, noisy_problem


def units_of(problem, seed=0, members=4):
    return 0.8 * torch.randn(members, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_the_loss_is_minus_twice_the_log_posterior_up_to_a_constant():
    problem = noisy_problem()
    noise, mask = known_noise(problem), problem.mask[0, :, NEP]
    posterior, units = posterior_problem(problem, {"nep": noise}), units_of(problem)
    simulated = problem.simulate(to_theta(problem, units))[..., NEP]
    likelihood = torch.distributions.MultivariateNormal(
        problem.observed[0, mask, NEP], dense_covariance(mask, noise.deviation[0], float(noise.rho))
    )
    expected = -2 * likelihood.log_prob(simulated[:, mask]) + units.square().sum(-1)
    found = posterior(to_theta(problem, units)).total
    torch.testing.assert_close(found - found[0], expected - expected[0], rtol=1e-9, atol=1e-9)


def test_units_come_back():
    problem = noisy_problem()
    units = units_of(problem)
    torch.testing.assert_close(to_units(problem, to_theta(problem, units)), units, rtol=0, atol=1e-12)
    lower, upper = unit_bounds(problem, to_theta(problem, units))
    assert lower.tolist() == [[-3.0] * 3] * 4
    assert upper.tolist() == [[3.0] * 3] * 4


def test_gradient_jacobian_and_fluxes_agree_with_finite_differences():
    problem = noisy_problem()
    noise = {"nep": known_noise(problem)}
    posterior, at, step = posterior_problem(problem, noise), torch.tensor([[0.3, -0.2, 0.9]], dtype=torch.float64), 1e-5
    mode = linearise(posterior, to_theta(problem, at), noise)
    pushed = push_fluxes(mode)
    for k in range(3):
        both = [to_theta(problem, at + sign * step * torch.eye(3, dtype=torch.float64)[k]) for sign in (1, -1)]
        slope = (posterior(both[0]).total - posterior(both[1]).total) / (2 * step)
        assert mode.gradient[0, k].item() == pytest.approx(0.5 * slope.item(), rel=1e-6)
        fluxes = (problem.simulate(both[0]) - problem.simulate(both[1])) / (2 * step)
        torch.testing.assert_close(pushed[..., k], fluxes, rtol=1e-6, atol=1e-8)


def test_a_mode_inside_the_bounds_has_no_gradient():
    mode = known_mode(noisy_problem())
    assert mode.gradient.abs().max() < 1e-3  # the loss falls by its square
    assert mode.information.shape == (1, 3, 3)
    assert 0 < mode.spent.item() < 3


def test_the_mode_does_not_depend_on_the_start():
    problem = noisy_problem()
    modes = [find_mode(problem, to_theta(problem, start), "nep") for start in (torch.zeros(1, 3), torch.tensor([[2.5, -2.5, 2.5]]))]
    torch.testing.assert_close(modes[0].units, modes[1].units, rtol=0, atol=1e-3)
    assert modes[0].noise["nep"].rho == modes[1].noise["nep"].rho
    assert modes[0].noise["nep"].sigma.item() == pytest.approx(0.5, rel=0.3)


def test_members_of_a_batch_are_posteriors_of_their_own():
    problems = [noisy_problem(seed=seed) for seed in range(3)]
    batch = problems[0].variant(observed=torch.cat([p.observed for p in problems]), mask=torch.cat([p.mask for p in problems]))
    together = find_mode(batch, to_theta(batch, torch.zeros(3, 3)), "nep")
    for i, problem in enumerate(problems):
        alone = find_mode(problem, to_theta(problem, torch.zeros(1, 3)), "nep")
        torch.testing.assert_close(together.units[i], alone.units[0], rtol=0, atol=1e-5)
        torch.testing.assert_close(together.noise["nep"].sigma[i], alone.noise["nep"].sigma[0], rtol=1e-5, atol=0)


def test_a_derived_weight_makes_the_fit_the_posterior_of_white_noise():
    problem = toy_problem(mask=noisy_problem().mask)
    problem = problem.variant(observed=noisy_problem().observed)
    noise = known_noise(problem, rho=0.0)
    noise = type(noise)(**{**vars(noise), "deviation": torch.full_like(noise.deviation, 0.5)})
    fit = problem.variant(terms=[Misfit(), Prior("prior_sd", 0.25 / float(noise.n_eff))])
    theta = to_theta(problem, units_of(problem))
    posterior = posterior_problem(problem, {"nep": noise})(theta).total
    torch.testing.assert_close(fit(theta).total * float(noise.n_eff) / 0.25, posterior, rtol=1e-9, atol=1e-9)


def test_noise_is_estimated_on_observed_days_alone():
    problem = noisy_problem()
    theta = to_theta(problem, torch.zeros(1, 3))
    spoilt = problem.variant(observed=torch.where(problem.mask, problem.observed, 1e6))
    assert noise_of(problem, theta, ["nep"])["nep"].sigma == noise_of(spoilt, theta, ["nep"])["nep"].sigma


@pytest.mark.parametrize("days", [0, 2])
def test_too_few_days_are_one_clear_line(days):
    problem = noisy_problem()
    mask = torch.zeros_like(problem.mask)
    mask[:, :days, NEP] = True
    with pytest.raises(
        ObservationError, match=f"needs 3 or more days of NEP to fit, as many as its noise has numbers; found {days}"
    ):
        find_mode(problem.variant(mask=mask), to_theta(problem, torch.zeros(1, 3)), "nep")


def test_three_days_have_a_mode():
    problem = noisy_problem()
    mask = torch.zeros_like(problem.mask)
    mask[:, :3, NEP] = True
    mode = find_mode(problem.variant(mask=mask), to_theta(problem, torch.zeros(1, 3)), "nep")
    assert mode.units.isfinite().all()
    assert mode.noise["nep"].n.item() == 3


def test_without_a_day_the_posterior_is_the_prior_and_other_terms_weigh_nothing():
    problem = noisy_problem(terms=[Misfit("nep"), Prior(0.1), Boundary()])
    problem = problem.variant(mask=torch.zeros_like(problem.mask))
    units, posterior = units_of(problem), posterior_problem(problem, {"nep": known_noise(problem)})
    assert {term.name: term.weight for term in posterior.loss_terms} == {"likelihood": 1.0, "prior": 1.0, "boundary": 0.0}
    torch.testing.assert_close(posterior(to_theta(problem, units)).total, units.square().sum(-1), rtol=1e-9, atol=1e-9)


def test_a_plugins_term_keeps_its_weight_in_the_fit():
    """A guarded term passes its weight on to the plugin's own, of which a shallow copy would be no copy."""
    term = GuardedTerm(Boundary(weight=0.1), PluginInfo("mine", object(), "mine", "1.0"))
    problem = noisy_problem().variant(terms=[Misfit(), Prior(), term])
    mode = find_mode(problem, to_theta(problem, torch.zeros(1, 3)), "nep")
    noise = mode.noise["nep"]
    (other,) = [own for own in mode.problem.loss_terms if own.name == "boundary"]
    assert term.weight == 0.1
    assert other.weight == pytest.approx(0.1 * noise.n_eff.item() / noise.variance.item())
