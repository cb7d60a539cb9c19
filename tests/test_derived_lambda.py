"""`lambda_prior: derived`: the weight that makes the fit's loss a posterior, for one site."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from lit_invert import load_plugins, parse_fit, read_every_site
from lit_invert.assembly import build_problem, default_terms
from lit_invert.errors import ConfigError
from lit_invert.fit import Inputs
from lit_invert.guards import GuardedTerm, PluginInfo
from lit_invert.inversion import invert
from lit_invert.losses import Prior
from lit_invert.posterior.noise import derived_lambda, effective_days
from lit_invert.posterior.weight import derive_prior_weight
from lit_invert.settings import InversionSettings
from tests.toy_fit import write_toy_fit

DERIVED = InversionSettings(solver="levenberg_marquardt", lambda_prior="derived", max_iters=30)


def noisy_inputs(folder: Path) -> Inputs:
    """Return the toy fit with white noise of 0.8 on its observations."""
    registry = load_plugins()
    config = parse_fit(["--config", str(write_toy_fit(folder)), "--checks", "skip"], registry)
    inputs = next(read_every_site(config, registry))
    noise = torch.randn(inputs.record.fit.values.shape, generator=torch.Generator().manual_seed(1)).numpy()
    fit = replace(inputs.record.fit, values=inputs.record.fit.values + 0.8 * noise)
    return replace(inputs, record=replace(inputs.record, fit=fit))


def test_the_weight_is_the_variance_over_the_independent_days(tmp_path):
    inputs = noisy_inputs(tmp_path)
    problem = build_problem(inputs.surrogate, inputs.table, [inputs.record], DERIVED)
    weight, words = derive_prior_weight(problem, "nep")
    uncorrelated = derived_lambda(0.64, effective_days(problem.mask[..., 2], torch.zeros(1)).item())
    assert weight == pytest.approx(uncorrelated, rel=0.5)  # both variance and correlation of few days are estimates
    assert words.startswith(f"lambda_prior {weight:.2g} derived from a noise of 0.")


def test_a_fit_uses_the_derived_weight_and_says_so(tmp_path):
    inputs = noisy_inputs(tmp_path)
    arguments = (inputs.surrogate, inputs.table, inputs.record.forcing, inputs.record.fit)
    weight, words = derive_prior_weight(build_problem(inputs.surrogate, inputs.table, [inputs.record], DERIVED), "nep")
    derived = invert(*arguments, DERIVED)
    own = invert(*arguments, replace(DERIVED, lambda_prior=0.0), terms=[Prior("prior_sd", weight)])
    assert words in derived.message
    assert derived.lambda_prior == own.lambda_prior == weight
    assert "derived" not in own.message
    assert torch.equal(derived.optimum, own.optimum)
    assert derived.loss_optimum["weighted/prior"] == pytest.approx(weight * derived.loss_optimum["loss/prior"], rel=1e-6)


def test_several_sites_need_a_number(tmp_path):
    inputs = noisy_inputs(tmp_path)
    with pytest.raises(ConfigError, match="'derived' gives the weight of one site, and here are 2 that share one"):
        build_problem(inputs.surrogate, inputs.table, [inputs.record] * 2, DERIVED)
    build_problem(inputs.surrogate, inputs.table, [inputs.record] * 2, replace(DERIVED, lambda_prior=0.1))


@pytest.mark.parametrize("term", [Prior(), GuardedTerm(Prior(), PluginInfo("mine", None))])
def test_a_prior_of_the_users_own_has_its_own_weight(term):
    with pytest.raises(ConfigError, match="`loss_terms` has a prior with a weight of its own"):
        default_terms(DERIVED, [term])


@pytest.mark.parametrize("wrong", ["derive", "0.1", -0.1])
def test_another_word_is_one_clear_line(wrong):
    with pytest.raises(ConfigError, match=r"`inversion\.lambda_prior` is .*, expected a number, 0 or more, or 'derived'"):
        InversionSettings(lambda_prior=wrong)
