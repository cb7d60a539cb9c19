"""Train the windowed stand-in for VISIT-LHP's surrogate, and make the twin tower that its config inverts.

An ensemble of :mod:`tools.visit_lhp` is simulated, an LSTM learns windows of it, each 180 days of context and 30 of horizon, and is
judged as it will be used, window after window, on parameters and weather that it has not seen. Run it from the repository's root:

    python -m tools.train_visit_lhp --output lit_invert/assets/visit_lhp
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from safetensors.torch import save
from torch import Tensor

from lit_invert.atomic import write_bytes
from lit_invert.observations import FLUX_UNITS
from lit_invert.parameters import ParameterTable, load_parameter_table
from lit_invert.process.ensemble import Ensemble, draw_statics
from lit_invert.process.environment import DRIVERS
from lit_invert.process.simcycle import OUTPUTS
from lit_invert.process.weather import MEASURED
from lit_invert.surrogates.base import FrozenSurrogate, SurrogateSpec, Variable, file_hash
from lit_invert.surrogates.lstm import CarbonHead, LSTMSurrogate
from lit_invert.surrogates.windows import Windows
from lit_invert.training import DRIVER_UNITS, member_loss, score
from tools.visit_lhp import FIRST_DAY, draw_weather, simulate

TABLE = Path(__file__).parents[1] / "lit_invert/assets/parameters/visit_lhp_36.csv"
UNIT = "MgC ha-1 d-1"
WINDOWS = Windows(context_days=180, horizon_days=30)
DAYS = 3 * 365
MEMBERS, HELD_OUT = 6144, 2048
NEAR_PRIOR = 0.6
"""Share of members drawn around the prior; the others fill the box."""
CHUNK = 1024  # members simulated at once
ARCHITECTURE: dict[str, Any] = {
    "n_static": 36,
    "n_forcing": len(DRIVERS),
    "n_output": len(OUTPUTS),
    "hidden_size": 56,
    "static_embedding": 40,
    "conditioning": "both",
    "climatology": True,
    "head": "carbon",
}
LEARNT_DAYS = 120
"""Last days of a window whose errors count in training: the horizon alone teaches a quarter as much a step."""
BATCH, PEAK_RATE, WEIGHT_DECAY = 128, 6e-3, 1e-2
FLUX_WEIGHT = torch.tensor([1.0, 1.0, 2.0, 1.0])

TWIN_SEED = 5
"""Which draw from the prior the twin's parameters are, and which weather it has."""
TWIN_NOISE = (0.25, 0.15)
"""Standard deviation of the twin's noise on a day: a constant and a share of NEP [gC m-2 d-1]."""
TWIN_GAPS = 0.25
"""Share of days without an observation."""


def main() -> None:
    """Simulate, train, judge, and write weights, spec, model card and twin tower."""
    arguments = _arguments()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    table = load_parameter_table(TABLE)
    training, held_out = run_members(table, MEMBERS, seed=0), run_members(table, HELD_OUT, seed=1)
    print(f"{MEMBERS + HELD_OUT} members of {DAYS} days simulated in {time.process_time():.0f} s")
    spec = describe(table, training)
    network = train(build_network(training), training, spec, arguments.steps)
    print(f"trained after {time.process_time():.0f} s of processor time")
    write_artefact(arguments.output, spec, network, held_out, arguments.steps)
    write_twin(arguments.output / "twin_tower.csv", table)


def run_members(table: ParameterTable, members: int, seed: int) -> Ensemble:
    """Run the process stand-in for parameter sets under weather of their own, all from one seed; fluxes in gC m-2 d-1."""
    static = draw_statics(table, members, NEAR_PRIOR, seed)
    forcing = draw_weather(members, DAYS, np.random.default_rng(seed))
    with torch.inference_mode():
        simulated = [_simulate(table, *part) for part in zip(static.split(CHUNK), forcing.split(CHUNK), strict=True)]
    return Ensemble(static.float(), forcing, torch.cat(simulated).clone())


def _simulate(table: ParameterTable, static: Tensor, forcing: Tensor) -> Tensor:
    return simulate(dict(zip(table.names, static.unbind(1), strict=True)), forcing).float()


