"""Many sites: what a batch saves, what a run over a catalogue needs, what Ray adds, and what ten thousand sites would cost.

    python tools/bench/scale.py throughput --sites 200 --kernel native
    python tools/bench/scale.py memory
    python tools/bench/scale.py ray --sites 100
    python tools/bench/scale.py cost

Each slice prints a table in Markdown, and every measurement in it as a line of JSON before that. Sites are twins (`problems.py`):
truths of their own, measured weather where the record is short enough. Where other work shares the machine, wall times say little;
the processor time of this process stands beside them.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import median

import numpy as np
import pandas as pd
import torch
from problems import ASSETS, LAMBDA_PRIOR, TABLE, bench_surrogate, bench_table, draw_forcing, observe, simulate_surrogate

from lit_invert.assembly import Record
from lit_invert.driving import without_banners
from lit_invert.fit import FitConfig, SurrogateSettings
from lit_invert.inversion import invert_sites
from lit_invert.kernels.native import NativeKernel
from lit_invert.kernels.plain import PlainKernel
from lit_invert.many import fit_sites
from lit_invert.many.ray_engine import connected, load_ray
from lit_invert.parameters import ParameterTable
from lit_invert.plugins import build_registry
from lit_invert.process.ensemble import draw_statics
from lit_invert.results import InversionResult
from lit_invert.roles import SplitSettings
from lit_invert.settings import InversionSettings, ScaleSettings
from lit_invert.simulators import Simulator
from lit_invert.sites import DataSettings
from lit_invert.surrogates.base import FrozenSurrogate

TRAINER = {"accelerator": "cpu", "enable_progress_bar": False, "enable_checkpointing": False}
DAYS = 730
#: Sites of a catalogue that have a file of their own; those beyond read the same files again.
FILES = 100
#: The job of the cost model.
JOB_SITES, JOB_STARTS, JOB_YEARS = 10_000, 64, 10


def main() -> None:
    """Measure what the command line names."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("slice", choices=["throughput", "memory", "ray", "cost", "run"])
    parser.add_argument("--sites", type=int, default=100)
    parser.add_argument("--days", type=int, default=DAYS)
    parser.add_argument("--kernel", default="native", choices=["native", "numba", "torch", "none"])
    parser.add_argument("--threads", type=int, default=2, help="threads of the kernel, and of batches of differences")
    parser.add_argument("--batch", type=int, default=64, help="most sites of a batch")
    parser.add_argument("--pairs", type=int, default=1, help="how often both ways are run, one after the other")
    parser.add_argument("--workers", type=int, default=0, help="of Ray; 0: no Ray")
    parser.add_argument("--iterations", type=int, default=500, help="most iterations of a fit")
    options = parser.parse_args()
    torch.set_num_threads(1)
    slices: dict[str, Callable[[argparse.Namespace], None]] = {
        "throughput": throughput, "memory": memory, "ray": ray, "cost": cost, "run": run,
    }  # fmt: skip
    slices[options.slice](options)


# ------------------------------------------------------------------------------------------------------------------ throughput


def throughput(options: argparse.Namespace) -> None:
    """Invert the same sites one at a time and in batches."""
    surrogate = bench_surrogate()
    records = twin_records(surrogate, options.sites, options.days)
    settings = InversionSettings(
        solver="auto",
        kernel=options.kernel,
        kernel_threads=options.threads,
        lambda_prior=LAMBDA_PRIOR,
        max_iters=options.iterations,
    )
    invert_in_batches(surrogate, records[:2], settings, 2)  # compiles, and is compared with the surrogate
    pairs, losses = [], []
    for _ in range(options.pairs):
        alone, single = invert_in_batches(surrogate, records, settings, 1)
        batched, together = invert_in_batches(surrogate, records, settings, options.batch)
        pairs.append((alone, batched))
        losses = [abs(a / b - 1) for a, b in zip(map(final_loss, single), map(final_loss, together), strict=True)]
        for sites, spent in ((1, alone), (options.batch, batched)):
            say(
                kernel=options.kernel, sites=options.sites, days=options.days, threads=options.threads, batch=sites, **asdict(spent)
            )
    print(
        "| kernel | alone: wall, processor, kernel [s a site] | in batches | faster by: wall, processor | losses differ by, most |"
    )
    print("| --- | --- | --- | --- | --- |")
    alone, batched = (Spent.middle([pair[i] for pair in pairs]) for i in (0, 1))
    wall, processor = (median(getattr(a, name) / getattr(b, name) for a, b in pairs) for name in ("wall", "processor"))
    print(
        f"| {options.kernel} | {alone.a_site(options.sites)} | {batched.a_site(options.sites)} | {wall:.2f}x, {processor:.2f}x "
        f"| {max(losses):.0e}, median {median(losses):.0e} |"
    )


def final_loss(result: InversionResult) -> float:
    """Return the loss at the optimum."""
    return result.loss_optimum["loss/total"]


