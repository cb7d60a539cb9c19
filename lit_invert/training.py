"""Train a surrogate of the process model, judge it where it has not been, and write what can be shipped.

The members' fluxes span two orders of magnitude. Errors are therefore weighed against each member's own variability and the
ensemble's, so that neither the largest nor the faintest member decides what the network learns.
"""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from inspect import signature
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
import torch
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from safetensors.torch import load_file, save
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

from .atomic import write_bytes, write_text
from .errors import ConfigError, suggest
from .parameters import ParameterTable, load_parameter_table
from .process.ensemble import Ensemble, Ensembles, EnsembleSettings, build_ensembles
from .process.environment import DRIVERS
from .process.simcycle import OUTPUTS
from .surrogates.base import SurrogateSpec, Variable, file_hash
from .surrogates.lstm import CarbonHead, LSTMSurrogate

DRIVER_UNITS = ("K", "K", "K", "K", "W m-2", "%", "kg m-2 s-1", "kg kg-1", "m s-1", "ppm", "h", "-")
FLUX_UNIT = "gC m-2 d-1"


@dataclass
class TrainSettings:
    """A training run: what to learn from, which network, how, and where to put it."""

    ensemble: EnsembleSettings
    """The members to learn from and to be judged on."""
    output: str
    """Folder for weights.safetensors, spec.json, MODEL_CARD.md and holdout.npz."""
    name: str = "simcycle_lstm"
    """Name of the surrogate."""
    architecture: dict[str, Any] = field(default_factory=dict)
    """Arguments of `LSTMSurrogate` beside the numbers of inputs and outputs."""
    trainer: dict[str, Any] = field(default_factory=dict)
    """Arguments of Lightning's Trainer, passed on as they are."""
    lr: float = 3e-3
    """Peak learning rate of AdamW under a one-cycle schedule."""
    weight_decay: float = 1e-2
    """Weight decay of AdamW."""
    batch_size: int = 64
    """Members a step."""
    lengths: list[int] = field(default_factory=lambda: [366, 366, 731, 1461])
    """Days from the start that a step may see, in the order in which training opens them; one is drawn a step."""
    nep_weight: float = 2.0
    """Weight of NEP beside 1 for each other flux."""
    start_from: str | None = None
    """Weights to go on from, of the same architecture."""
    notes: str = ""
    """What was tried; goes into the model card."""
    seed: int = 0
    """Seed of the network and of the order of members."""


class SurrogateTraining(pl.LightningModule):
    """One network learning one process model.

    Args:
        network: The surrogate to train.
        lr: Peak learning rate.
        weight_decay: Weight decay of AdamW.
        lengths: Days from the start that a step may see.
        nep_weight: Weight of NEP beside 1 for each other flux.
        spread: Standard deviation of each flux over the ensemble, `output`-long.
    """

    flux_weight: Tensor
    spread: Tensor

    def __init__(
        self,
        network: LSTMSurrogate,
        lr: float,
        weight_decay: float,
        lengths: Sequence[int],
        nep_weight: float,
        spread: Tensor,
    ) -> None:
        super().__init__()
        self.network = network
        self.lr, self.weight_decay, self.lengths = lr, weight_decay, list(lengths)
        self.register_buffer("flux_weight", torch.tensor([1.0, 1.0, nep_weight, 1.0]), persistent=False)
        self.register_buffer("spread", spread, persistent=False)

    def training_step(self, batch: list[Tensor], batch_index: int) -> Tensor:
        """Learn from a batch of members, cut to one of the lengths."""
        progress = self.global_step / max(int(self.trainer.estimated_stepping_batches), 1)
        allowed = 1 + min(int(progress * len(self.lengths)), len(self.lengths) - 1)
        days = self.lengths[int(torch.randint(allowed, ()))]
        static, forcing, target = batch
        simulated = self.network(static, forcing[:, :days])
        loss = member_loss(simulated, target[:, :days], self.spread, self.flux_weight)
        self.log("loss/train", loss, prog_bar=True, on_step=False, on_epoch=True)
        return loss

    def validation_step(self, batch: list[Tensor], batch_index: int) -> None:
        """Judge a batch of held-out members over their whole record."""
        static, forcing, target = batch
        rmse = (self.network(static, forcing) - target).square().mean((0, 1)).sqrt()
        for name, value in zip(OUTPUTS, rmse, strict=True):
            self.log(f"rmse/{name}", value, prog_bar=name == "nep", batch_size=len(static))

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """AdamW under a one-cycle schedule over the whole run."""
        optimizer = torch.optim.AdamW(self.parameters(), lr=self.lr, weight_decay=self.weight_decay)
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, self.lr, total_steps=int(self.trainer.estimated_stepping_batches), pct_start=0.1
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def member_loss(simulated: Tensor, target: Tensor, spread: Tensor, flux_weight: Tensor) -> Tensor:
    r"""Mean squared error against each member's own variability.

    .. math:: L = \frac{1}{B T \sum_v w_v} \sum_{b,t,v} w_v
        \frac{(s_{btv} - o_{btv})^2}{\sigma_{bv}^2 + \sigma_v^2}

    Args:
        simulated: A `batch x time x output` tensor [gC m-2 d-1].
        target: The process model's fluxes, same shape.
        spread: Standard deviation over the ensemble, `output`-long.
        flux_weight: Weight of each flux.

    Returns:
        A scalar.

    Source:
        Kratzert et al. (2019), doi:10.5194/hess-23-5089-2019, equation 2, with the ensemble's variance added.
    """
    variability = target.var(1, correction=0, keepdim=True) + spread**2
    squared = ((simulated - target).square() / variability).mean((0, 1))
    return (squared * flux_weight).sum() / flux_weight.sum()


