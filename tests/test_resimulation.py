"""The process model at the optimum: names matched, order kept."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from lit_invert.errors import ConfigError
from lit_invert.resimulation import resimulate


class Doubler:
    """gpp = a * rain, nep = b * light."""

    name = "doubler"
    statics = ("a", "b")
    drivers = ("rain", "light")
    outputs = ("gpp", "nep")

    def __call__(self, static_physical, forcing):
        return static_physical[:, None] * forcing


FORCING = np.arange(12.0).reshape(4, 3)


def test_columns_are_found_by_name_in_any_order():
    """The inversion knows more parameters, drivers in another order, and wants the outputs turned round."""
    found = resimulate(
        Doubler(), ["b", "other", "a"], torch.tensor([3.0, 9.0, 2.0]), ["light", "wind", "rain"], FORCING, ["nep", "gpp"]
    )
    assert found.tolist() == np.stack([3 * FORCING[:, 0], 2 * FORCING[:, 2]], axis=1).tolist()


@pytest.mark.parametrize(
    ("parameters", "drivers", "outputs", "message"),
    [
        (["a", "c"], ["rain", "light"], ["gpp"], "doubler needs static parameter 'b'"),
        (["a", "b"], ["rain", "wind"], ["gpp"], "doubler needs driver 'light'"),
        (["a", "b"], ["rain", "light"], ["rh"], "the surrogate needs output of 'doubler' 'rh'"),
    ],
)
def test_what_is_missing_is_named(parameters, drivers, outputs, message):
    with pytest.raises(ConfigError, match=message):
        resimulate(Doubler(), parameters, torch.ones(2), drivers, FORCING[:, :2], outputs)
