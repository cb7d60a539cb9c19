"""What Lightning's Trainer costs: one fit through `invert`, with all that a run has, against the same solver in a bare loop.

Both move the same 36 parameters of the same random LSTM surrogate (hidden 64, carbon head) on one thread. The Trainer has a logger
(TensorBoard), checkpoints, early stopping, the best iterate, the history, clipping, the look for divergence and the RMSE on the
select days; its time is all of `Trainer.fit`, start and end included. Runs alternate, and each row is the median of paired runs.

    python tools/bench/overhead.py [--pairs 9] [--days 365 3650] [--steps 500] [--progress-bar]
"""

from __future__ import annotations

import argparse
import contextlib
import os
import platform
import tempfile
import time
import warnings
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from statistics import median

import numpy as np
import torch
from lightning.pytorch.loggers import TensorBoardLogger

from lit_invert.assembly import Record, build_problem
from lit_invert.driving import without_banners
from lit_invert.inversion import invert
from lit_invert.memory import keeping_freed_memory
from lit_invert.objective import Objective
from lit_invert.observations import Observations
from lit_invert.parameters import ParameterTable, parse_parameter_table
from lit_invert.problem import InversionProblem
from lit_invert.problem_objective import ProblemObjective
from lit_invert.settings import InversionSettings, StopSettings
from lit_invert.solvers import BoundedSolver, LevenbergMarquardt, Stopping, minimize
from lit_invert.starting import find_start
from lit_invert.surrogates.base import FrozenSurrogate, SurrogateSpec, Variable
from lit_invert.surrogates.lstm import LSTMSurrogate

STATICS, DRIVERS = 36, 10
#: Early stopping looks after every epoch and never stops, so that both make as many steps.
PATIENCE = 1_000_000


def make_surrogate(hidden: int) -> FrozenSurrogate:
    """Return a frozen LSTM with random weights."""
    torch.manual_seed(0)
    spec = SurrogateSpec(
        name="random",
        statics=tuple(Variable(f"p{i}", "-", 2.0, 0.5) for i in range(STATICS)),
        drivers=tuple(Variable(f"x{i}", "-") for i in range(DRIVERS)),
        outputs=tuple(Variable(name, "gC m-2 d-1") for name in ("gpp", "npp", "nep", "rh")),
    )
    return FrozenSurrogate(LSTMSurrogate(STATICS, DRIVERS, hidden_size=hidden), spec)


def make_table() -> ParameterTable:
    """Return the table of the parameters, whose bounds some of the steps reach."""
    return parse_parameter_table(["name,min,max,prior", *(f"p{i},1.9,2.1,2.0" for i in range(STATICS))])


def make_observations(days: int) -> tuple[torch.Tensor, Observations, Observations]:
    """Return forcing, (T, F), and observed fluxes of the fit and the select days."""
    noise = np.random.default_rng(0)
    dates = np.datetime64("2001-01-01") + np.arange(days)
    values = noise.normal(size=(days, 4))
    mask = np.broadcast_to(np.arange(4) == 2, values.shape)
    observed = Observations(dates, ("gpp", "npp", "nep", "rh"), values, mask)
    select = np.arange(days) % 5 == 4
    return torch.from_numpy(noise.normal(size=(days, DRIVERS))).float(), observed.only(~select), observed.only(select)


def run_bare(problem: InversionProblem, settings: InversionSettings, steps: int) -> float:
    """Return the seconds of a loop that does nothing but step and clip."""
    space = problem.space
    theta = torch.nn.Parameter(space.to_theta(space.prior).unsqueeze(0))
    adam = torch.optim.Adam([theta], settings.lr)
    start = time.perf_counter()
    with keeping_freed_memory():
        for _ in range(steps):
            problem(theta).total.sum().backward()
            adam.step()
            adam.zero_grad()
            with torch.no_grad():
                theta.copy_(space.project(theta)[0])
    return time.perf_counter() - start


