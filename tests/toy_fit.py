"""A whole fit in one folder, small enough to run in a second: toy surrogate, table, tower file and config."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from lit_invert.config import parse_fit
from lit_invert.fit import read_inputs
from lit_invert.inversion import invert_sites
from lit_invert.plugins import load_plugins
from lit_invert.results import open_run_folder, tabulate, write_results
from lit_invert.surrogates.base import SurrogateSpec
from lit_invert.testing import toy_forcing, toy_surrogate, toy_truth

CONFIG = """\
name: toy
logs: logs
surrogate:
  spec: spec.json
parameters: table.csv
data:
  path: tower.csv
  latitude: 48.0
  observed:
    nep: {column: nep, sign: nep, unit: gC m-2 d-1}
  quality: {column: n_good, minimum: 24}
  split:
    method: dates
    select: [[2016-03-01, 2016-03-20]]
    test: [[2016-04-01, 2016-04-20]]
inversion:
  lr: 0.05
  max_iters: 60
logger: false
trainer:
  accelerator: cpu
  limit_train_batches: 20
  enable_progress_bar: false
"""
TABLE = """\
name,unit,description,prior,prior_sd,min,max,scale,fixed
s1,-,first,2.0,0.5,0.5,3.5,lin,false
s2,-,second,2.0,0.5,0.5,3.5,lin,false
s3,-,third,2.0,0.5,0.5,3.5,lin,false
"""


def write_toy_fit(folder: Path, days: int = 120) -> Path:
    """Write everything that `fit` needs, with noise-free NEP of the toy surrogate at a known truth.

    Returns:
        The config.
    """
    surrogate = toy_surrogate()
    architecture = {"class_path": "lit_invert.testing.ToyNetwork"}
    spec = {**vars(surrogate.spec), "loader": "import", "architecture": architecture}
    SurrogateSpec(**spec).save(folder / "spec.json")
    forcing = toy_forcing(days)
    scaled = surrogate.static_scaler.to_scaled(toy_truth().float())[None]
    nep = surrogate(scaled, surrogate.prepare(forcing))[0, :, 2]
    frame = pd.DataFrame(forcing[0].numpy(), columns=[v.name for v in surrogate.spec.drivers])
    frame.insert(0, "date", pd.date_range("2016-01-01", periods=days).strftime("%Y-%m-%d"))
    frame["nep"], frame["n_good"] = nep.numpy(), 48
    frame.to_csv(folder / "tower.csv", index=False)
    (folder / "table.csv").write_text(TABLE)
    (folder / "config.yaml").write_text(CONFIG)
    return folder / "config.yaml"


def finished_toy_run(folder: Path, inversion: str = "") -> tuple[Path, dict[str, Any]]:
    """Fit the toy and write its results alone, without figures and report.

    Args:
        folder: Where all of it goes.
        inversion: More lines of the block `inversion`, indented.

    Returns:
        The folder of the run, and its metrics.
    """
    path = write_toy_fit(folder)
    path.write_text(path.read_text().replace("inversion:\n", f"inversion:\n{inversion}"))
    registry = load_plugins()
    config = parse_fit(["--config", str(path)], registry)
    inputs = read_inputs(config, registry)
    (result,) = invert_sites(
        inputs.surrogate, inputs.table, [inputs.record], config.inversion, trainer=config.trainer, logger=False
    )
    tables = tabulate(result, inputs.site, inputs.sealed, inputs.surrogate.spec)
    run = open_run_folder(folder / "logs", config.name)
    write_results(run, tables, config_text=config.text, provenance={})
    return run, tables.metrics
