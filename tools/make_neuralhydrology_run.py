"""Train small runs with the package neuralhydrology, and keep them with its own predictions for the tests of our loader.

Forty sites with three static attributes have weather of their own and fluxes of the toy surrogate, whose soil is ten days slower
than the air. The soil stays hidden, so a network has to remember. Attributes and drivers are named in another order than the
alphabet's, because neuralhydrology sorts the one and keeps the other. One run is trained for each model and way to embed inputs.

Run it from the repository's folder in an environment with this package, its dependencies and neuralhydrology:

    python tools/make_neuralhydrology_run.py tests/surrogates/golden/neuralhydrology

The files in the repository were made with neuralhydrology 1.13.0, torch 2.13.0, numpy 2.4.6, pandas 3.1.1 and xarray 2026.9.0.
"""

from __future__ import annotations

import argparse
import contextlib
import pickle
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
import xarray
import yaml
from neuralhydrology.nh_run import eval_run, start_run

from lit_invert.testing import toy_surrogate

SITES, DAYS, KEPT_SITES = 40, 1096, ("site00", "site01")
STATICS, DRIVERS, TARGETS = ["s3", "s1", "s2"], ["tmp_2m", "dswrf"], ["nep", "gpp"]
SEQUENCE = 60
TESTED = ("2002-05-20", "2002-06-28")

COMMON: dict[str, Any] = {
    "train_basin_file": "sites.txt", "validation_basin_file": "sites.txt", "test_basin_file": "kept_sites.txt",
    "train_start_date": "01/01/2000", "train_end_date": "31/12/2001",
    "validation_start_date": "20/05/2002", "validation_end_date": "28/06/2002",
    "test_start_date": "20/05/2002", "test_end_date": "28/06/2002",
    "device": "cpu", "num_workers": 0, "seed": 7, "verbose": 0, "log_tensorboard": False, "validate_every": None,
    "dataset": "generic", "data_dir": "data", "run_dir": "runs",
    "dynamic_inputs": DRIVERS, "static_attributes": STATICS, "target_variables": TARGETS,
    "head": "regression", "output_activation": "linear", "hidden_size": 16, "initial_forget_bias": 3, "output_dropout": 0.1,
    "optimizer": "Adam", "loss": "MSE", "clip_gradient_norm": 1, "predict_last_n": 1, "seq_length": SEQUENCE,
    "batch_size": 256, "metrics": [], "save_weights_every": 1,
}  # fmt: skip

RUNS: dict[str, dict[str, Any]] = {
    "cudalstm": {"model": "cudalstm", "epochs": 12, "learning_rate": {0: 1e-2, 8: 2e-3}},
    "embedded": {
        "model": "cudalstm",
        "epochs": 2,
        "learning_rate": {0: 1e-2},
        "output_activation": "softplus",
        "statics_embedding": {"type": "fc", "hiddens": [8, 4], "activation": "tanh", "dropout": 0.1},
        "dynamics_embedding": {"type": "fc", "hiddens": [6, 5, 3], "activation": "sigmoid", "dropout": 0.1},
    },
    "customlstm": {"model": "customlstm", "epochs": 4, "learning_rate": {0: 1e-2}},
    "embcudalstm": {
        "model": "embcudalstm",
        "epochs": 1,
        "learning_rate": {0: 1e-2},
        "statics_embedding": {"hiddens": [4], "activation": "linear", "dropout": 0.0},
    },
    "ealstm": {"model": "ealstm", "epochs": 12, "learning_rate": {0: 1e-2, 8: 2e-3}},
    "gru": {"model": "gru", "epochs": 4, "learning_rate": {0: 1e-2}},
}


def weather(random: np.random.Generator) -> pd.DataFrame:
    """Return one site's daily air temperature [K], its memory in the soil [K], and radiation [W m-2]."""
    dates = pd.date_range("2000-01-01", periods=DAYS, name="date")
    season = -np.cos(2 * np.pi * (dates.dayofyear.to_numpy() - 20 + random.uniform(-20, 20)) / 365.25)
    noise = pd.Series(random.normal(size=(DAYS))).ewm(span=4).mean().to_numpy()
    air = 280 + random.uniform(-3, 3) + random.uniform(6, 10) * season + 4 * noise
    soil = pd.Series(air).ewm(span=10).mean().to_numpy()
    light = 128 + 64 * season * random.uniform(0.7, 1.0) + 20 * random.uniform(-1, 1, DAYS)
    return pd.DataFrame({"tmp_2m": air, "soil": soil, "dswrf": light}, index=dates).astype(np.float32)


