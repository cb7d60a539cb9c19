"""Keep what each iteration saw."""

from __future__ import annotations

from typing import Any

import pandas as pd
import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from torch import Tensor

from ..module import InversionModule
from .clipping import ClipToBounds


class RecordHistory(Callback):
    """One row an iteration: total, terms, weighted terms, gradient norm, share clipped, and the `select` RMSE after each epoch.

    Numbers stay on the device until the end, so that recording never waits for it. A batch of members is recorded as its mean.

    Args:
        clipping: The callback that clips, if any.
    """

    def __init__(self, clipping: ClipToBounds | None = None) -> None:
        self._clipping = clipping
        self._columns: list[str] = []
        self._rows: list[Tensor] = []
        self._earlier = pd.DataFrame()
        self._select: dict[int, float] = {}
        self._gradient_norm: Tensor | None = None

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Any) -> None:
        """Keep the norm of the gradient."""
        assert isinstance(pl_module, InversionModule)
        gradient = pl_module.theta.grad
        self._gradient_norm = None if gradient is None else gradient.norm()

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
        share = total.new_zeros(()) if clipped is None else clipped.to(total.dtype).mean()
        norm = total.new_tensor(torch.nan) if self._gradient_norm is None else self._gradient_norm.to(total.dtype)
        means = torch.stack([value.to(total.dtype) for value in numbers.values()]).mean(1)
        self._columns = [*numbers, "gradient_norm", "clipped_share"]
        self._rows.append(torch.cat([means, torch.stack([norm, share])]).unsqueeze(0))
        if pl_module.objective is not None and pl_module.has_select:  # few and long steps: each is scored
            self._select[trainer.global_step - 1] = pl_module.select_rmse_of(loss).min().item()

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Keep the score on the `select` days."""
        if "select/rmse" in trainer.callback_metrics and not trainer.sanity_checking:
            self._select[trainer.global_step] = trainer.callback_metrics["select/rmse"].item()

    def _values(self) -> Tensor:
        """Return the rows of this run, (iterations, columns); they are joined once, since each checkpoint asks for all of them."""
        if not self._rows:
            return torch.empty(0, len(self._columns), dtype=torch.float64)
        self._rows = [torch.cat(self._rows)]
        return self._rows[0].double().cpu()

    def _table(self) -> pd.DataFrame:
        """Return the rows of the run that was resumed and of this one; a term that only one of them has is NaN in the other."""
        rows = pd.DataFrame(self._values().numpy(), columns=self._columns)
        return pd.concat([part for part in (self._earlier, rows) if len(part)], ignore_index=True) if len(self._earlier) else rows

    def frame(self) -> pd.DataFrame:
        """Return the history, one row an iteration; `select/rmse` stands beside the last iteration before it was looked at."""
        frame = self._table()
        frame.insert(0, "iteration", range(len(frame)))
        frame["select/rmse"] = [self._select.get(i + 1, float("nan")) for i in range(len(frame))]
        return frame

    def state_dict(self) -> dict[str, Any]:
        """Return the history, for the checkpoint."""
        table = self._table()
        return {"columns": list(table), "rows": torch.tensor(table.to_numpy(dtype="float64")), "select": dict(self._select)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take the history from a checkpoint."""
        self._earlier = pd.DataFrame(state_dict["rows"].numpy(), columns=list(state_dict["columns"]))
        self._select = dict(state_dict["select"])
