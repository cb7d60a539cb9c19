"""Make surrogates of other sizes, once, for benchmarks that ask how cost grows with the network.

    python tools/bench/train_surrogates.py --sizes 64x1,256x1,128x2

Each is distilled from the shipped surrogate, which is cheaper than the process model: parameters from prior and box, weather that
the sites might have had, the teacher's fluxes as targets. Students start from the teacher's own weights (:mod:`net2net`) and are as
good as a few minutes on one core make them, which their model card says.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import lightning.pytorch as pl
import numpy as np
import torch
from net2net import grow
from problems import ASSETS, CACHE, SHIPPED, SITES, TABLE, bench_sites, bench_surrogate, bench_table, surrogate_folder
from torch import Tensor

from lit_invert.process.ensemble import Ensemble, Ensembles, EnsembleSettings, WeatherSite, draw_statics
from lit_invert.process.weather import perturb
from lit_invert.surrogates.base import FrozenSurrogate
from lit_invert.surrogates.lstm import LSTMSurrogate
from lit_invert.training import EnsembleData, SurrogateTraining, TrainSettings, run_network, score, write_artefact

LENGTHS = [183, 366, 366, 731]
#: Multiply-adds of all layers over a run, which take one core about five minutes: a larger network gets fewer steps.
WORK, MOST_STEPS = 1e7, 1000


def main(argv: Sequence[str] | None = None) -> None:
    """Train what is asked for and not there yet."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", default="64x1,256x1,128x2", help="hidden size x layers, comma-separated")
    parser.add_argument("--cache", type=Path, default=CACHE)
    options = parser.parse_args(argv)
    torch.set_num_threads(1)
    os.nice(10)
    sizes = [tuple(map(int, size.split("x"))) for size in options.sizes.split(",")]
    missing = [size for size in sizes if size != SHIPPED and not (surrogate_folder(*size, options.cache) / "spec.json").exists()]
    if missing:
        teacher, settings = bench_surrogate(), ensemble_settings()
        ensembles = draw_ensembles(teacher, settings)
        for hidden, layers in missing:
            distil(teacher, ensembles, settings, hidden, layers, surrogate_folder(hidden, layers, options.cache))


def ensemble_settings() -> EnsembleSettings:
    """Return how many members there are, how long, and under which weather."""
    sites = [WeatherSite(str(ASSETS / "sites" / f"{name}.csv"), latitude) for name, latitude in SITES.items()]
    return EnsembleSettings(sites, str(TABLE), members=2000, held_out_members=100, days=LENGTHS[-1], near_prior=0.5)


def draw_ensembles(teacher: FrozenSurrogate, settings: EnsembleSettings) -> Ensembles:
    """Draw members and let the teacher simulate them."""
    static = draw_statics(bench_table(teacher), settings.members + settings.held_out_members, settings.near_prior, settings.seed)
    random, sites = np.random.default_rng(settings.seed), bench_sites()
    weather = [perturb(sites[i % len(sites)], settings.days, random).astype(np.float32) for i in range(len(static))]
    forcing = torch.from_numpy(np.stack(weather))
    training, held_out = (
        simulate_teacher(teacher, some, drivers)
        for some, drivers in zip(static.split(settings.members), forcing.split(settings.members), strict=True)
    )
    return Ensembles(training, held_out, Ensemble(static[:0].float(), forcing[:0], torch.empty(0, 0, 4)))


def simulate_teacher(teacher: FrozenSurrogate, static: Tensor, forcing: Tensor) -> Ensemble:
    """Let the teacher simulate members: static (B, P) and forcing (B, T, F), physical."""
    members = Ensemble(static.float(), forcing, torch.empty(0))
    # A clone, because tensors of inference mode cannot be targets.
    return replace(members, simulated=run_network(network_of(teacher), members, teacher.spec).clone())


def network_of(surrogate: FrozenSurrogate) -> LSTMSurrogate:
    """Return the network inside a surrogate."""
    assert isinstance(surrogate.network, LSTMSurrogate)
    return surrogate.network


def distil(
    teacher: FrozenSurrogate, ensembles: Ensembles, ensemble: EnsembleSettings, hidden: int, layers: int, folder: Path
) -> None:
    """Train a student of another size on the teacher's fluxes, and write it.

    Args:
        teacher: The shipped surrogate.
        ensembles: What it simulated.
        ensemble: How that was drawn.
        hidden: Hidden size of the student.
        layers: Layers of the student.
        folder: Where to write it.
    """
    pl.seed_everything(ensemble.seed, verbose=False)
    start, name = time.process_time(), folder.name
    spec = replace(
        teacher.spec,
        name=name,
        architecture={**teacher.spec.architecture, "hidden_size": hidden, "num_layers": layers},
        accuracy={},
    )
    settings = TrainSettings(
        ensemble,
        str(folder),
        name,
        spec.architecture,
        trainer={"max_steps": min(MOST_STEPS, int(WORK / (layers * hidden**2)))},
        lr=1e-3,
        batch_size=16,
        lengths=LENGTHS,
        notes="Distilled from the shipped surrogate, from its own weights (Net2Net, arXiv:1511.05641); for benchmarks only.",
    )
    student = LSTMSurrogate(**spec.architecture)
    grow(student, network_of(teacher))
    module = SurrogateTraining(
        student, settings.lr, settings.weight_decay, LENGTHS, settings.nep_weight, ensembles.training.simulated.std((0, 1))
    )
    trainer = pl.Trainer(
        **settings.trainer,
        accelerator="cpu",
        gradient_clip_val=1.0,
        limit_val_batches=0,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(module, EnsembleData(ensembles, spec, settings.batch_size))
    write_artefact(folder, spec, student.eval(), ensembles, settings)
    skill = score(run_network(student, ensembles.members, spec), ensembles.members.simulated)["nep"]["r2"]
    print(f"{name}: R2 of NEP against the teacher {skill:.4f}, {time.process_time() - start:.0f} s of CPU time", flush=True)


if __name__ == "__main__":
    main()
