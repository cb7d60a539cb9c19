"""How much work a second: gradients and fits in batches, against PyTorch and against the machine's own matrix product.

    python tools/bench/throughput.py --out throughput.md

Three tables. Gradients: batches of members through nn.LSTM and through the compiled kernel, with the share of what `torch.mm`
reaches on the same threads. Fits: S starts in one batch, each to convergence, against S members of 500 Adam steps of nn.LSTM.
Extras: what eight starts by halving, a Laplace approximation and a hundred members of randomised maximum likelihood cost.
"""

from __future__ import annotations

import argparse
import platform
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from engine import STOPPING, with_simulator
from problems import Twin, twin_problem
from torch import Generator, Tensor, nn

from lit_invert.kernels.native import NativeKernel
from lit_invert.losses import Evaluation
from lit_invert.memory import keeping_freed_memory
from lit_invert.objective import Objective
from lit_invert.problem import InversionProblem
from lit_invert.problem_objective import ProblemObjective
from lit_invert.simulators import Simulator
from lit_invert.solvers import BoundedSolver, LevenbergMarquardt, minimize
from lit_invert.start_points import draw_starts
from lit_invert.starting import find_start

THREADS = 2
ADAM_STEPS = 500


def seconds_of(work: Callable[[], object], repeats: int = 5) -> float:
    """Return the median wall time [s] after one run that does not count."""
    work()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return sorted(times)[repeats // 2]


def peak(threads: int) -> float:
    """Return what a large matrix product reaches on so many threads [GFLOP/s]."""
    torch.set_num_threads(threads)
    a, b = torch.randn(1024, 1024), torch.randn(1024, 1024)
    rate = 2 * 1024**3 / seconds_of(lambda: a @ b, 15) / 1e9
    torch.set_num_threads(1)
    return rate


def flops(days: int, hidden: int) -> float:
    """Return the matrix arithmetic of one gradient: recurrence and head, there and back [FLOP]."""
    return 2 * 2.0 * days * (4 * hidden * hidden + 2 * hidden * hidden)


def gradient(problem: InversionProblem, theta: Tensor) -> None:
    """One gradient of every member."""
    leaf = theta.clone().requires_grad_()
    problem(leaf).total.sum().backward()


def with_kernel(problem: InversionProblem, precision: str, threads: int = THREADS) -> InversionProblem:
    """Return the problem through the native kernel, whose simulations and gradients have this precision, too."""
    fast = with_simulator(problem, partial(Simulator, kernel="native", arithmetic=precision, threads=threads))
    folded = fast.simulator._folded
    assert folded is not None
    assert isinstance(folded.kernel, NativeKernel)
    folded.kernel.gradient = precision
    return fast


def gradients(twin: Twin, batches: list[int]) -> list[str]:
    """Return the table of gradients a second."""
    days, limit = twin.problem.observed.shape[1], peak(1)
    lines = [
        f"One thread, T = {days}, H = 128; `torch.mm` reaches {limit:.0f} GFLOP/s.\n",
        "| members | nn.LSTM [1/s] | float32 | split | bfloat16 | float32, share of torch.mm |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for members in batches:
        theta = draw_starts(twin.problem.space, members, Generator().manual_seed(0))
        repeats = 9 if members < 64 else 3
        plain = members / seconds_of(partial(gradient, twin.problem, theta), repeats)
        fast = [
            members / seconds_of(partial(gradient, with_kernel(twin.problem, name, 1), theta), repeats)
            for name in ("float32", "split", "bfloat16")
        ]
        share = fast[0] * flops(days, 128) / 1e9 / limit
        cells = " | ".join(f"{rate:.0f} ({rate / plain:.1f}x)" for rate in fast)
        lines.append(f"| {members} | {plain:.0f} | {cells} | {share:.0%} |")
    return lines


def fits(twin: Twin, batches: list[int]) -> list[str]:
    """Return the table of fits a second."""
    lines = [
        f"{THREADS} threads, T = {twin.problem.observed.shape[1]}, H = 128, random starts on one truth, each to convergence.\n",
        "| starts | Adam-500, nn.LSTM [fits/s] | LM split | LM bfloat16 | loss, median of starts: Adam, LM split |",
        "| --- | --- | --- | --- | --- |",
    ]
    for members in batches:
        starts = draw_starts(twin.problem.space, members, Generator().manual_seed(1))
        rate, loss = adam(twin.problem, starts)
        cells, found = [], []
        for name in ("split", "bfloat16"):
            objective = ProblemObjective(with_simulator(twin.problem, partial(Simulator, kernel="native", arithmetic=name)))
            begin = time.perf_counter()
            solution = minimize(objective, starts, build, max_iters=60)
            mine = members / (time.perf_counter() - begin)
            cells.append(f"{mine:.1f} ({mine / rate:.0f}x)")
            found.append(solution.loss.median().item())
        lines.append(f"| {members} | {rate:.2f} | {' | '.join(cells)} | {loss:.4f}, {found[0]:.4f} |")
    return lines


def build(parameters: list[nn.Parameter], objective: Objective) -> BoundedSolver:
    """Build the solver of the fits."""
    return LevenbergMarquardt(parameters, objective, stopping=STOPPING)


def adam(problem: InversionProblem, starts: Tensor) -> tuple[float, float]:
    """Return fits a second of Adam's 500 steps in one batch, and the median of the final losses."""
    theta = nn.Parameter(starts.clone())
    optimizer = torch.optim.Adam([theta], lr=0.02)
    torch.set_num_threads(THREADS)
    begin = time.perf_counter()
    for _ in range(ADAM_STEPS):
        optimizer.zero_grad()
        problem(theta).total.sum().backward()
        optimizer.step()
        theta.data = problem.space.project(theta.data)[0]
    spent = time.perf_counter() - begin
    torch.set_num_threads(1)
    with torch.no_grad():
        return len(starts) / spent, problem(theta).total.median().item()


def extras(days: int, truths: int) -> list[str]:
    """Return what halving and uncertainty cost."""
    rows = []
    for seed in range(400, 400 + truths):
        twin = twin_problem(days, seed=seed)
        objective = ProblemObjective(with_simulator(twin.problem, partial(Simulator, kernel="native")))
        solve = seconds_of(lambda o=objective, t=twin: minimize(o, find_start(o, build, t.start)[0], build), 3)
        single = minimize(objective, find_start(objective, build, twin.start)[0], build)
        starts = draw_starts(twin.problem.space, 8, Generator().manual_seed(seed))
        begin = time.perf_counter()
        halved = minimize(objective, find_start(objective, build, starts)[0], build)
        halving = time.perf_counter() - begin
        every = minimize(objective, starts, build)
        best = min(every.loss.min(), single.loss[0], halved.loss[0]).item()
        plain = seconds_of(partial(gradient, twin.problem, twin.start))
        laplace = seconds_of(lambda o=objective, s=single: covariance(ProblemObjective(o.problem), s.theta))
        ensemble = seconds_of(lambda o=objective, s=single: likelihood_ensemble(o, s.theta, 100), 3)
        rows.append(
            [halving / solve, halved.loss[0] <= 1.01 * best, single.loss[0] <= 1.01 * best, laplace / plain, ensemble / solve]
        )
    table = torch.tensor(rows)
    middle = table.median(0).values.tolist()
    return [
        f"T = {days}, {truths} truths, medians.\n",
        "| what | cost |",
        "| --- | --- |",
        f"| 8 starts by halving | {middle[0]:.1f} solves; within 1 % of the best of all 8: {table[:, 1].mean():.0%} |",
        f"| one start, the prior | 1 solve; within 1 % of the best of all 8: {table[:, 2].mean():.0%} |",
        f"| Laplace: curvature at the optimum and its inverse | {middle[3]:.1f} plain gradients |",
        f"| 100 members of randomised maximum likelihood | {middle[4]:.1f} solves |",
    ]


def covariance(objective: ProblemObjective, theta: Tensor) -> Tensor:
    """Return the inverse of half the curvature, the shape of the Laplace approximation."""
    curvature = objective.linearize(theta).curvature.double()
    return torch.linalg.inv(curvature / 2 + 1e-9 * torch.eye(curvature.shape[-1], dtype=torch.float64))


def likelihood_ensemble(objective: ProblemObjective, theta: Tensor, members: int) -> Tensor:
    """Solve the problem again for perturbed residuals, in two Gauss-Newton steps with the Jacobian of the optimum.

    Source:
        Oliver, He and Reynolds (1996), Conditioning permeability fields to pressure data.
    """
    problem = objective.problem
    evaluation, tangent, free = problem.push(theta)
    jacobian = torch.cat([t.weight**0.5 * t.push_residuals(evaluation, tangent) for t in problem.loss_terms], dim=1)[0].double()
    back = torch.linalg.pinv(jacobian.T @ jacobian, hermitian=True) @ jacobian.T
    here = residuals(problem, evaluation)
    scale = (problem.loss_of(evaluation).terms["misfit"] / problem.mask.sum()).sqrt().double()
    noise = scale * torch.randn(members, len(jacobian), generator=Generator().manual_seed(0), dtype=torch.float64)
    moved = theta.expand(members, -1).clone()
    target = here + noise
    now = here.expand(members, -1)
    for _ in range(2):
        moved[:, free] += ((target - now) @ back.T).to(theta)
        moved = objective.project(moved)
        with torch.no_grad():
            now = residuals(problem, problem.evaluate(moved, torch.zeros(members, dtype=torch.long)))
    return (now - noise).square().sum(-1)


def residuals(problem: InversionProblem, evaluation: Evaluation) -> Tensor:
    """Return all residuals with the roots of their weights, (B, N)."""
    parts = [term.weight**0.5 * term.residuals(evaluation) for term in problem.loss_terms]
    return torch.cat(parts, dim=1).double()


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", default="throughput.md")
    parser.add_argument("--truths", type=int, default=20)
    parser.add_argument("--most", type=int, default=256, help="largest batch of fits")
    options = parser.parse_args()
    torch.set_num_threads(1)
    twin = twin_problem(365, seed=300)
    sizes = [size for size in (1, 8, 32, 128, 256, 1024) if size <= options.most]
    with keeping_freed_memory():
        parts = [gradients(twin, [1, 8, 64, 256]), fits(twin, sizes), extras(365, options.truths)]
    text = (
        "\n".join(["\n".join([*part, ""]) for part in parts])
        + f"\n{platform.processor() or platform.machine()}, {THREADS} threads\n"
    )
    Path(options.out).write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
