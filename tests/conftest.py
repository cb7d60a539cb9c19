"""Guards for every test: seeded, and torch's global settings left as they were."""

from __future__ import annotations

import logging
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from lit_invert.observations import Observations
from lit_invert.testing import toy_forcing, toy_surrogate, toy_table, toy_truth


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def torch_defaults_stay():
    """Fail a test that changes what every other test relies on."""
    before = (torch.get_default_dtype(), torch.is_grad_enabled(), torch.are_deterministic_algorithms_enabled())
    yield
    after = (torch.get_default_dtype(), torch.is_grad_enabled(), torch.are_deterministic_algorithms_enabled())
    assert after == before, "the test changed torch's default dtype, gradient mode or determinism"


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    """Small tensors gain nothing from threads, and several test runs share the machine."""
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def quiet_lightning():
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)


@pytest.fixture
def twin():
    """A toy inversion with a known truth: 120 days, NEP alone, the last third for selection."""
    return make_twin()


def make_twin(days: int = 120, noise: float = 0.0):
    """Return surrogate, table, forcing, fit and select observations, and the truth that made them."""
    surrogate, table, forcing, truth = toy_surrogate(), toy_table(), toy_forcing(days), toy_truth()
    scaled = surrogate.static_scaler.to_scaled(truth.float())[None]
    simulated = surrogate(scaled, surrogate.prepare(forcing))[0].double().numpy()
    simulated = simulated + noise * np.random.default_rng(0).standard_normal(simulated.shape)
    dates = np.datetime64("2001-01-01") + np.arange(days)
    observations = Observations(
        dates, surrogate.spec.output_names, simulated, np.broadcast_to(np.arange(4) == 2, simulated.shape).copy()
    )
    is_select = np.arange(days) % 3 == 2
    return SimpleNamespace(
        surrogate=surrogate,
        table=table,
        forcing=forcing[0],
        fit=observations.only(~is_select),
        select=observations.only(is_select),
        truth=truth,
    )
