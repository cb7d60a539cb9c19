"""Stop when the monitored number no longer falls."""

from __future__ import annotations

from typing import Any

from lightning.pytorch.callbacks import EarlyStopping


class StopEarly(EarlyStopping):
    """Lightning's own, but a resumed fit obeys the patience of its own config, and has not stopped because an earlier one had."""

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take how long the number has not fallen, and nothing that the config says."""
        super().load_state_dict({**state_dict, "patience": self.patience, "stopped_epoch": 0})
