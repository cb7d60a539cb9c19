"""Runs of neuralhydrology, read without that package: its folder says everything but the units.

A run folder holds `config.yml`, `train_data/train_data_scaler.yml` and one `model_epochNNN.pt` for each epoch. The static
attributes become the parameters to invert, the dynamic inputs the drivers, the target variables the outputs. The package sorts the
attributes by name before its network sees them, and so do we; drivers and targets keep the config's order.

The package predicts a day from the `seq_length` days that end with it, starting from nothing. Here the network runs once through
the whole record. The first day that has all its `seq_length` days is the same number; afterwards the network remembers more than
it could in training. The days before that one are the warm-up. For the package's own numbers on every day, at `seq_length` times
the cost, a `spec.json` in the folder says `"windows": {"context_days": seq_length - 1, "horizon_days": 1}`.

Files of a run are data and stay so: YAML is read as text without tags, tensors without unpickling, and pickled scalers not at all.

Source:
    Kratzert et al. (2022), doi:10.21105/joss.04050.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

from ...errors import SurrogateError
from ...trust import Trust
from ..base import SurrogateSpec
from ..loaders import SurrogateLoader
from ..weights import check_tensors, fill, first_line, needed, read_tensors
from .config import RunConfig, parse_whole
from .networks import Architecture, build_network, rename_tensors
from .scaler import RunScaler

_CONFIG, _SCALER, _WEIGHTS = "config.yml", "train_data/train_data_scaler.yml", "model_epoch*.pt"

#: Keys that give the network inputs or outputs beyond attributes, drivers and targets.
_REFUSED = (
    "autoregressive_inputs",
    "clip_targets_to_zero",
    "dynamic_conceptual_inputs",
    "evolving_attributes",
    "forecast_inputs",
    "hindcast_inputs",
    "hydroatlas_attributes",
    "mass_inputs",
    "nan_handling_method",
    "timestep_counter",
    "use_basin_id_encoding",
    "use_frequencies",
)


class NeuralHydrologyLoader(SurrogateLoader):
    """A run of neuralhydrology: cudalstm, customlstm, embcudalstm, ealstm or gru with a regression head."""

    name = "neuralhydrology"
    described_by = _CONFIG

    def describe(self, folder: Path) -> SurrogateSpec | None:
        """Describe a run by its config, its scaler and its newest weights."""
        epochs = sorted((path for path in folder.glob(_WEIGHTS) if _epoch(path).isdecimal()), key=lambda path: int(_epoch(path)))
        if not epochs and not (folder / _SCALER).parent.is_dir():
            return None
        if not epochs:
            raise SurrogateError(f"{folder}: expected weights {_WEIGHTS}, found none. Train the run first, or copy them here.")
        config = RunConfig(folder / _CONFIG)
        config.refuse(_REFUSED)
        scaler = RunScaler(folder / _SCALER)
        values = {
            "name": str(config.get("experiment_name") or folder.name),
            "statics": scaler.attributes(sorted(config.names("static_attributes"))),
            "drivers": scaler.series(config.names("dynamic_inputs")),
            "outputs": scaler.series(config.names("target_variables")),
            "loader": self.name,
            "weights": epochs[-1].name,
            "architecture": _architecture(config),
            "outputs_scaled": True,
            "warmup_days": config.whole("seq_length") - 1,
        }
        return SurrogateSpec.from_dict(values, str(folder / _SCALER))

    def load(self, spec: SurrogateSpec, weights: Path | None, trust: Trust) -> nn.Module:
        """Build the network, and fill in its tensors under our names."""
        path = needed(weights, spec)
        where = f"surrogate spec {spec.name!r}, `architecture`"
        architecture = Architecture.from_dict(spec.architecture, where)
        tensors = rename_tensors(read_tensors(path), architecture, path)
        sizes = len(spec.statics), len(spec.drivers), len(spec.outputs)
        try:
            with torch.device("meta"):  # without memory: nobody has checked the sizes yet
                check_tensors(build_network(architecture, *sizes), tensors, path)
            network = build_network(architecture, *sizes)
        except SurrogateError:
            raise
        except Exception as error:
            raise SurrogateError(f"{where}: cannot be built ({first_line(error)}). Mend its sizes.") from error
        fill(network, tensors, path)
        return network.network if network.is_plain else network


def _epoch(weights: Path) -> str:
    return weights.stem.removeprefix("model_epoch")


def _architecture(config: RunConfig) -> dict[str, Any]:
    head = config.get("head")
    if not isinstance(head, str) or head.lower() != "regression":
        raise SurrogateError(f"{config.path}: `head` is {head!r:.60}, expected 'regression'.")
    values = {
        "model": config.get("model"),
        "hidden_size": config.whole("hidden_size"),
        "output_activation": config.get("output_activation") or "linear",
        "statics_embedding": _embedding(config, "statics_embedding"),
        "dynamics_embedding": _embedding(config, "dynamics_embedding"),
    }
    Architecture.from_dict(values, str(config.path))
    return values


def _embedding(config: RunConfig, key: str) -> dict[str, Any] | None:
    value = config.get(key)
    if value is None:
        return None
    if not isinstance(value, dict) or str(value.get("type", "fc")).lower() != "fc":
        raise SurrogateError(f"{config.path}: `{key}` is {value!r:.80}, expected type fc, `hiddens` and `activation`.")
    hiddens = value.get("hiddens")
    sizes = hiddens if isinstance(hiddens, list) else [hiddens]
    return {"hiddens": [parse_whole(size) or size for size in sizes], "activation": value.get("activation", "tanh")}