class EnsembleData(pl.LightningDataModule):
    """Scaled members for training and for judging.

    Args:
        ensembles: The members, physical.
        spec: Scaling of statics and drivers.
        batch_size: Members a step.
    """

    def __init__(self, ensembles: Ensembles, spec: SurrogateSpec, batch_size: int) -> None:
        super().__init__()
        self.batch_size = batch_size
        self.training = TensorDataset(*to_network(ensembles.training, spec), ensembles.training.simulated)
        self.held_out = TensorDataset(*to_network(ensembles.members, spec), ensembles.members.simulated)

    def train_dataloader(self) -> DataLoader[tuple[Tensor, ...]]:
        """Shuffled training members; a last small batch is left out."""
        drop_last = len(self.training) >= self.batch_size
        return DataLoader(self.training, self.batch_size, shuffle=True, drop_last=drop_last)

    def val_dataloader(self) -> DataLoader[tuple[Tensor, ...]]:
        """Held-out members."""
        return DataLoader(self.held_out, self.batch_size)


def train(settings: TrainSettings) -> Path:
    """Simulate the ensemble, train the network, judge it, and write the artefact.

    Args:
        settings: The run.

    Returns:
        The folder with weights, spec, model card and held-out slice.
    """
    pl.seed_everything(settings.seed)
    ensembles = build_ensembles(settings.ensemble)
    table = load_parameter_table(settings.ensemble.parameters)
    spec = describe(settings, table, ensembles.training)
    network = build_network(spec, ensembles.training, settings.start_from)
    module = SurrogateTraining(
        network,
        settings.lr,
        settings.weight_decay,
        settings.lengths,
        settings.nep_weight,
        ensembles.training.simulated.std((0, 1)),
    )
    trainer = pl.Trainer(**settings.trainer)
    trainer.fit(module, EnsembleData(ensembles, spec, settings.batch_size))
    return write_artefact(Path(settings.output), spec, network.eval().cpu(), ensembles, settings)


def describe(settings: TrainSettings, table: ParameterTable, training: Ensemble) -> SurrogateSpec:
    """Write the spec of a network to be trained: names, units, scaling and the range of the training members.

    Statics are scaled by the box, in the logarithm where the table says so, so that scaled values are within about 1.7
    of zero; drivers by their mean and spread over the ensemble.

    Args:
        settings: The run.
        table: The static parameters.
        training: Members that the network will see.

    Returns:
        The spec, without hash and accuracy.
    """
    architecture = {
        "n_static": len(table),
        "n_forcing": len(DRIVERS),
        "n_output": len(OUTPUTS),
        **settings.architecture,
    }
    return SurrogateSpec(
        name=settings.name,
        statics=tuple(_static_variable(table, i) for i in range(len(table))),
        drivers=tuple(_driver_variable(training, i) for i in range(len(DRIVERS))),
        outputs=tuple(Variable(name, FLUX_UNIT) for name in OUTPUTS),
        loader="lstm",
        weights="weights.safetensors",
        architecture=architecture,
        description="LSTM surrogate of the 36-parameter daily carbon model simcycle",
    )


