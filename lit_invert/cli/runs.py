"""The commands that open the folder of a finished fit: report, resimulate, predict."""

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
from ..prediction import predict as run_prediction
from ..report import save_figures, write_report
from ..resimulation import resimulate as run_model
from ..results import Run, read_run
from . import OK, OneLineParser, Options
from .outcome import show_gap


def report(argv: list[str], options: Options) -> int:
    """Write figures and report again."""
    folder = read_run(_parser("report").parse_args(argv).run).folder
    save_figures(folder)
    print(f"Report: {write_report(folder, list(load_plugins().report_sections.values()))}")
    return OK


def resimulate(argv: list[str], options: Options) -> int:
    """Run a process model at the optimum, write `resimulated.csv`, and show how far the surrogate is from it."""
    parser = _parser("resimulate")
    parser.add_argument("--model", default="simcycle", help="name of the process model (default: simcycle)")
    arguments, registry = parser.parse_args(argv), load_plugins()
    run = read_run(arguments.run)
    if arguments.model not in registry.process_models:
        raise ConfigError(f"`--model`: {arguments.model!r} is not registered.{suggest(arguments.model, registry.process_models)}")
    inputs = read_inputs(_config_of(run, registry, options), registry)
    simulated = run_model(
        registry.process_models[arguments.model],
        list(run.parameters["name"]),
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


def _config_of(run: Run, registry: Registry, options: Options) -> FitConfig:
    return parse_fit(["--config", str(run.folder / "config.yaml")], registry, options.trust)


def _to_csv(frame: pd.DataFrame) -> str:
    text: str = frame.to_csv(index=False, float_format="%.9g", date_format="%Y-%m-%d", lineterminator="\n")
    return text


def _parser(command: str) -> OneLineParser:
    parser = OneLineParser(f"lit-invert {command}")
    parser.add_argument("run", type=Path, help="folder of a finished fit, logs/<name>/version_N")
    return parser
