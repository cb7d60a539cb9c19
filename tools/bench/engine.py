"""The engine's own ways through the same problem: each solver, each rung of the ladder of kernels.

The clock of each runs from the folding of the forcing into the kernel to the last step, the coarse start included. Losses are noted
where the whole problem was evaluated, so the coarse start costs time and is credited with nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import torch
from rivals import METHODS as RIVALS
from rivals import Method
from torch import Generator, Tensor, nn
from traces import Recorder, Trace

from lit_invert.memory import keeping_freed_memory
from lit_invert.objective import Linearization, Objective
from lit_invert.problem import InversionProblem
from lit_invert.problem_objective import ProblemObjective
from lit_invert.simulators import Arithmetic, KernelName, Simulator
from lit_invert.solvers import BoundedLBFGS, BoundedSolver, LevenbergMarquardt, QuasiNewton, Stopping, minimize
from lit_invert.start_points import draw_starts
from lit_invert.starting import find_start

STOPPING = Stopping(loss=1e-6)


class _Noted(ProblemObjective):
    """An objective whose every evaluation is noted."""

    def __init__(self, problem: InversionProblem, recorder: Recorder) -> None:
        super().__init__(problem)
        self.recorder = recorder

    def loss(self, theta: Tensor, members: Tensor | None = None) -> Tensor:
        loss = super().loss(theta, members)
        self.recorder.note(theta, loss)
        return loss

    def gradient(self, theta: Tensor, members: Tensor | None = None) -> tuple[Tensor, Tensor]:
        loss, gradient = super().gradient(theta, members)
        self.recorder.note(theta, loss)
        return loss, gradient

    def linearize(self, theta: Tensor, members: Tensor | None = None) -> Linearization:
        linear = super().linearize(theta, members)
        self.recorder.note(theta, linear.loss)
        return linear


def with_simulator(problem: InversionProblem, build: Callable[..., Simulator]) -> InversionProblem:
    """Return the same problem with another simulator."""
    return InversionProblem(
        problem.surrogate, problem.space, problem.forcing, problem.observed, problem.mask, problem.loss_terms, problem.sigma, build
    )


def solve(
    solver: type[BoundedSolver],
    kernel: KernelName,
    arithmetic: Arithmetic,
    threads: int,
    problem: InversionProblem,
    theta0: Tensor,
    budget: float = math.inf,
    starts: int = 1,
) -> Trace:
    """Run one solver on one rung, from `theta0`, as `lit-invert fit` would; from several starts at once, keep them all."""
    recorder = Recorder(problem, budget)
    build_simulator = partial(Simulator, kernel=kernel, arithmetic=arithmetic, threads=threads)
    objective = _Noted(with_simulator(problem, build_simulator), recorder)

    def build(parameters: list[nn.Parameter], over: Objective) -> BoundedSolver:
        return solver(parameters, over, stopping=STOPPING)

    with recorder.until_spent(), keeping_freed_memory():
        if starts == 1:
            theta0, _ = find_start(objective, build, theta0)
        else:
            theta0 = torch.cat([theta0, draw_starts(problem.space, starts, Generator().manual_seed(0))[1:]])
        minimize(objective, theta0, build)
    return recorder.trace


METHODS: dict[str, Method] = {
    **RIVALS,
    "lm_plain": partial(solve, LevenbergMarquardt, "none", "auto", 0),
    "lm_numba": partial(solve, LevenbergMarquardt, "numba", "auto", 1),
    "lm_f32": partial(solve, LevenbergMarquardt, "native", "float32", 0),
    "lm_split": partial(solve, LevenbergMarquardt, "native", "split", 0),
    "lm_bf16": partial(solve, LevenbergMarquardt, "native", "bfloat16", 0),
    "lm_bf16_1": partial(solve, LevenbergMarquardt, "native", "bfloat16", 1),
    "lm_split_4_starts": partial(solve, LevenbergMarquardt, "native", "split", 0, starts=4),
    "lbfgs_f32": partial(solve, BoundedLBFGS, "native", "float32", 0),
    "quasi_newton_f32": partial(solve, QuasiNewton, "native", "float32", 0),
}