def build_network(spec: SurrogateSpec, training: Ensemble, start_from: str | None = None) -> LSTMSurrogate:
    """Build the network of a spec, its flux scales set to the ensemble's means or its weights loaded.

    Args:
        spec: What to build.
        training: Members whose mean fluxes set the scale of a carbon head.
        start_from: Weights to load instead.

    Returns:
        The network.

    Raises:
        ConfigError: If an argument of the architecture is unknown.
    """
    known = signature(LSTMSurrogate).parameters
    for key in spec.architecture:
        if key not in known:
            raise ConfigError(f"`architecture.{key}` is no argument of LSTMSurrogate.{suggest(key, known)}")
    network = LSTMSurrogate(**spec.architecture)
    if start_from is not None:
        network.load_state_dict(load_file(start_from))
    elif isinstance(network.head, CarbonHead):
        gpp, npp, _, rh = training.simulated.mean((0, 1))
        network.head.flux_scale.copy_(torch.stack([gpp, gpp - npp, rh]))
    return network


def to_network(ensemble: Ensemble, spec: SurrogateSpec) -> tuple[Tensor, Tensor]:
    """Scale statics and forcing of an ensemble as the network takes them."""
    static = spec.static_scaler().to_scaled(ensemble.static.double()).float()
    mean = torch.tensor([v.mean for v in spec.drivers])
    std = torch.tensor([v.std for v in spec.drivers])
    return static, (ensemble.forcing - mean) / std


@torch.inference_mode()
def run_network(network: LSTMSurrogate, ensemble: Ensemble, spec: SurrogateSpec) -> Tensor:
    """Simulate all members of an ensemble with the network, `member x time x output` [gC m-2 d-1]."""
    static, forcing = to_network(ensemble, spec)
    return torch.cat([network(s, f) for s, f in zip(static.split(64), forcing.split(64), strict=True)])


def score(simulated: Tensor, target: Tensor) -> dict[str, dict[str, float]]:
    """Return R2 and RMSE of each flux, pooled over days and members.

    Args:
        simulated: A `member x time x output` tensor [gC m-2 d-1].
        target: The process model's fluxes, same shape.

    Returns:
        For each flux `r2` [-] and `rmse` [gC m-2 d-1].
    """
    errors = (simulated - target).double().square().mean((0, 1))
    variance = target.double().var((0, 1), correction=0)
    return {
        name: {"r2": 1.0 - (error / spread).item(), "rmse": error.sqrt().item()}
        for name, error, spread in zip(OUTPUTS, errors, variance, strict=True)
    }


def write_artefact(
    folder: Path,
    spec: SurrogateSpec,
    network: LSTMSurrogate,
    ensembles: Ensembles,
    settings: TrainSettings,
) -> Path:
    """Judge the network and write weights, spec, model card and a held-out slice.

    Args:
        folder: Where to; made if missing.
        spec: The spec from `describe`.
        network: The trained network.
        ensembles: The members to be judged on.
        settings: The run, for the model card.

    Returns:
        The folder.
    """
    folder.mkdir(parents=True, exist_ok=True)
    weights = folder / "weights.safetensors"
    tensors = {name: value.contiguous() for name, value in network.state_dict().items()}
    write_bytes(weights, save(tensors))
    scores = {
        part: score(run_network(network, ensemble, spec), ensemble.simulated)
        for part, ensemble in (("members", ensembles.members), ("years", ensembles.years))
        if len(ensemble)
    }
    accuracy = {name: values["rmse"] for name, values in scores["members"].items()}
    replace(spec, sha256=file_hash(weights), accuracy=accuracy).save(folder / "spec.json")
    write_text(folder / "MODEL_CARD.md", model_card(spec, scores, settings))
    write_holdout(folder / "holdout.npz", ensembles.members)
    return folder