def describe(table: ParameterTable, training: Ensemble) -> SurrogateSpec:
    """Write the spec of the network: parameters scaled by their box, drivers by the ensemble."""
    lower, upper = (side.tolist() for side in table.bounds.resolve(table.prior))
    static, forcing = training.static.double(), training.forcing.flatten(0, 1).double()
    statics = [
        Variable(name, unit, (low + high) / 2, (high - low) / math.sqrt(12), minimum=least.item(), maximum=most.item())
        for name, unit, low, high, least, most in zip(
            table.names, table.units, lower, upper, static.amin(0), static.amax(0), strict=True
        )
    ]
    drivers = [
        Variable(name, unit, column.mean().item(), column.std().item(), minimum=column.min().item(), maximum=column.max().item())
        for name, unit, column in zip(DRIVERS, DRIVER_UNITS, forcing.unbind(1), strict=True)
    ]
    return SurrogateSpec(
        name="visit_lhp_stand_in",
        statics=tuple(statics),
        drivers=tuple(drivers),
        outputs=tuple(Variable(name, UNIT) for name in OUTPUTS),
        weights="weights.safetensors",
        architecture=ARCHITECTURE,
        windows=WINDOWS,
        description="Stand-in for the surrogate of VISIT at Lambir Hills: its interface, and two canopies of simcycle behind it",
    )


def build_network(training: Ensemble) -> LSTMSurrogate:
    """Build the LSTM, its flux scales set to the ensemble's means."""
    network = LSTMSurrogate(**ARCHITECTURE)
    assert isinstance(network.head, CarbonHead)
    gpp, npp, _, rh = training.simulated.mean((0, 1)) / FLUX_UNITS[UNIT]
    network.head.flux_scale.copy_(torch.stack([gpp, gpp - npp, rh]))
    return network


def train(network: LSTMSurrogate, training: Ensemble, spec: SurrogateSpec, steps: int) -> LSTMSurrogate:
    """Teach the network windows drawn from all members and days."""
    static = spec.static_scaler().to_scaled(training.static.double()).float()
    mean, std = (torch.tensor([getattr(v, key) for v in spec.drivers]) for key in ("mean", "std"))
    target = training.simulated / FLUX_UNITS[UNIT]
    spread = target.std((0, 1))
    optimizer = torch.optim.AdamW(network.parameters(), PEAK_RATE, weight_decay=WEIGHT_DECAY)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, PEAK_RATE, total_steps=steps, pct_start=0.1)
    for step in range(steps):
        member, start = torch.randint(len(static), (BATCH,)), torch.randint(DAYS - WINDOWS.days + 1, (BATCH,))
        days = start[:, None] + torch.arange(WINDOWS.days)
        window = (training.forcing[member[:, None], days] - mean) / std
        simulated = network(static[member], window)[:, -LEARNT_DAYS:]
        loss = member_loss(simulated, target[member[:, None], days[:, -LEARNT_DAYS:]], spread, FLUX_WEIGHT)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if step % 100 == 0:
            print(f"step {step}: {loss.item():.4f}", flush=True)
    return network.eval()


@torch.no_grad()
def judge(surrogate: FrozenSurrogate, held_out: Ensemble) -> dict[str, dict[str, float]]:
    """Return R2, RMSE and the median member's RMSE of each flux over the days after the first context, as an inversion has them."""
    static = surrogate.static_scaler.to_scaled(held_out.static)
    parts = zip(static.split(64), held_out.forcing.split(64), strict=True)
    simulated = torch.cat([surrogate(s, surrogate.prepare(f)) for s, f in parts])[:, WINDOWS.context_days :]
    target = held_out.simulated[:, WINDOWS.context_days :]
    typical = (simulated - target).square().mean(1).sqrt().median(0).values
    return {
        name: {**values, "median": median}
        for (name, values), median in zip(score(simulated, target).items(), typical.tolist(), strict=True)
    }


def write_artefact(folder: Path, spec: SurrogateSpec, network: LSTMSurrogate, held_out: Ensemble, steps: int) -> None:
    """Judge the network, and write its weights, spec and model card."""
    folder.mkdir(parents=True, exist_ok=True)
    weights = folder / "weights.safetensors"
    write_bytes(weights, save({name: value.contiguous() for name, value in network.state_dict().items()}))
    scores = judge(FrozenSurrogate(network, spec), held_out)
    accuracy = {name: values["rmse"] for name, values in scores.items()}
    replace(spec, sha256=file_hash(weights), accuracy=accuracy).save(folder / "spec.json")
    rows = [f"| {name} | {v['r2']:.3f} | {v['rmse']:.3f} | {v['median']:.3f} |" for name, v in scores.items()]
    print("\n".join(rows))
    (folder / "MODEL_CARD.md").write_text(model_card(rows, steps), encoding="utf-8")


def model_card(rows: Sequence[str], steps: int) -> str:
    """Say what the stand-in is, from the rows of its table of scores and the number of training steps."""
    near = round(100 * NEAR_PRIOR)
    return _CARD.format(members=MEMBERS, held_out=HELD_OUT, days=DAYS, near=near, scores="\n".join(rows), steps=steps)


