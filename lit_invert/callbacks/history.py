"""Keep what each iteration saw."""

from __future__ import annotations

from typing import Any

import pandas as pd
import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from torch import Tensor

from ..module import InversionModule
from ..parameters import ParameterSpace
from ..results.tables import AT_BOUND
from .clipping import ClipToBounds


class RecordHistory(Callback):
    """One row an iteration: total, terms, weighted terms, how its step went, and the `select` RMSE after each epoch.

    How it went: the norm of the gradient, the learning rate (NaN where the solver has none), the share of parameters that had to be
    clipped, and how many free ones stood at their lower and upper bound when the iteration began: of a site on average, where sites
    share their parameters and are one member.

    Each member of a batch has a history of its own. Numbers stay on the device until the end, so that recording never waits for it.

    Args:
        clipping: The callback that clips, if any.
    """

    def __init__(self, clipping: ClipToBounds | None = None) -> None:
        self._clipping = clipping
        self._columns: list[str] = []
        self._rows: list[Tensor] = []
        self._earlier_columns: list[str] = []
        self._earlier = torch.empty(0, 0, 0, dtype=torch.float64)
        self._select: dict[int, Tensor] = {}
        self._gradient_norm: Tensor | None = None
        self._rate = float("nan")

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Any) -> None:
        """Keep the norm of the gradient and the learning rate of this step, before a scheduler changes it."""
        assert isinstance(pl_module, InversionModule)
        gradient = pl_module.theta.grad
        self._rate = float(optimizer.param_groups[0].get("lr", float("nan")))
        self._gradient_norm = None if gradient is None else gradient.norm(dim=-1)

    @torch.no_grad()
    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Keep the numbers of this iteration."""
        assert isinstance(pl_module, InversionModule)
        loss = pl_module.last_loss
        if loss is None:
            return
        total = loss.total
        numbers = {
            "loss/total": total,
            **{f"loss/{name}": value for name, value in loss.terms.items()},
            **{f"weighted/{name}": value for name, value in loss.weighted.items()},
        }
        clipped = self._clipping.clipped if self._clipping is not None else None
        share = torch.zeros_like(total) if clipped is None else clipped.to(total.dtype).mean(-1)
        norm = torch.full_like(total, torch.nan) if self._gradient_norm is None else self._gradient_norm.to(total.dtype)
        numbers |= {"gradient_norm": norm, "lr": torch.full_like(total, self._rate), "clipped_share": share}
        at_bounds = _at_bounds(pl_module.problem.space, loss.evaluation.physical)
        numbers |= {name: count.to(total).view(len(total), -1).mean(-1) for name, count in at_bounds.items()}
        self._columns = list(numbers)
        self._rows.append(torch.stack([value.to(total.dtype).expand_as(total) for value in numbers.values()], dim=-1).unsqueeze(0))
        if pl_module.objective is not None and pl_module.has_select:  # few and long steps: each is scored
            self._select[trainer.global_step - 1] = pl_module.select_rmse_of(loss)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Keep the score on the `select` days."""
        assert isinstance(pl_module, InversionModule)
        if pl_module.last_select is not None and not trainer.sanity_checking:
            self._select[trainer.global_step] = pl_module.last_select

    def _values(self) -> Tensor:
        """Return the rows of this run, (iterations, B, columns); joined once, since each checkpoint asks for all of them."""
        if not self._rows:
            return torch.empty(0, 1, len(self._columns), dtype=torch.float64)
        self._rows = [torch.cat(self._rows)]
        return self._rows[0].double().cpu()

    def frame(self, member: int = 0) -> pd.DataFrame:
        """Return the history of a member, one row an iteration.

        `select/rmse` stands beside the last iteration before it was looked at. A term that only the resumed run or only this one
        has is NaN in the other.
        """
        parts = ((self._earlier_columns, self._earlier), (self._columns, self._values()))
        tables = [pd.DataFrame(rows[:, member].numpy(), columns=columns) for columns, rows in parts if len(rows)]
        frame = pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=self._columns)
        frame.insert(0, "iteration", range(len(frame)))
        select = {step: values[member].item() for step, values in self._select.items()}
        frame["select/rmse"] = [select.get(i + 1, float("nan")) for i in range(len(frame))]
        return frame

    def state_dict(self) -> dict[str, Any]:
        """Return the history, for the checkpoint."""
        columns, rows = self._columns, self._values()
        if len(self._earlier):
            columns = list(dict.fromkeys([*self._earlier_columns, *columns]))
            parts = ((self._earlier_columns, self._earlier), (self._columns, rows))
            rows = torch.cat([_spread(values, names, columns) for names, values in parts if len(values)])
        return {"columns": columns, "rows": rows, "select": {step: value.cpu() for step, value in self._select.items()}}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take the history from a checkpoint."""
        self._earlier_columns, self._earlier = list(state_dict["columns"]), state_dict["rows"]
        self._select = dict(state_dict["select"])


def _at_bounds(space: ParameterSpace, physical: Tensor) -> dict[str, Tensor]:
    """Return how many free parameters of each member, (B, P), stand at their lower and at their upper bound, (B,)."""
    lower, upper = space.bounds.resolve(physical)
    room, is_free = torch.where((upper - lower).isfinite(), AT_BOUND * (upper - lower), 0.0), ~space.fixed
    return {
        "at_lower": ((physical <= lower + room) & is_free).sum(-1),
        "at_upper": ((physical >= upper - room) & is_free).sum(-1),
    }


def _spread(values: Tensor, names: list[str], columns: list[str]) -> Tensor:
    """Return rows with all the columns, NaN in those that they lack."""
    spread = values.new_full((*values.shape[:-1], len(columns)), torch.nan)
    spread[..., [columns.index(name) for name in names]] = values
    return spread