def write_data(folder: Path) -> None:
    """Write sites as neuralhydrology's generic dataset."""
    random, surrogate = np.random.default_rng(4), toy_surrogate()
    (folder / "data" / "time_series").mkdir(parents=True)
    (folder / "data" / "attributes").mkdir()
    names = [f"site{number:02d}" for number in range(SITES)]
    statics = pd.DataFrame(random.uniform(0.8, 3.2, (SITES, 3)).round(3), index=pd.Index(names, name="site"), columns=STATICS)
    for name in names:
        frame = weather(random)
        physical = torch.tensor(statics.loc[name, ["s1", "s2", "s3"]].to_numpy(np.float32))[None]
        forcing = torch.tensor(frame[["tmp_2m", "soil", "dswrf"]].to_numpy())[None]
        fluxes = surrogate(surrogate.static_scaler.to_scaled(physical), surrogate.prepare(forcing))[0]
        frame["gpp"], frame["nep"] = fluxes[:, 0].numpy(), fluxes[:, 2].numpy()
        xarray.Dataset.from_dataframe(frame.drop(columns="soil")).to_netcdf(folder / "data" / "time_series" / f"{name}.nc")
    statics.to_csv(folder / "data" / "attributes" / "attributes.csv")
    (folder / "sites.txt").write_text("\n".join(names))
    (folder / "kept_sites.txt").write_text("\n".join(KEPT_SITES))


def train(folder: Path, name: str, settings: dict[str, Any]) -> Path:
    """Train and evaluate one run, and return its folder."""
    config = folder / f"{name}.yml"
    config.write_text(yaml.safe_dump({**COMMON, **settings, "experiment_name": name}))
    start_run(config_file=config, gpu=-1)
    (run,) = (folder / "runs").glob(f"{name}_*")
    eval_run(run_dir=run, period="test", gpu=-1)
    return run


def keep(run: Path, kept: Path, folder: Path) -> None:
    """Keep what describes the network, and the package's predictions; paths of the temporary folder become relative."""
    shutil.rmtree(kept, ignore_errors=True)
    (kept / "train_data").mkdir(parents=True)
    (kept / "config.yml").write_text((run / "config.yml").read_text().replace(str(folder), "."))
    shutil.copy(run / "train_data" / "train_data_scaler.yml", kept / "train_data")
    weights = max(run.glob("model_epoch*.pt"))
    shutil.copy(weights, kept)
    with (run / "test" / weights.stem / "test_results.p").open("rb") as stream:
        results = pickle.load(stream)
    frames = [
        pd.DataFrame({"site": site, **{t: found["1D"]["xr"][f"{t}_sim"].values[:, -1] for t in TARGETS}}, found["1D"]["xr"]["date"])
        for site, found in results.items()
    ]
    pd.concat(frames).to_csv(kept / "predictions.csv", index_label="date")


def keep_inputs(kept: Path, folder: Path) -> None:
    """Keep weather and attributes of the sites that were predicted, from the first day that the package looked at."""
    kept.mkdir(parents=True, exist_ok=True)
    first = pd.Timestamp(TESTED[0]) - pd.Timedelta(days=SEQUENCE - 1)
    sites = {site: xarray.open_dataset(folder / "data" / "time_series" / f"{site}.nc").to_dataframe() for site in KEPT_SITES}
    frames = [frame.loc[first : TESTED[1], DRIVERS].assign(site=site) for site, frame in sites.items()]
    pd.concat(frames).to_csv(kept / "weather.csv", index_label="date")
    attributes = pd.read_csv(folder / "data" / "attributes" / "attributes.csv", index_col="site")
    attributes.loc[list(KEPT_SITES)].to_csv(kept / "attributes.csv")


def main() -> None:
    """Make the data in a temporary folder, train every run, and keep what the tests need."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="where the runs are kept")
    kept = parser.parse_args().folder.resolve()
    with tempfile.TemporaryDirectory() as temporary, contextlib.chdir(temporary):
        folder = Path(temporary).resolve()
        write_data(folder)
        keep_inputs(kept, folder)
        for name, settings in RUNS.items():
            keep(train(folder, name, settings), kept / name, folder)


if __name__ == "__main__":
    main()
