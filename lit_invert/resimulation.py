"""Close the loop: run the process model at the parameters that the surrogate's inversion found."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .errors import ConfigError
from .external import ExternalModel, ExternalSettings
from .process import ProcessModel
from .sites import Site
from .tables import DataReader
from .trust import Trust


def process_model(
    choice: str | ExternalSettings,
    models: Mapping[str, ProcessModel],
    statics: Sequence[str],
    site: Site,
    readers: Mapping[str, DataReader],
    trust: Trust,
) -> ProcessModel:
    """Return the process model that a config chooses, ready to run at a site.

    Args:
        choice: Name of a registered model, or how to run a program.
        models: The registered models by name.
        statics: Names of the static parameters, in order.
        site: The site.
        readers: Readers of files by name.
        trust: What the user allowed.

    Raises:
        ConfigError: If a program or its template is missing or malformed.
        TrustError: If a program may not be run.
    """
    if isinstance(choice, str):
        return models[choice]
    return ExternalModel(choice, statics, site, readers, trust)


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
    columns, rows, fluxes = match_names(model, parameters, drivers, outputs)
    with torch.no_grad():
        simulated = model(physical.double()[columns].unsqueeze(0), torch.as_tensor(forcing)[:, rows].unsqueeze(0))
    return simulated[0][:, fluxes].numpy()


def match_names(
    model: ProcessModel, parameters: Sequence[str], drivers: Sequence[str], outputs: Sequence[str]
) -> tuple[list[int], list[int], list[int]]:
    """Say where a process model's parameters and drivers are among those of an inversion, and the outputs among its own.

    Raises:
        ConfigError: If the process model needs a parameter, driver or output that the inversion does not have.
    """
    return (
        _places(model.statics, parameters, model.name, "static parameter"),
        _places(model.drivers, drivers, model.name, "driver"),
        _places(outputs, model.outputs, "the surrogate", f"output of {model.name!r}"),
    )


def _places(wanted: Sequence[str], known: Sequence[str], who: str, what: str) -> list[int]:
    missing = [name for name in wanted if name not in known]
    if missing:
        raise ConfigError(
            f"`resimulate`: {who} needs {what} {', '.join(map(repr, missing))}, which this inversion does not have. "
            "Choose another process model, or `resimulate: null`."
        )
    return [list(known).index(name) for name in wanted]
