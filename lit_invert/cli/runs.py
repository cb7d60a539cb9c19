"""The commands that open the folder of a finished fit: resimulate, predict, sensitivity."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pandas as pd
import torch

from ..atomic import write_text
from ..config import parse_fit
from ..errors import ConfigError, suggest
from ..fit import FitConfig, read_inputs
from ..metrics import bias, rmse
from ..plugins import Registry, load_plugins
from ..posterior.sensitivity import sensitivity as run_sensitivity
from ..prediction import predict as run_prediction
from ..resimulation import process_model
from ..resimulation import resimulate as run_model
from ..results import Run, read_run
from . import OK, OneLineParser, Options
from .outcome import show_gap, show_sensitivity


def resimulate(argv: list[str], options: Options) -> int:
    """Run a process model at the optimum, write `resimulated.csv`, and show how far the surrogate is from it."""
    parser = _parser("resimulate")
    parser.add_argument("--model", help="name of the process model (default: that of the fit's config, or simcycle)")
    arguments, registry = parser.parse_args(argv), load_plugins()
    run = read_run(arguments.run)
    if arguments.model is not None and arguments.model not in registry.process_models:
        raise ConfigError(f"`--model`: {arguments.model!r} is not registered.{suggest(arguments.model, registry.process_models)}")
    config = _config_of(run, registry, options)
    choice = arguments.model or config.resimulate or "simcycle"
    inputs, names = read_inputs(replace(config, resimulate=choice), registry), list(run.parameters["name"])
    simulated = run_model(
        process_model(choice, registry.process_models, names, inputs.site, registry.data_readers, options.trust),
        names,
        torch.tensor(run.parameters["optimum"].to_numpy()),
        inputs.site.drivers,
        inputs.site.forcing,
        run.outputs,
    )
    columns = dict(zip(run.outputs, simulated.T, strict=True))
    write_text(run.folder / "resimulated.csv", _to_csv(pd.DataFrame({"date": run.fluxes["date"], **columns})))
    show_gap({name: {f.__name__: f(run.fluxes[f"{name}_optimum"], columns[name]) for f in (rmse, bias)} for name in run.outputs})
    print(f"Fluxes of the process model: {run.folder / 'resimulated.csv'}")
    return OK


def predict(argv: list[str], options: Options) -> int:
    """Simulate other weather at the prior and the optimum, and write a table."""
    parser = _parser("predict")
    parser.add_argument("--data", type=Path, required=True, help="weather, one row a day, read as the fit's own file")
    parser.add_argument("--out", type=Path, help="table to write (default: RUN/predicted_<name of the data>.csv)")
    parser.add_argument("--latitude", type=float, help="latitude of the weather [degrees north] (default: that of the fit)")
    parser.add_argument("--site", default="", help="`unique_id` to pick from a file with several")
    arguments, registry = parser.parse_args(argv), load_plugins()
    run = read_run(arguments.run)
    config = _config_of(run, registry, options)
    latitude = run.metrics["latitude"] if arguments.latitude is None else arguments.latitude
    config = replace(config, data=replace(config.data, site=arguments.site, query="", years=""))
    frame = run_prediction(run, config, arguments.data, latitude, registry)
    out = arguments.out or run.folder / f"predicted_{arguments.data.stem}.csv"
    if not out.parent.is_dir():
        raise ConfigError(f"`--out`: folder {str(out.parent)!r} does not exist. Make it first.")
    write_text(out, _to_csv(frame))
    print(f"Predicted fluxes: {out}")
    return OK


def sensitivity(argv: list[str], options: Options) -> int:
    """Ask which parameters the simulated fluxes respond to, write `sensitivity.csv`, and show the first ones."""
    parser = _parser("sensitivity")
    parser.add_argument("--method", default="morris", help="morris (default) or sobol")
    parser.add_argument("--samples", type=int, help="trajectories of morris (default: 20), base samples of sobol (default: 64)")
    parser.add_argument("--over", choices=("prior", "bounds"), default="prior", help="two prior sd (default), or the whole bounds")
    arguments, registry = parser.parse_args(argv), load_plugins()
    run = read_run(arguments.run)
    config = replace(_config_of(run, registry, options), checks="skip", resimulate=None)
    problem, target = read_inputs(config, registry).problem, run.metrics["target"]
    table = run_sensitivity(problem, target, arguments.method, arguments.samples, arguments.over, config.seed_everything)
    other = run.sensitivity
    if other is not None:
        table = pd.concat([other[other["method"] != arguments.method], table], ignore_index=True)
    write_text(run.folder / "sensitivity.csv", _to_csv(table))
    show_sensitivity(table, arguments.method, target)
    print(f"Sensitivity: {run.folder / 'sensitivity.csv'}")
    return OK


def _config_of(run: Run, registry: Registry, options: Options) -> FitConfig:
    return parse_fit(["--config", str(run.folder / "config.yaml")], registry, options.trust)


def _to_csv(frame: pd.DataFrame) -> str:
    text: str = frame.to_csv(index=False, float_format="%.9g", date_format="%Y-%m-%d", lineterminator="\n")
    return text


def _parser(command: str) -> OneLineParser:
    parser = OneLineParser(f"lit-invert {command}")
    parser.add_argument("run", type=Path, help="folder of a finished fit, logs/<name>/version_N")
    return parser