def solve_bare(problem: InversionProblem, settings: InversionSettings, steps: int) -> float:
    """Return the seconds of Levenberg-Marquardt to convergence, from the same start, without a Trainer."""
    stopping = Stopping(**asdict(settings.convergence))

    def build(parameters: list[torch.nn.Parameter], over: Objective) -> BoundedSolver:
        return LevenbergMarquardt(parameters, over, stopping=stopping)

    start = time.perf_counter()
    with keeping_freed_memory():
        objective = ProblemObjective(problem)
        theta, _ = find_start(objective, build, problem.space.to_theta(problem.space.prior).unsqueeze(0))
        minimize(objective, theta, build, max_iters=steps)
    return time.perf_counter() - start


def compare(days: int, hidden: int, steps: int, pairs: int, progress_bar: bool, solver: str) -> list[tuple[float, float]]:
    """Return the seconds of the bare loop and of the Trainer, pair by pair."""
    surrogate, table = make_surrogate(hidden), make_table()
    forcing, fit, select = make_observations(days)
    settings = InversionSettings(max_iters=steps, solver=solver, early_stopping=StopSettings(patience=PATIENCE))
    problem = build_problem(surrogate, table, [Record(forcing, fit)], settings)
    run_alone = run_bare if solver == "adam" else solve_bare

    def run_trainer() -> float:
        with tempfile.TemporaryDirectory() as folder, quiet():
            logger = TensorBoardLogger(folder, default_hp_metric=False)
            trainer = {"accelerator": "cpu", "enable_progress_bar": progress_bar}
            result = invert(
                surrogate, table, forcing, fit, settings,
                select=select, trainer=trainer, logger=logger, checkpoints=Path(folder, "checkpoints"),
            )  # fmt: skip
        assert solver != "adam" or result.iterations == steps
        return result.seconds

    run_alone(problem, settings, 20), run_trainer()  # imports, caches
    return [(run_alone(problem, settings, steps), run_trainer()) for _ in range(pairs)]


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep the progress bar and Lightning's advice out of the table."""
    with contextlib.ExitStack() as stack, open(os.devnull, "w") as sink:
        stack.enter_context(contextlib.redirect_stdout(sink))
        stack.enter_context(contextlib.redirect_stderr(sink))
        stack.enter_context(without_banners())
        stack.enter_context(warnings.catch_warnings())
        warnings.simplefilter("ignore")
        yield


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--days", type=int, nargs="+", default=[365, 3650])
    parser.add_argument("--hidden", type=int, default=64)
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--pairs", type=int, default=9)
    parser.add_argument("--progress-bar", action="store_true")
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    print(f"{processor()}, {os.cpu_count()} cores, torch {torch.__version__}; Adam, {chosen.steps} steps\n")
    print("| T | hidden | bare, ms a step | Trainer, ms a step | ratio | pairs |\n| --- | --- | --- | --- | --- | --- |")
    for days in chosen.days:
        runs = compare(days, chosen.hidden, chosen.steps, chosen.pairs, chosen.progress_bar, "adam")
        bare, trainer = (1e3 * median(seconds) / chosen.steps for seconds in zip(*runs, strict=True))
        ratio = median(theirs / ours for ours, theirs in runs)
        print(f"| {days:,} | {chosen.hidden} | {bare:.2f} | {trainer:.2f} | {ratio:.2f} | {chosen.pairs} |", flush=True)
    print("\nLevenberg-Marquardt to convergence\n")
    print("| T | hidden | bare, ms a solve | Trainer, ms more | pairs |\n| --- | --- | --- | --- | --- |")
    for days in chosen.days:
        runs = compare(days, chosen.hidden, 100, chosen.pairs, chosen.progress_bar, "levenberg_marquardt")
        alone, more = 1e3 * median(ours for ours, _ in runs), 1e3 * median(theirs - ours for ours, theirs in runs)
        print(f"| {days:,} | {chosen.hidden} | {alone:.0f} | {more:.0f} | {chosen.pairs} |", flush=True)


def processor() -> str:
    """Return the name of the CPU's model."""
    cpus = Path("/proc/cpuinfo")
    names = (
        [line.split(":")[1].strip() for line in cpus.read_text().splitlines() if line.startswith("model name")]
        if cpus.exists()
        else []
    )
    return names[0] if names else platform.processor()


if __name__ == "__main__":
    main()