def model_card(spec: SurrogateSpec, scores: dict[str, dict[str, dict[str, float]]], settings: TrainSettings) -> str:
    """Describe the surrogate in Markdown: what it stands for, how good it is where, and what it must not be used for.

    Args:
        spec: The network's spec.
        scores: For `members` and `years` what `score` returned.
        settings: The run.

    Returns:
        The text.
    """
    ensemble = settings.ensemble
    sites = "; ".join(
        f"{Path(site.path).stem}" + (f" without {site.held_out_years}" if site.held_out_years else "") for site in ensemble.sites
    )
    architecture = ", ".join(f"{key} {value}" for key, value in spec.architecture.items())
    return _CARD.format(
        name=spec.name,
        description=spec.description,
        members=ensemble.members,
        held_out_members=ensemble.held_out_members,
        days=ensemble.days,
        near_prior=round(100 * ensemble.near_prior),
        sites=sites,
        seed=ensemble.seed,
        architecture=architecture,
        trainer=settings.trainer,
        lr=settings.lr,
        batch_size=settings.batch_size,
        lengths=settings.lengths,
        scores=_score_table(scores),
        ranges=_range_table(spec),
        notes=settings.notes.strip() or "Nothing else.",
    )


def _score_table(scores: dict[str, dict[str, dict[str, float]]]) -> str:
    rows = [
        f"| {flux} | {part} | {values['r2']:.4f} | {values['rmse']:.3f} |"
        for part, fluxes in scores.items()
        for flux, values in fluxes.items()
    ]
    return "\n".join(["| flux | held out | R2 | RMSE [gC m-2 d-1] |", "| --- | --- | --- | --- |", *rows])


def _range_table(spec: SurrogateSpec) -> str:
    rows = [f"| {v.name} | {v.unit} | {v.minimum:.4g} | {v.maximum:.4g} |" for v in spec.drivers]
    return "\n".join(["| driver | unit | least | most |", "| --- | --- | --- | --- |", *rows])


_CARD = """# {name}

{description}. It maps 36 static parameters and 12 daily drivers to GPP, NPP, NEP and Rh [gC m-2 d-1]; NPP = GPP - Ra and
NEP = NPP - Rh hold by construction. The process model and its sources are described in `docs/process-model.md`.

## How good it is

Pooled over days and members; the process model is the truth. `members` are parameter sets never trained on, under perturbed
weather of {days} days; `years` are those parameter sets under measured years of weather that no training member saw.

{scores}

## What it learned from

{members} training members and {held_out_members} held-out members of {days} days each (seed {seed}): parameters from a
scrambled Sobol sequence, {near_prior} % of them from the prior truncated to the box, the others over the whole box. Weather:
{sites}; years resampled, days moved within the season, temperature by up to 4 K and day-to-day anomalies, rain by a factor of
0.5 to 1.6, shortwave by 0.85 to 1.15, CO2 from 320 to 520 ppm, latitude by up to 3 degrees. Ranges of the drivers seen:

{ranges}

Ranges of the parameters are those of the parameter table.

## The network and its training

{architecture}. AdamW, one-cycle peak learning rate {lr}, {batch_size} members a step, lengths {lengths} opened in that order.
Trainer: {trainer}.

What was tried:

{notes}

## Limits

- Records start on the first of January, as all training records do; the state before the first day belongs to that season.
- Two temperate sites of the northern hemisphere: other climates are extrapolation, which the ranges above and in `spec.json` show.
- It is a surrogate of a compact model, not of nature: an inversion's optimum should be re-simulated with the process model.
"""


def write_holdout(path: Path, held_out: Ensemble, members: int = 6, days: int = 731) -> None:
    """Store a slice of the held-out members, with which anyone can check the weights.

    Args:
        path: The npz file with `static`, `forcing` and `simulated`, physical, float32.
        held_out: The held-out members.
        members: How many of them.
        days: How many days from the start.
    """
    buffer = io.BytesIO()
    np.savez_compressed(
        buffer,
        static=held_out.static[:members].numpy(),
        forcing=held_out.forcing[:members, :days].numpy(),
        simulated=held_out.simulated[:members, :days].numpy(),
    )
    write_bytes(path, buffer.getvalue())


def _static_variable(table: ParameterTable, i: int) -> Variable:
    lower, upper = (side[i].item() for side in table.bounds.resolve(table.prior))
    is_log = bool(table.log[i])
    low, high = (math.log(lower), math.log(upper)) if is_log else (lower, upper)
    return Variable(
        table.names[i],
        table.units[i],
        mean=(low + high) / 2.0,
        std=(high - low) / math.sqrt(12.0),
        log=is_log,
        minimum=lower,
        maximum=upper,
    )


def _driver_variable(training: Ensemble, i: int) -> Variable:
    values = training.forcing[..., i].double()
    return Variable(
        DRIVERS[i],
        DRIVER_UNITS[i],
        mean=values.mean().item(),
        std=values.std().item(),
        minimum=values.min().item(),
        maximum=values.max().item(),
    )