def write_twin(path: Path, table: ParameterTable) -> None:
    """Write a tower that never stood: the stand-in's NEP at parameters of its own, with noise and gaps, and its weather."""
    random = np.random.default_rng(TWIN_SEED)
    forcing = draw_weather(1, DAYS, random)
    nep = _simulate(table, twin_parameters(table)[None], forcing)[0, :, OUTPUTS.index("nep")].double().numpy()
    observed = nep + (TWIN_NOISE[0] + TWIN_NOISE[1] * np.abs(nep)) * random.standard_normal(DAYS)
    observed[random.uniform(size=DAYS) < TWIN_GAPS] = np.nan
    frame = pd.DataFrame(forcing[0, :, : len(MEASURED)].numpy(), columns=list(MEASURED))
    frame.insert(0, "date", (FIRST_DAY + np.arange(DAYS)).astype(str))
    frame["twin_nep"] = observed / FLUX_UNITS[UNIT]
    frame.to_csv(path, index=False, float_format="%.6g")


def twin_parameters(table: ParameterTable) -> Tensor:
    """Return the twin's own parameters, which no file holds, (36,)."""
    return draw_statics(table, 1, 1.0, TWIN_SEED)[0]


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, required=True, help="folder for weights, spec, model card and twin tower")
    parser.add_argument("--steps", type=int, default=3000, help="training steps of 128 windows")
    parser.add_argument("--threads", type=int, default=1, help="threads of torch")
    return parser.parse_args()


_CARD = """# visit_lhp_stand_in

This is **not VISIT**, and no surrogate of VISIT: neither is public. It has the interface of the surrogate of VISIT at Lambir
Hills (36 static parameters of trees, C3 plants and soil; windows of 180 days of context and 30 of horizon; fluxes in MgC ha-1
d-1), so that `configs/visit_lhp.yaml` shows what such an inversion looks like and runs anywhere. Nothing that it says is a
result about the site.

## What is behind it

Two canopies of this project's process model `simcycle` (`docs/process-model.md`), trees and C3 plants in their shade, in
`tools/visit_lhp.py`. VISIT's parameters became those of `simcycle` as follows, `*` being `tree` or `c3`:

- `*_pmax`, `*_lue`, `*_sla`, `*_topt`, `*_tmin`, `*_tmax`, `*_rmf0`, `*_qTf0`, `*_qTc0`, `*_qTr0`, `*_lf0`, `*_lc0`, `*_lr0`:
  the parameter of that name in the canopy's own copy of `simcycle`; no turnover is slower than 1e-6 d-1.
- `*_alloc_ass`, `*_alloc_abg`: the leaves' share is `ass`, the stem's share of the rest `(abg - ass) / (1 - ass)`.
- `soil_sr_lf`, `soil_sr_lc`, `soil_sr_lr`: `simcycle` has one pool of litter, so 0.4, 0.3 and 0.3 of them make one rate. No
  flux can tell them apart; the prior does. `soil_f_co2_lf`, `soil_f_co2_lc`, `soil_f_co2_lr` likewise.
- Stomata, respiration of wood, humus, water and phenology have no parameter in the table: they are constants in
  `tools/visit_lhp.py`.

The trees take light first and the plants below get the rest; each canopy has soil and water of its own. The forest is evergreen
and as young as the stands of `simcycle` are: a sink. Its weather is invented: 26 degC, about 2.5 m of rain, dry spells of
weeks, at 4.2 N.

## How good it is

On {held_out} parameter sets and weathers that it never saw, {days} days each without the first 180, window after window as an
inversion runs it; the process stand-in is the truth.

| flux | R2 | RMSE [gC m-2 d-1] | the median member's RMSE |
| --- | --- | --- | --- |
{scores}

Errors are far from even: parameter sets at the edge of the box, whose canopy starves or just does not, make up most of them.

A window of 210 days does not show how full the pools of wood and soil are, so the network knows the drift of a record over its
years on average only.

## What it learned from

{members} parameter sets ({near} % around the prior, the others all over the box) of {days} days, each under weather of its own.
One LSTM of 56 units; static parameters are embedded in 40 numbers, which enter beside each day's weather and in the initial
state. {steps} steps of 128 windows by AdamW, about ten minutes on one core:

    python -m tools.train_visit_lhp --output lit_invert/assets/visit_lhp

## The twin tower

`twin_tower.csv` comes from the process stand-in and not from the network, at parameters that no file holds: `twin_nep` is its
NEP [MgC ha-1 d-1] with normal noise of 0.25 gC m-2 d-1 + 15 %, a quarter of the days missing; the other columns are its weather.
No tower measured it.

## Licence

Made by this project from its own code alone; Apache-2.0 as the rest of it.
"""

if __name__ == "__main__":
    main()
