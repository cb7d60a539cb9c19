from __future__ import annotations

import pytest
import torch

from lit_invert.errors import ConfigError
from lit_invert.testing import toy_problem


@pytest.fixture
def evaluation():
    return toy_problem(n_days=5).evaluate(torch.zeros(2, 3, dtype=torch.float64))


def test_quantities_are_found_by_name(evaluation):
    assert torch.equal(evaluation.flux("rh"), evaluation.simulated[..., 3])
    assert torch.equal(evaluation.driver("tmp10_soil"), evaluation.forcing[..., 1])
    assert torch.equal(evaluation.parameter("s2"), evaluation.physical[:, 1])


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda e: e.flux("ne"), r"'ne' is not a known output of the surrogate\. Did you mean 'nep'\?"),
        (lambda e: e.driver("dsw"), r"'dsw' is not a known driver\. Did you mean 'dswrf'\?"),
        (lambda e: e.parameter("s9"), r"'s9' is not a known static parameter\. .*Known: s1, s2, s3\."),
    ],
)
def test_unknown_names_are_answered_with_the_known_ones(evaluation, ask, message):
    with pytest.raises(ConfigError, match=message):
        ask(evaluation)
