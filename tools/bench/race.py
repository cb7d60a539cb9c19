"""Race methods on twin experiments: who reaches which loss, and when.

    python tools/bench/race.py --days 365 --hidden 128 --truths 12 --methods adam,scipy_lbfgsb --out race_365.csv

Every method solves every truth, one after the other in an order that rotates from truth to truth, from the same start. Two losses
are timed: the lowest that 500 Adam steps of the plain loop reach, and 1 % above the best known, which is the best of all methods
and of random restarts of one of them. After every truth it writes one row a truth and method (`--out`), the courses of the losses
(`*_traces.csv`) and the table (`*.md`), which it prints in the end.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from engine import METHODS
from memory import peak_memory
from problems import CACHE, LAMBDA_PRIOR, Twin, random_start, twin_problem
from rivals import ADAM_STEPS
from scores import GOOD, REACHED, describe
from threadpoolctl import threadpool_limits
from torch import Tensor
from traces import Trace

from lit_invert.problem import InversionProblem

#: Largest relative difference between the loss that a method claims and the one that `InversionProblem` computes at its theta.
CLAIM_TOLERANCE = 1e-3
#: Budget of each method, in times of 500 gradients.
BUDGET = 2.0


@dataclass(frozen=True)
class Run:
    """One method on one truth."""

    method: str
    trace: Trace
    final: float
    """Loss at the end, computed by the problem itself and not by the method."""
    peak: float
    """Memory beyond what was held before [MiB]."""


def main(argv: Sequence[str] | None = None) -> None:
    """Race on every truth and write what came out so far after each."""
    options = parse(argv)
    methods = options.methods.split(",")
    rows: list[pd.DataFrame] = []
    courses: list[pd.DataFrame] = []
    torch.set_num_threads(1)
    with threadpool_limits(1):
        warm_up(methods, options)
        for turn, seed in enumerate(range(options.first_truth, options.first_truth + options.truths)):
            start = time.perf_counter()
            twin = twin_of(options, options.days, seed)
            runs = race(twin, rotate(methods, turn))
            best = best_known(twin, runs, options.restart_method, options.restarts, seed)
            rows.append(to_rows(runs, best).assign(truth=seed, **settings_of(options)))
            courses.append(to_courses(runs, best).assign(truth=seed))
            write(Path(options.out), pd.concat(rows), pd.concat(courses))
            print(f"truth {seed}: {time.perf_counter() - start:.0f} s", flush=True)
    print(describe(pd.concat(rows)))


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--days", type=int, default=365)
    parser.add_argument("--hidden", type=int, default=128)
    parser.add_argument("--layers", type=int, default=1)
    parser.add_argument("--truths", type=int, default=12)
    parser.add_argument("--first-truth", type=int, default=0, help="seed of the first truth; the others follow")
    parser.add_argument("--methods", default="adam,scipy_lbfgsb", help=f"comma-separated, adam among them: {', '.join(METHODS)}")
    parser.add_argument("--mismatch", action="store_true", help="the process model makes the observations")
    parser.add_argument("--lambda-prior", type=float, default=LAMBDA_PRIOR)
    parser.add_argument("--restarts", type=int, default=4, help="random restarts that help to find the best known loss")
    parser.add_argument("--restart-method", default="scipy_lbfgsb")
    parser.add_argument("--cache", type=Path, default=CACHE, help="folder of the surrogates that are not shipped")
    parser.add_argument("--out", default="race.csv")
    options = parser.parse_args(argv)
    unknown = [name for name in [*options.methods.split(","), options.restart_method] if name not in METHODS]
    if unknown or "adam" not in options.methods.split(","):
        parser.error(f"--methods: unknown {unknown}, or adam is missing, whose loss is the target. Known: {', '.join(METHODS)}")
    return options


def twin_of(options: argparse.Namespace, days: int, seed: int) -> Twin:
    """Draw the twin experiment that the command line asks for."""
    return twin_problem(
        days,
        options.hidden,
        options.layers,
        seed,
        mismatch=options.mismatch,
        lambda_prior=options.lambda_prior,
        cache=options.cache,
    )


def settings_of(options: argparse.Namespace) -> dict[str, object]:
    """Return what describes the race, for every row."""
    return {name: getattr(options, name) for name in ("days", "hidden", "layers", "mismatch", "lambda_prior")}


def warm_up(methods: Sequence[str], options: argparse.Namespace) -> None:
    """Run every method for a moment on a short record, so that no first truth pays for imports and compilation."""
    twin = twin_of(options, 60, options.first_truth)
    for method in methods:
        if method != "adam":
            METHODS[method](twin.problem, twin.start, 0.1)


def race(twin: Twin, methods: Sequence[str]) -> list[Run]:
    """Run the methods one after the other."""
    budget = BUDGET * ADAM_STEPS * time_gradient(twin.problem, twin.start)
    return [run(method, twin.problem, twin.start, budget) for method in methods]


def run(method: str, problem: InversionProblem, start: Tensor, budget: float) -> Run:
    """Run a method, and check its claim.

    Raises:
        RuntimeError: If the loss that the method reports is not the loss at its theta.
    """
    with peak_memory() as peak:
        trace = METHODS[method](problem, start, budget)
        memory = peak()
    with torch.no_grad():
        final = problem(problem.space.project(trace.theta)[0]).total.item()
    if not math.isclose(final, trace.best, rel_tol=CLAIM_TOLERANCE):
        raise RuntimeError(f"{method}: reports a loss of {trace.best!r}, but at its theta, inside the bounds, it is {final!r}.")
    return Run(method, trace, final, memory)


def time_gradient(problem: InversionProblem, theta: Tensor, repeats: int = 7) -> float:
    """Return the median wall time of a loss with its gradient by autograd [s]."""
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        problem(theta.clone().requires_grad_()).total.sum().backward()
        seconds.append(time.perf_counter() - start)
    return float(np.median(seconds))


def best_known(twin: Twin, runs: Sequence[Run], method: str, restarts: int, seed: int) -> float:
    """Return the lowest loss that any method, or the restarts of one, found."""
    starts = [random_start(twin.problem, 1000 * (seed + 1) + i) for i in range(restarts)]
    again = [METHODS[method](twin.problem, theta, math.inf).best for theta in starts]
    return min([*again, *(run.final for run in runs)])


def rotate(methods: Sequence[str], turn: int) -> list[str]:
    """Return the methods from another one on, so that none is always first."""
    turn %= len(methods)
    return [*methods[turn:], *methods[:turn]]


def to_rows(runs: Sequence[Run], best: float) -> pd.DataFrame:
    """Return one row a method: what it reached, when, and at what cost."""
    adam = next(run.trace for run in runs if run.method == "adam")
    targets = {"adam": adam.best * (1 + REACHED), "best": best * (1 + GOOD)}
    return pd.DataFrame(
        {
            "method": run.method,
            "final": run.final,
            "best_known": best,
            "seconds": run.trace.seconds[-1],
            "cpu_seconds": run.trace.cpu_seconds[-1],
            **{f"seconds_to_{name}": run.trace.seconds_to(loss) for name, loss in targets.items()},
            **{f"cpu_seconds_to_{name}": run.trace.cpu_seconds_to(loss) for name, loss in targets.items()},
            "adam_seconds": adam.seconds[-1],
            "adam_cpu_seconds": adam.cpu_seconds[-1],
            "evaluations": run.trace.evaluations[-1],
            "peak_mib": run.peak,
        }
        for run in runs
    )


def to_courses(runs: Sequence[Run], best: float) -> pd.DataFrame:
    """Return every improvement of every method: when, as a share of Adam's time, and how far above the best known loss."""
    whole = next(run.trace.seconds[-1] for run in runs if run.method == "adam")
    courses = []
    for run in runs:
        lowest = np.minimum.accumulate(run.trace.losses)
        improved = np.flatnonzero(np.diff(lowest, prepend=np.inf) < 0)
        share = np.asarray(run.trace.seconds)[improved] / whole
        courses.append(pd.DataFrame({"method": run.method, "time": share, "excess": lowest[improved] / best - 1}))
    return pd.concat(courses)


def write(path: Path, rows: pd.DataFrame, courses: pd.DataFrame) -> None:
    """Write results, courses and table."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rows.to_csv(path, index=False)
    courses.to_csv(path.with_name(f"{path.stem}_traces.csv"), index=False, float_format="%.6g")
    path.with_suffix(".md").write_text(describe(rows) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
