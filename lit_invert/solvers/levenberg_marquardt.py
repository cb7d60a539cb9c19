r"""Levenberg-Marquardt: Gauss-Newton steps, as long as the model they follow is right.

One linearisation gives a quadratic model of the loss. Its lowest point in the box is the next theta, unless the model was wrong
that far away: damping :math:`\mu` then shortens the step until the loss falls, and falls away again while the model keeps its
promises. The gain ratio, what the loss fell by over what the model promised, decides both (Nielsen). Damping acts on each parameter
in the units of its own curvature (Marquardt), so that rescaling a parameter changes nothing.

Terms of the loss without residuals add a learned curvature, see :mod:`lit_invert.solvers.structured`; what they alone see is damped
in units of that.

Source:
    Marquardt (1963), J. SIAM 11(2), 431-441, doi:10.1137/0111030.
    Madsen, Nielsen and Tingleff (2004), Methods for non-linear least squares problems, 2nd edition, DTU, section 3.2.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields

import torch
from torch import Tensor, nn

from ..objective import Objective
from .bounded import BoundedSolver, Rows
from .box import Dense, step_in_box
from .stopping import Status, Stopping
from .structured import structured_update
from .unseen import LEAST_SCALE, lift_unseen

#: Share of the promised decrease that a step must bring to be accepted.
ACCEPTED_GAIN = 1e-4


@dataclass(frozen=True)
class _Model:
    """Quadratic model of the loss of b members around theta."""

    theta: Tensor
    loss: Tensor
    gradient: Tensor
    hessian: Tensor
    scale: Tensor
    lower: Tensor
    upper: Tensor

    def only(self, chosen: Tensor) -> _Model:
        return _Model(*(getattr(self, field.name)[chosen] for field in fields(self)))

    def step(self, damping: Tensor) -> Tensor:
        damped = self.hessian + torch.diag_embed(damping[:, None] * self.scale)
        return step_in_box(Dense(damped), self.gradient, self.lower, self.upper)

    def promise(self, step: Tensor) -> Tensor:
        """Return the decrease that the model expects of a step, (b,)."""
        slope = torch.baddbmm(self.gradient[..., None], self.hessian, step[..., None], alpha=0.5)[..., 0]
        return -(step * slope).sum(-1)


class LevenbergMarquardt(BoundedSolver):
    """Bounded Levenberg-Marquardt for B members at once.

    Args:
        params: One parameter theta, (B, P).
        objective: Loss, linearisation and bounds.
        damping: Damping of the first step, in units of the curvature's diagonal [-].
        trials: Most trial steps, each one loss, to one linearisation.
        stopping: Tolerances and time limit.

    Example:
        >>> from lit_invert.solvers import LeastSquares
        >>> theta = nn.Parameter(torch.tensor([[-1.2, 1.0]], dtype=torch.float64))
        >>> rosenbrock = LeastSquares(lambda t: torch.stack([10 * (t[:, 1] - t[:, 0] ** 2), 1 - t[:, 0]], dim=1))
        >>> solver = LevenbergMarquardt([theta], rosenbrock)
        >>> while not solver.finished:
        ...     loss = solver.step()
        >>> theta.data.round(decimals=6)
        tensor([[1., 1.]], dtype=torch.float64)
    """

    _settings = (*BoundedSolver._settings, "trials", "damping")
    _learned = ("scale", "correction", "last_theta", "last_remainder", "last_gradient")

    def __init__(
        self,
        params: Iterable[nn.Parameter],
        objective: Objective,
        *,
        damping: float = 1e-2,
        trials: int = 8,
        stopping: Stopping | None = None,
    ) -> None:
        super().__init__(params, objective, stopping=stopping)
        self.trials, self.damping = trials, damping
        self._memory.update(self._unlearned())

    def _unlearned(self) -> dict[str, Tensor]:
        loss = self._memory["loss"]
        return {"damping": torch.full_like(loss, self.damping), "growth": torch.full_like(loss, 2.0)}

    def _look_at(self, theta: Tensor, rows: Rows) -> tuple[Tensor, Tensor]:
        linear = self.objective.linearize(theta, rows.members)
        return linear.loss, linear.gradient

    def _advance(self, rows: Rows) -> None:
        self._start()
        model = self._model(rows)
        diagonal = model.hessian.diagonal(dim1=-2, dim2=-1).clamp_min(0.0)
        flat = self.stopping.is_flat(model.loss, model.gradient, diagonal, model.lower, model.upper)
        if flat.any():
            self._finish(rows, flat, Status.GRADIENT)
            rows, model = rows.only(~flat), model.only(~flat)
        self._try(rows, model)

    def _model(self, rows: Rows) -> _Model:
        """Linearise at theta, in float64, with the learned curvature and the largest scale so far."""
        theta = self._copy(rows)
        linear = self._linearize(theta, rows)
        loss, gradient, hessian = linear.loss.double(), linear.gradient.double(), linear.curvature.double()
        self._check_start(rows, loss, gradient)
        scale = hessian.diagonal(dim1=-2, dim2=-1)
        if "scale" in self._memory:
            scale = torch.maximum(scale, self._memory["scale"][rows.index])
        theta64 = theta.double()
        if linear.remainder is not None:
            hessian = hessian + self._correction(rows, theta64, gradient, linear.remainder.double())
        hessian = lift_unseen(hessian, gradient)
        self._remember(rows, loss=loss, scale=scale)
        lower, upper = self.objective.bounds(theta, rows.members)
        return _Model(theta64, loss, gradient, hessian, _damped_scale(scale, hessian), lower - theta64, upper - theta64)

    def _correction(self, rows: Rows, theta: Tensor, gradient: Tensor, remainder: Tensor) -> Tensor:
        """Update the learned curvature with the last step and return it."""
        memory, index = self._memory, rows.index
        if "correction" in memory:
            correction = structured_update(
                memory["correction"][index],
                theta - memory["last_theta"][index],
                remainder - memory["last_remainder"][index],
                gradient - memory["last_gradient"][index],
            )
        else:
            correction = torch.diag_embed(torch.zeros_like(theta))
        self._remember(rows, correction=correction, last_theta=theta, last_remainder=remainder, last_gradient=gradient)
        return correction

    def _try(self, rows: Rows, model: _Model) -> None:
        """Raise the damping until the loss of every member has fallen or the trials are over."""
        for attempt in range(self.trials):
            if not len(model.loss):
                return
            step, trial, loss, promise = self._trial(rows, model)
            gain = (model.loss - loss) / promise
            accepted = (gain > ACCEPTED_GAIN) & (promise > 0) & loss.isfinite()
            self._adapt(rows, gain, accepted)
            short = self.stopping.is_short(step, model.theta) & (attempt == 0)
            if all(accepted.tolist()):
                self._move(rows, trial, loss, short)
                return
            self._move(rows.only(accepted), trial[accepted], loss[accepted], short[accepted])
            # what promises less than the loss can tell was rejected for rounding: the member has arrived
            arrived = ~accepted & self.stopping.is_small(promise, model.loss, self._theta.dtype) & (promise > 0)
            self._finish(rows, arrived, Status.PROMISE)
            going = ~accepted & ~arrived
            rows, model = rows.only(going), model.only(going)
        self._finish(rows, torch.ones_like(model.loss, dtype=torch.bool), Status.STUCK)

    def _trial(self, rows: Rows, model: _Model) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return the step, where it leads inside the bounds, the loss there and the model's promise."""
        raw = model.theta + model.step(self._memory["damping"][rows.index])
        trial = self.objective.project(raw.to(self._theta.dtype), rows.members)
        step = trial.double() - model.theta
        return step, trial, self._evaluate_loss(trial, rows), model.promise(step)

    def _adapt(self, rows: Rows, gain: Tensor, accepted: Tensor) -> None:
        """Change the damping by the gain ratio (Nielsen)."""
        memory, index = self._memory, rows.index
        damping, growth = memory["damping"][index], memory["growth"][index]
        relief = (1 - (2 * gain - 1) ** 3).clamp(min=1 / 3, max=2.0)
        memory["damping"][index] = damping * torch.where(accepted, relief, growth)
        memory["growth"][index] = torch.where(accepted, 2.0, 2 * growth)


def _damped_scale(scale: Tensor, hessian: Tensor) -> Tensor:
    """Return the scale, (b, P), with the model's own curvature where residuals see nothing; one without any must be damped, too."""
    least = LEAST_SCALE * scale.amax(-1, keepdim=True)
    return torch.where(scale > least, scale, hessian.diagonal(dim1=-2, dim2=-1).maximum(least))