def twin_records(surrogate: FrozenSurrogate, sites: int, days: int) -> list[Record]:
    """Draw twin sites, each with a truth, gaps and noise of its own."""
    table = bench_table(surrogate)
    return [twin_record(surrogate, table, days, seed) for seed in range(sites)]


def twin_record(surrogate: FrozenSurrogate, table: ParameterTable, days: int, seed: int) -> Record:
    """Draw one."""
    random = np.random.default_rng(seed)
    truth = draw_statics(table, 1, near_prior=1.0, seed=seed)
    forcing = torch.as_tensor(draw_forcing(days, seed, random))
    fluxes = simulate_surrogate(surrogate, truth, forcing)[0]
    return Record(forcing, observe(fluxes.double().numpy(), surrogate.spec.output_names, random))


@dataclass(frozen=True)
class Spent:
    """What some inversions took in all [s]."""

    wall: float
    processor: float
    in_kernel: float
    """Processor time inside the kernel, or inside the batches of differences where there is none."""
    iterations: float
    """Of a site, mean."""
    load: float
    """Load average of the machine afterwards, this process included."""

    def a_site(self, sites: int) -> str:
        """Return the times of one site."""
        return ", ".join(f"{spent / sites:.3f}" for spent in (self.wall, self.processor, self.in_kernel))

    @classmethod
    def middle(cls, each: Sequence[Spent]) -> Spent:
        """Return the median of each number."""
        return cls(**{name: median(getattr(spent, name) for spent in each) for name in asdict(each[0])})


def invert_in_batches(
    surrogate: FrozenSurrogate, records: Sequence[Record], settings: InversionSettings, size: int
) -> tuple[Spent, list[InversionResult]]:
    """Invert all records, `size` at a time."""
    table, results = bench_table(surrogate), []
    with without_banners(), counting_kernel_time() as in_kernel:
        wall, processor = time.perf_counter(), time.process_time()
        for first in range(0, len(records), size):
            results += invert_sites(surrogate, table, records[first : first + size], settings, trainer=TRAINER)
        wall, processor = time.perf_counter() - wall, time.process_time() - processor
    iterations = sum(result.iterations for result in results) / len(results)
    return Spent(wall, processor, in_kernel[0], iterations, os.getloadavg()[0]), results


@contextmanager
def counting_kernel_time() -> Iterator[list[float]]:
    """Yield a list whose one number grows with the processor time that kernels take [s]."""
    spent, places = [0.0], [(Simulator, "_push_differences")]
    places += [(kernel, name) for kernel in (NativeKernel, PlainKernel) for name in ("simulate", "push")]
    originals = [getattr(owner, name) for owner, name in places]

    def watched(original: Callable[..., object]) -> Callable[..., object]:
        def call(*arguments: object) -> object:
            start = time.process_time()
            try:
                return original(*arguments)
            finally:
                spent[0] += time.process_time() - start

        return call

    for (owner, name), original in zip(places, originals, strict=True):
        setattr(owner, name, watched(original))
    try:
        yield spent
    finally:
        for (owner, name), original in zip(places, originals, strict=True):
            setattr(owner, name, original)


# ------------------------------------------------------------------------------------------------------- runs over a catalogue


