"""What all solvers of an :class:`~lit_invert.objective.Objective` have in common.

A solver is a `torch.optim.Optimizer` over one parameter theta, (B, P). One `step()` moves every member that still runs by one
accepted step. What a member needs to go on (its status, damping, curvature) lies in the optimiser's state as rows of tensors, so
that a checkpoint is complete and a member's row is all that there is of it. The arithmetic is in float64 whatever theta's type:
the linear algebra of 36 unknowns costs nothing beside a surrogate, and its rounding would cost steps.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from ..errors import ConfigError, DivergenceError, ShapeError
from ..objective import Linearization, Objective
from .stopping import Status, Stopping, describe


@dataclass(frozen=True)
class Rows:
    """Which members take part in something: their indices, (b,), or None for all, which spares the copies."""

    members: Tensor | None
    total: int

    @property
    def index(self) -> Tensor | slice:
        """Index of their rows in a tensor of all members."""
        return slice(None) if self.members is None else self.members

    def only(self, chosen: Tensor) -> Rows:
        """Return those among them that are chosen, (b,) bool."""
        members = torch.arange(self.total, device=chosen.device) if self.members is None else self.members
        return Rows(members[chosen], self.total)


class BoundedSolver(Optimizer, ABC):
    """Moves the members of theta down an objective inside its bounds until each is finished.

    Args:
        params: One parameter theta, (B, P).
        objective: Loss, derivatives and bounds.
        stopping: Tolerances and time limit.

    Raises:
        ShapeError: If `params` is not one parameter of two dimensions.
    """

    #: What a copy keeps beside the state and groups that every optimiser has.
    _settings: ClassVar[tuple[str, ...]] = ("objective", "stopping")
    #: What was learnt of the objective and is void when it changes.
    _learned: ClassVar[tuple[str, ...]] = ()

    def __init__(self, params: Iterable[nn.Parameter], objective: Objective, *, stopping: Stopping | None = None) -> None:
        super().__init__(params, {})
        shapes = [tuple(parameter.shape) for group in self.param_groups for parameter in group["params"]]
        if len(shapes) != 1 or len(shapes[0]) != 2:
            name = type(self).__name__
            raise ShapeError(f"{name}: expected one parameter of shape (members, parameters), found {shapes}. Stack the members.")
        self.objective = objective
        self.stopping = stopping or Stopping()
        self._clock: float | None = None
        members, device = shapes[0][0], self._theta.device
        self._memory.update(
            loss=torch.full((members,), torch.nan, dtype=torch.float64, device=device),
            status=torch.full((members,), Status.RUNNING, dtype=torch.int64, device=device),
            iterations=torch.zeros(members, dtype=torch.int64, device=device),
            small_decreases=torch.zeros(members, dtype=torch.int64, device=device),
            evaluations={"losses": 0, "gradients": 0, "linearizations": 0},
            seconds=0.0,
            started=False,
            solver=type(self).__name__,
            tolerances=self.stopping.tolerances,
        )

    @property
    def running(self) -> Tensor:
        """Whether each member still runs, (B,) bool."""
        running: Tensor = self._memory["status"] == Status.RUNNING
        return running

    @property
    def finished(self) -> bool:
        """Whether all members are finished."""
        return not bool(self.running.any())

    @property
    def converged(self) -> bool:
        """Whether all members have met a test of convergence."""
        return all(Status(code).verb == "converged" for code in self._memory["status"].tolist())

    @property
    def status(self) -> str:
        """Where the solver stands, in one sentence."""
        return describe(self.stopping, self._memory["status"], self._memory["iterations"])

    @property
    def loss(self) -> Tensor:
        """Loss of each member at the present theta, (B,); NaN before the first step."""
        loss: Tensor = self._memory["loss"]
        return loss.clone()

    @property
    def iterations(self) -> int:
        """Steps that the member with most of them has taken."""
        return int(self._memory["iterations"].max())

    @property
    def steps(self) -> Tensor:
        """Steps that each member has taken, (B,)."""
        steps: Tensor = self._memory["iterations"]
        return steps.clone()

    def describe(self, member: int) -> tuple[Status, str]:
        """Return where one member stands, as a status and a sentence."""
        memory, row = self._memory, slice(member, member + 1)
        return Status(memory["status"][member].item()), describe(self.stopping, memory["status"][row], memory["iterations"][row])

    def leave(self, chosen: Tensor) -> None:
        """Take no further step of those members that are chosen, (B,) bool, and still run."""
        self._memory["status"][chosen & self.running] = Status.LEFT

    @property
    def evaluations(self) -> dict[str, int]:
        """Losses, gradients and linearisations computed so far, each counted once a member."""
        return dict(self._memory["evaluations"])

    @torch.no_grad()
    def look(self) -> tuple[Tensor, Tensor]:
        """Return where each member stands, from the evaluation that the next step goes on with.

        Returns:
            The loss (B,) and its gradient (B, P); of a finished member the loss it ended with, and zeros.
        """
        rows = self._going()
        loss, gradient = self._memory["loss"].clone(), torch.zeros_like(self._theta)
        if rows is not None:
            part, slope = self._look_at(self._theta[rows.index].detach(), rows)
            loss[rows.index], gradient[rows.index] = part.double(), slope.to(gradient)
        return loss.to(self._theta.dtype), gradient

    def renew(self) -> None:
        """Go on from here with an objective that has changed: what was learnt of the old one is void, and the finished run on.

        Members that were left, or whose time is up, stay where they are.
        """
        memory, status = self._memory, self._memory["status"]
        status[(status != Status.LEFT) & (status != Status.TIME)] = Status.RUNNING
        memory["small_decreases"].zero_()
        memory["started"] = False
        for name in self._learned:
            memory.pop(name, None)
        memory.update(self._unlearned())

    def _unlearned(self) -> dict[str, Tensor]:
        """Return the rows of what is learnt from the objective, as they are before anything is."""
        return {}

    def _look_at(self, theta: Tensor, rows: Rows) -> tuple[Tensor, Tensor]:
        return self.objective.gradient(theta, rows.members)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Move each running member by one accepted step.

        Args:
            closure: Called once, before anything else; for frameworks that want their own evaluation of the loss.

        Returns:
            What `closure` returned; without one the sum of the members' losses.

        Raises:
            DivergenceError: If the loss at the start is not finite.
        """
        value = None
        if closure is not None:
            with torch.enable_grad():
                value = closure()
        self._check_time()
        rows = self._going()
        if rows is not None:
            self._advance(rows)
        return self._memory["loss"].sum() if closure is None else value

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from a saved state, bit for bit.

        Members that were finished stay so, unless it was for want of time or by other tolerances.

        Raises:
            ConfigError: If another solver saved it.
        """
        saved: dict[str, Any] = next(iter(state_dict["state"].values()), {})
        found, expected = saved.get("solver"), type(self).__name__
        if found != expected:
            raise ConfigError(f"{expected}: expected its own state, found that of solver {found!r}. Load it into that solver.")
        super().load_state_dict(state_dict)
        # torch casts state to the parameter's type, which would round float64 rows and turn counts into floats
        self.state[self._theta] = {key: self._own(value) for key, value in saved.items()}
        self._reopen()
        self._clock = None

    def __getstate__(self) -> dict[str, Any]:
        kept = {name: getattr(self, name) for name in self._settings}
        return {**super().__getstate__(), **kept, "_clock": None}

    def _going(self) -> Rows | None:
        """Return the members that still run, or None when there are none."""
        running = self.running
        flags, everyone = running.tolist(), Rows(None, len(running))
        if all(flags):
            return everyone
        return everyone.only(running) if any(flags) else None

    @abstractmethod
    def _advance(self, rows: Rows) -> None:
        """Move these members by one accepted step, or finish them."""

    @property
    def _theta(self) -> nn.Parameter:
        theta: nn.Parameter = self.param_groups[0]["params"][0]
        return theta

    @property
    def _memory(self) -> dict[str, Any]:
        memory: dict[str, Any] = self.state[self._theta]
        return memory

    def _copy(self, rows: Rows) -> Tensor:
        """Return a copy of these members' theta, (b, P): steps overwrite theta, and an objective may keep what it is given."""
        return self._theta.detach().clone() if rows.members is None else self._theta.detach()[rows.members]

    def _own(self, value: Any) -> Any:
        if isinstance(value, Tensor):
            return value.to(self._theta.device, copy=True)
        return dict(value) if isinstance(value, dict) else value

    def _reopen(self) -> None:
        """Let members run on whose end this solver's time limit and tolerances have still to tell."""
        memory = self._memory
        memory["status"][memory["status"] == Status.TIME] = Status.RUNNING
        if memory["tolerances"] != self.stopping.tolerances:
            memory["status"].fill_(Status.RUNNING)
            memory["small_decreases"].zero_()
            memory["tolerances"] = self.stopping.tolerances

    def _remember(self, rows: Rows, **values: Tensor) -> None:
        """Write these members' rows of the state; a new kind of row starts as zeros."""
        memory = self._memory
        for name, value in values.items():
            if name not in memory:
                memory[name] = value.new_zeros((rows.total, *value.shape[1:]))
            memory[name][rows.index] = value

    def _start(self) -> None:
        """Move the start into its bounds, once."""
        if not self._memory["started"]:
            self._theta.copy_(self.objective.project(self._theta.detach()))

    def _check_start(self, rows: Rows, loss: Tensor, gradient: Tensor) -> None:
        """Refuse a start from which no step can be computed."""
        if self._memory["started"]:
            return
        self._memory["started"] = True
        bad = ~(loss.isfinite() & gradient.isfinite().all(-1))
        if bad.any():
            first = int(bad.nonzero()[0, 0])
            message = (
                f"{type(self).__name__}: expected a finite loss and gradient at the start, found loss {float(loss[first])} "
                f"for member {first} of {rows.total}. Start elsewhere, or tighten the bounds."
            )
            raise DivergenceError(message, step=0)

    def _check_time(self) -> None:
        now = time.perf_counter()
        memory = self._memory
        memory["seconds"] += now - (self._clock or now)
        self._clock = now
        limit = self.stopping.max_seconds
        if limit is not None and memory["seconds"] >= limit:
            memory["status"][self.running] = Status.TIME

    def _finish(self, rows: Rows, chosen: Tensor, status: Status) -> None:
        """Give those among `rows` that are chosen, (b,) bool, their final status."""
        self._memory["status"][rows.only(chosen).index] = status

    def _move(self, rows: Rows, theta: Tensor, loss: Tensor, short: Tensor) -> None:
        """Accept a step of these members to `theta` and test whether it was their last; `short`, (b,): it met the step test."""
        memory, index = self._memory, rows.index
        decrease = memory["loss"][index] - loss
        small = self.stopping.is_small(decrease, loss, self._theta.dtype)
        counts = (memory["small_decreases"][index] + 1) * small
        status = torch.where(counts >= 2, Status.LOSS, torch.where(short, Status.STEP, Status.RUNNING))
        self._theta[index] = theta
        memory["loss"][index] = loss
        memory["small_decreases"][index] = counts
        memory["status"][index] = status
        memory["iterations"][index] += 1

    def _evaluate_loss(self, theta: Tensor, rows: Rows) -> Tensor:
        self._memory["evaluations"]["losses"] += len(theta)
        return self.objective.loss(theta, rows.members).double()

    def _evaluate_gradient(self, theta: Tensor, rows: Rows) -> tuple[Tensor, Tensor]:
        self._memory["evaluations"]["gradients"] += len(theta)
        loss, gradient = self.objective.gradient(theta, rows.members)
        return loss.double(), gradient.double()

    def _linearize(self, theta: Tensor, rows: Rows) -> Linearization:
        self._memory["evaluations"]["linearizations"] += len(theta)
        return self.objective.linearize(theta, rows.members)
