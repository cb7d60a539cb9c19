"""Close the loop: run the process model at the parameters that the surrogate's inversion found."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .errors import ConfigError
from .process import ProcessModel


def resimulate(
    model: ProcessModel,
    parameters: Sequence[str],
    physical: Tensor,
    drivers: Sequence[str],
    forcing: NDArray[np.float64],
    outputs: Sequence[str],
) -> NDArray[np.float64]:
    """Run a process model once and return its fluxes in the surrogate's order.

    Args:
        model: The process model.
        parameters: Names of the static parameters.
        physical: Their values in the table's units, a (P,)-dim tensor.
        drivers: Names of the drivers.
        forcing: Drivers in physical units, a (T, F)-dim array.
        outputs: Names of the surrogate's outputs.

    Returns:
        A (T, V)-dim array [gC m-2 d-1].

    Raises:
        ConfigError: If the process model needs a parameter, driver or output that the inversion does not have.
    """
    columns = _places(model.statics, parameters, model.name, "static parameter")
    rows = _places(model.drivers, drivers, model.name, "driver")
    fluxes = _places(outputs, model.outputs, "the surrogate", f"output of {model.name!r}")
    with torch.no_grad():
        simulated = model(physical.double()[columns].unsqueeze(0), torch.as_tensor(forcing)[:, rows].unsqueeze(0))
    return simulated[0][:, fluxes].numpy()


def _places(wanted: Sequence[str], known: Sequence[str], who: str, what: str) -> list[int]:
    missing = [name for name in wanted if name not in known]
    if missing:
        raise ConfigError(
            f"`resimulate`: {who} needs {what} {', '.join(map(repr, missing))}, which this inversion does not have. "
            "Choose another process model, or `resimulate: null`."
        )
    return [list(known).index(name) for name in wanted]
