"""Use what a fit found: simulate other weather at its optimum."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pandas as pd
import torch

from .errors import ResultsError
from .fit import FitConfig
from .forcing import read_forcing
from .plugins import Registry
from .results import Run
from .sites import check_latitude
from .surrogates.loaders import load_surrogate
from .tables import load_table


def predict(run: Run, config: FitConfig, data: Path, latitude: float, registry: Registry) -> pd.DataFrame:
    """Simulate the fluxes of a file of weather at the prior and at the optimum of a finished fit.

    Args:
        run: The finished fit.
        config: The config that it was made with; says which surrogate and drivers, and which site of a file with several.
        data: File with one row a day, read like the fit's own; observations in it are not looked at.
        latitude: Latitude of the weather [degrees north].
        registry: What the plugins registered.

    Returns:
        One row a day: `date`, and `<flux>_prior` and `<flux>_optimum` of each flux [gC m-2 d-1].

    Raises:
        LitInvertError: If the surrogate is not the one of the fit, or the weather cannot be read.
    """
    check_latitude(latitude, "--latitude")
    surrogate = load_surrogate(Path(config.surrogate.spec), registry.surrogate_loaders, config.trust)
    made_with = run.provenance["sha256"]["surrogate_weights"]
    if surrogate.sha256 != made_with:
        raise ResultsError(
            f"{run.folder}: was fitted with surrogate weights of SHA-256 {made_with}, but "
            f"{config.surrogate.spec} has {surrogate.sha256}. "
            "Fit again, or restore the surrogate."
        )
    table = load_table(data, replace(config.data, path=str(data)), registry.data_readers)
    forcing = read_forcing(table, config.data.drivers, surrogate.spec.drivers, latitude)
    names = [v.name for v in surrogate.spec.statics]
    parameters = run.parameters.set_index("name").loc[names]
    columns: dict[str, object] = {"date": forcing.dates}
    dtype = surrogate.static_scaler.mean.dtype
    with torch.no_grad():
        prepared = surrogate.prepare(torch.as_tensor(forcing.values).to(dtype).unsqueeze(0))
        for name in ("prior", "optimum"):
            physical = torch.tensor(parameters[name].to_numpy(), dtype=dtype).unsqueeze(0)
            simulated = surrogate(surrogate.static_scaler.to_scaled(physical), prepared)[0].double().numpy()
            columns |= {f"{flux}_{name}": simulated[:, i] for i, flux in enumerate(surrogate.spec.output_names)}
    return pd.DataFrame(columns)
