"""Stop when the monitored number no longer falls."""

from __future__ import annotations

from typing import Any

import torch
from lightning.pytorch.callbacks import EarlyStopping


class StopEarly(EarlyStopping):
    """Lightning's own, but a resumed fit obeys the patience of its own config, and has not stopped because an earlier one had."""

    def forget_losses(self) -> None:
        """Begin to count anew where the loss is watched."""
        if self.monitor == "loss/total":
            self.best_score, self.wait_count = torch.tensor(torch.inf), 0

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take how long the number has not fallen, and nothing that the config says."""
        super().load_state_dict({**state_dict, "patience": self.patience, "stopped_epoch": 0})