def run(options: argparse.Namespace) -> None:
    """Fit a catalogue once, and say how long it took and the most memory that this process held."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        write_catalogue(folder, options.sites, options.days)
        config = FitConfig(
            SurrogateSettings(str(ASSETS / "simcycle_lstm" / "spec.json")),
            str(TABLE),
            DataSettings(sites=folder / "sites.csv", split=SplitSettings(method="none")),
            InversionSettings(
                solver="auto",
                kernel=options.kernel,
                kernel_threads=options.threads,
                lambda_prior=LAMBDA_PRIOR,
                max_iters=options.iterations,
            ),
            trainer=TRAINER,
            logs=str(folder / "logs"),
            checks="skip",
            scale=ScaleSettings("ray" if options.workers else "local", workers=options.workers, batch_sites=options.batch),
        )
        with ray_started(config.scale) if options.workers else nullcontext():
            start = time.perf_counter()
            outcome = fit_sites(config, build_registry())
            wall = time.perf_counter() - start
    if len(outcome.failed):
        sys.exit(str(outcome.failed["message"].iloc[0]))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    say(
        sites=options.sites,
        days=options.days,
        workers=options.workers,
        threads=options.threads,
        wall=wall,
        peak=peak,
        load=os.getloadavg()[0],
    )


@contextmanager
def ray_started(scale: ScaleSettings) -> Iterator[None]:
    """Start Ray for a while and say how long that took; its workers still have to import PyTorch."""
    start = time.perf_counter()
    with connected(load_ray(scale), scale, 1):
        say(ray_start=time.perf_counter() - start)
        yield


def write_catalogue(folder: Path, sites: int, days: int) -> None:
    """Write twin sites as files, and a catalogue of them."""
    surrogate = bench_surrogate()
    names = [driver.name for driver in surrogate.spec.drivers]
    target = surrogate.spec.output_names.index("nep")
    for number, record in enumerate(twin_records(surrogate, min(sites, FILES), days)):
        frame = pd.DataFrame(record.forcing.numpy(), columns=names)
        frame.insert(0, "date", pd.date_range("2001-01-01", periods=days).strftime("%Y-%m-%d"))
        frame["nep"] = np.where(record.fit.mask[:, target], record.fit.values[:, target], np.nan)
        frame.to_csv(folder / f"tower_{number:04d}.csv", index=False)
    rows = [{"site": f"s{i:05d}", "path": f"tower_{i % FILES:04d}.csv", "latitude": 45.0} for i in range(sites)]
    pd.DataFrame(rows).to_csv(folder / "sites.csv", index=False)


def elsewhere(options: argparse.Namespace, **changes: object) -> dict[str, float]:
    """Fit a catalogue in a process of its own, and return what it says."""
    asked = {**{name: getattr(options, name) for name in ("sites", "days", "kernel", "threads", "batch", "iterations")}, **changes}
    command = [sys.executable, __file__, "run", *(f"--{name}={value}" for name, value in asked.items())]
    line = subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip().splitlines()[-1]
    print(line, flush=True)
    found: dict[str, float] = json.loads(line)
    return found


def memory(options: argparse.Namespace) -> None:
    """Compare the peaks of a hundred and of a thousand sites."""
    few, many = (elsewhere(options, sites=sites) for sites in (100, 1000))
    print("| sites | peak memory [MiB] | ratio |\n| --- | --- | --- |")
    print(f"| 100 | {few['peak']:.0f} | 1 |\n| 1,000 | {many['peak']:.0f} | {many['peak'] / few['peak']:.2f} |")


def ray(options: argparse.Namespace) -> None:
    """Compare one worker of Ray with two, with the same sites and with half of them."""
    half, one, two = [], [], []
    for _ in range(options.pairs):
        one.append(elsewhere(options, workers=1, threads=1))
        two.append(elsewhere(options, workers=2, threads=1))
        half.append(elsewhere(options, workers=1, threads=1, sites=options.sites // 2))
    print("| what | one worker [s] | two workers [s] | ratio |\n| --- | --- | --- | --- |")
    for what, before in ((f"strong: {options.sites} sites", one), (f"weak: {options.sites // 2} sites a worker", half)):
        ratio = median(a["wall"] / b["wall"] for a, b in zip(before, two, strict=True))
        walls = (median(spent["wall"] for spent in each) for each in (before, two))
        print(f"| {what} | {' | '.join(f'{wall:.1f}' for wall in walls)} | {ratio:.2f} |")


# ------------------------------------------------------------------------------------------------------------------ cost model


def cost(options: argparse.Namespace) -> None:
    """Measure seconds of processor time per site, start and year, and count the arithmetic of a day."""
    surrogate = bench_surrogate()
    settings = InversionSettings(solver="auto", kernel=options.kernel, kernel_threads=1, lambda_prior=LAMBDA_PRIOR)
    rows = []
    for years, starts, sites in ((2, 1, 8), (10, 1, 4), (2, 64, 2), (10, 64, 1)):
        records = twin_records(surrogate, sites, 365 * years)
        spent, _ = invert_in_batches(surrogate, records, replace(settings, starts=starts), sites)
        say(years=years, starts=starts, sites=sites, **asdict(spent))
        rows.append((years, starts, spent.processor / sites / starts / years, spent.iterations))
    print("| years | starts of a site | processor time per site, start and year [s] | last iterations |\n| --- | --- | --- | --- |")
    for years, starts, seconds, iterations in rows:
        print(f"| {years} | {starts} | {seconds:.4f} | {iterations:.1f} |")
    forward, jacobian = flops_a_day(surrogate)
    print(f"\nA day costs {forward / 1e6:.2f} MFLOP forward, and {jacobian / 1e6:.2f} MFLOP with the tangents of all parameters.")
    days = JOB_SITES * JOB_STARTS * JOB_YEARS * 365
    print(f"The job has {days:.2e} site-start-days, {days * jacobian:.2e} FLOP for one Jacobian of each.")


def flops_a_day(surrogate: FrozenSurrogate) -> tuple[float, float]:
    """Return the arithmetic of one day, without the forcing's share: forward, and forward with the tangents of K parameters [FLOP].

    Gates W h (4 H x H), features A h (G x H), outputs V (Z x G). A tangent passes W, and then the head as one (Z x H) matrix of the
    day, V slope A, which is formed once for all tangents.
    """
    network = surrogate.network
    hidden, tangents = network.hidden_size, len(surrogate.spec.statics)
    features, outputs = 2 * hidden, 3
    gates = 2 * 4 * hidden * hidden
    forward = gates + 2 * features * hidden + 2 * outputs * features
    head = 2 * outputs * features * hidden + tangents * 2 * outputs * (hidden + features)
    return forward, forward + tangents * gates + head


def say(**measured: object) -> None:
    """Print a measurement as a line of JSON."""
    print(json.dumps({k: round(v, 4) if isinstance(v, float) else v for k, v in measured.items()}), flush=True)


if __name__ == "__main__":
    main()
