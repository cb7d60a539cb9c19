"""Forcing that a module holds: it follows the module from device to device, whether it is one tensor or a dict of windows."""

from __future__ import annotations

from torch import Tensor, nn

from ..kernels.frozen import rows_of
from .base import Forcing


class HeldForcing(nn.Module):
    """Forcing as buffers.

    Args:
        forcing: A (1 or B, T, F)-dim tensor, or a dict of tensors for windowed surrogates.

    Example:
        >>> import torch
        >>> held = HeldForcing({"air": torch.zeros(1, 30, 2)})
        >>> held.first(10).value["air"].shape
        torch.Size([1, 10, 2])
    """

    def __init__(self, forcing: Forcing) -> None:
        super().__init__()
        self._is_dict = isinstance(forcing, dict)
        for key, value in forcing.items() if isinstance(forcing, dict) else [("", forcing)]:
            self.register_buffer(f"forcing:{key}", value, persistent=False)

    @property
    def value(self) -> Forcing:
        """The forcing as it was given."""
        parts = {name.partition(":")[2]: value for name, value in self.named_buffers(remove_duplicate=False)}
        return parts if self._is_dict else parts[""]

    @property
    def part(self) -> Tensor:
        """The tensor, or one of them: device, members and days are those of all."""
        return next(self.buffers())

    def rows(self, rows: Tensor | None) -> Forcing:
        """Return the forcing of these members; one row serves all."""
        value = self.value
        return {key: rows_of(part, rows) for key, part in value.items()} if isinstance(value, dict) else rows_of(value, rows)

    def first(self, days: int) -> HeldForcing:
        """Return that of the first days alone, sharing memory."""
        value = self.value
        return HeldForcing({key: part[:, :days] for key, part in value.items()} if isinstance(value, dict) else value[:, :days])
