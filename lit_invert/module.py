"""The LightningModule: the static parameters around a frozen problem, and nothing else that learns."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from lightning.pytorch import LightningModule
from torch import Tensor, nn
from torch.optim import Optimizer

from .errors import ConfigError, SurrogateError
from .losses.misfit import masked_mean_square
from .problem import InversionProblem, Loss

_HASH_KEY, _SPACE_KEY = "surrogate_sha256", "theta_space"


class InversionModule(LightningModule):
    """Static parameters that a Trainer moves to fit a frozen surrogate to observations.

    Args:
        problem: What to minimise; it sees only the `fit` days.
        theta: Where to start, a (B, P)-dim tensor in the optimiser's coordinates.
        build_optimizer: From the parameters and the learning rate to an optimiser.
        lr: Learning rate.
        target: Name of the flux whose RMSE is shown and selected on.
        select: Observed fluxes and their mask on the `select` days, each (1 or B, T, V) [gC m-2 d-1]; None if there are none.
    """

    select_observed: Tensor
    select_mask: Tensor

    def __init__(
        self,
        problem: InversionProblem,
        theta: Tensor,
        build_optimizer: Callable[[list[nn.Parameter], float], Optimizer],
        lr: float,
        target: str = "nep",
        select: tuple[Tensor, Tensor] | None = None,
    ) -> None:
        super().__init__()
        self.strict_loading = False  # checkpoints hold theta alone
        self.problem = problem
        self.theta = nn.Parameter(theta.clone())
        self.lr, self._build_optimizer = lr, build_optimizer
        self.target = target
        self._place = problem.surrogate.spec.output_names.index(target)
        self.has_select = select is not None
        if select is not None:
            self.register_buffer("select_observed", select[0], persistent=False)
            self.register_buffer("select_mask", select[1], persistent=False)
        #: The loss of this iteration at the theta that it started from, for callbacks.
        self.last_loss: Loss | None = None
        #: The RMSE of each member on the `select` days when it was last looked at, for callbacks.
        self.last_select: Tensor | None = None

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        """Forget the last iteration."""
        self.last_loss = None

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        """Return the summed loss of all members, whose gradient keeps the members apart."""
        loss: Loss = self.problem(self.theta)
        if self.last_loss is None:  # a solver with a line search comes here again, at other thetas
            self.last_loss = loss
        total = loss.total.sum()
        self.log("loss/total", total.detach(), prog_bar=True, batch_size=1)
        rmse = self._rmse(loss.evaluation.simulated.detach(), self.problem.observed, self.problem.mask)
        self.log("fit/rmse", rmse.min(), prog_bar=True, batch_size=1)
        return total

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        """Log the RMSE on the `select` days, that of the best member; without such days there is nothing to look at."""
        if not self.has_select:
            return
        self.last_select = self.select_rmse()
        self.log("select/rmse", self.last_select.min(), prog_bar=True, batch_size=1, sync_dist=True)

    @torch.no_grad()
    def select_rmse(self) -> Tensor:
        """Return the target's RMSE on the `select` days at the present theta, a (B,)-dim tensor [gC m-2 d-1]."""
        return self._rmse(self.problem.simulate(self.theta), self.select_observed, self.select_mask)

    def _rmse(self, simulated: Tensor, observed: Tensor, mask: Tensor) -> Tensor:
        place = self._place
        return masked_mean_square(simulated[..., place], observed[..., place], mask[..., place]).sqrt()

    def configure_optimizers(self) -> Optimizer:
        """Build the solver over theta alone."""
        return self._build_optimizer([self.theta], self.lr)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Store theta and which surrogate it belongs to, not the weights, which never change."""
        checkpoint["state_dict"] = {"theta": checkpoint["state_dict"]["theta"]}
        checkpoint[_HASH_KEY] = self.problem.surrogate.sha256
        checkpoint[_SPACE_KEY] = _name_space(self.problem)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuse theta of another surrogate, or in other coordinates; see :func:`check_checkpoint`."""
        check_checkpoint(checkpoint, self.problem)


def check_checkpoint(checkpoint: Mapping[str, Any], problem: InversionProblem) -> None:
    """Check that a checkpoint's theta means what this problem's theta means.

    Raises:
        SurrogateError: If it was made with other weights.
        ConfigError: If it was made with another transform or other parameters.
    """
    found, expected = checkpoint.get(_HASH_KEY), problem.surrogate.sha256
    if found != expected:
        raise SurrogateError(
            f"checkpoint belongs to a surrogate with SHA-256 {found!r}, this run uses {expected!r}. "
            "Resume with the surrogate that the checkpoint was made with."
        )
    there, here = checkpoint.get(_SPACE_KEY) or ["unknown"], _name_space(problem)
    if there != here:
        what = f"the transform {there[0]!r}, this run uses {here[0]!r}" if there[0] != here[0] else "other parameters"
        raise ConfigError(f"checkpoint was made with {what}. Resume with `constraints` and `parameters` as they were.")


def _name_space(problem: InversionProblem) -> list[str]:
    """Name what theta means: the transform, and the parameters in order."""
    return [problem.space.transform.name, *problem.space.table.names]
