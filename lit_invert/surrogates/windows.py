r"""Networks that see a window at a time: some days of context, then the days of a horizon for which they give fluxes.

Such a network knows the past of a day only as far as its window reaches. :class:`WindowedNetwork` makes an ordinary surrogate of
it: it cuts a record of T days into windows whose horizons follow one another, simulates all windows of all members as one batch,
and puts the horizons together. With a context of C days and a horizon of H, window i holds the days

.. math:: [s_i,\ s_i + C + H), \qquad s_i = \min(i H,\ T - C - H), \qquad i = 0, \ldots, \lceil (T - C) / H \rceil - 1

so the last window is shifted back to end with the record, and only the days that no window before it has simulated are taken from
it. Nothing can be said of the first C days: they are zero and belong to the warm-up.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from ..errors import ShapeError, SurrogateError, suggest

Inputs = Literal["joined", "split"]

#: What one call of a network may hold, by a rough count: on a CPU, and on anything else, which needs many windows to be busy.
_CPU_BYTES, _DEVICE_BYTES = 1 << 28, 1 << 31

#: Longest number of days that a spec may state; longer ones are slips, and would fill the memory.
MOST_DAYS = 1_000_000


@dataclass(frozen=True)
class Windows:
    """How a network cuts time.

    Example:
        >>> Windows(context_days=180, horizon_days=30).starts(365)
        [0, 30, 60, 90, 120, 150, 155]
    """

    context_days: int
    """Days that a window sees before those that it simulates."""
    horizon_days: int
    """Days that a window simulates."""
    inputs: Inputs = "joined"
    """`joined`: network(static, window); `split`: network(static, context, horizon)."""

    @classmethod
    def from_dict(cls, values: object, where: str) -> Windows | None:
        """Build the windows of a spec from plain values; None where a network has none.

        Raises:
            SurrogateError: If a key is unknown or missing, or a value has the wrong type.
        """
        if values is None or isinstance(values, cls):
            return values
        if not isinstance(values, Mapping):
            raise SurrogateError(f"{where}: 'windows' is {values!r:.60}, expected an object with context_days and horizon_days.")
        _check_keys(values, [f.name for f in fields(cls)], where)
        return cls(**values)

    @property
    def days(self) -> int:
        """Length of a window."""
        return self.context_days + self.horizon_days

    def starts(self, days: int) -> list[int]:
        """Return the first day of each window of a record.

        Raises:
            ShapeError: If the record is shorter than a window.
        """
        if days < self.days:
            raise ShapeError(
                f"forcing has {days} days but a window has {self.days}: {self.context_days} of context and "
                f"{self.horizon_days} of horizon. Choose a longer period."
            )
        count = -(-(days - self.context_days) // self.horizon_days)
        return [min(i * self.horizon_days, days - self.days) for i in range(count)]


class WindowedNetwork(nn.Module):
    """A network of windows that takes and gives whole records.

    Windows beyond what memory bears are simulated in chunks; where a gradient is asked for, each chunk is then simulated once more
    on the way back, so that memory does not grow with the number of windows.

    Args:
        network: `(static (N, P), window (N, C + H, F))`, or `(static, context (N, C, F), horizon (N, H, F))` where inputs are
            split, to fluxes (N, H, V); of fluxes (N, C + H, V) the last H days count.
        windows: How it cuts time.

    Example:
        >>> class Sum(nn.Module):
        ...     def forward(self, static, window):
        ...         return static[:, None] + window
        >>> network = WindowedNetwork(Sum(), Windows(context_days=2, horizon_days=2))
        >>> network(torch.ones(1, 1), torch.arange(5.0).reshape(1, 5, 1)).flatten().tolist()
        [0.0, 0.0, 3.0, 4.0, 5.0]
    """

    def __init__(self, network: nn.Module, windows: Windows) -> None:
        super().__init__()
        self.network, self.windows = network, windows

    def forward(self, static: Tensor, forcing: Tensor) -> Tensor:
        """Simulate.

        Args:
            static: Static parameters, a (B, P)-dim tensor.
            forcing: Forcing, a (B, T, F)-dim tensor.

        Returns:
            A (B, T, V)-dim tensor; its first C days are zero.

        Raises:
            ShapeError: If the record is shorter than a window, or the network does not return the days of a horizon or window.
            SurrogateError: If the network returns anything but one tensor.
        """
        starts = torch.tensor(self.windows.starts(forcing.shape[1]), device=forcing.device)
        member = torch.arange(len(static), device=forcing.device).repeat_interleave(len(starts))
        count = -(-len(member) // self._most_windows(forcing))
        chunks = zip(member.tensor_split(count), starts.repeat(len(static)).tensor_split(count), strict=True)
        is_recomputed = count > 1 and torch.is_grad_enabled() and static.requires_grad
        parts = [
            checkpoint(self._simulate, static, forcing, *chunk, use_reentrant=False, preserve_rng_state=False)
            if is_recomputed
            else self._simulate(static, forcing, *chunk)
            for chunk in chunks
        ]
        return self._in_sequence(torch.cat(parts).unflatten(0, (len(static), len(starts))), forcing.shape[1])

    def _simulate(self, static: Tensor, forcing: Tensor, member: Tensor, start: Tensor) -> Tensor:
        """Return the horizons (N, H, V) of N windows, each by its member and its first day."""
        days = start[:, None] + torch.arange(self.windows.days, device=start.device)
        window = forcing[member[:, None], days]
        parts = window.split([self.windows.context_days, self.windows.horizon_days], dim=1)
        inputs = parts if self.windows.inputs == "split" else (window,)
        return self._checked(self.network(static[member], *inputs))

    def _checked(self, simulated: object) -> Tensor:
        if not isinstance(simulated, Tensor):
            raise SurrogateError(
                f"a network of windows returned a {type(simulated).__name__}, expected one tensor (windows, days, outputs). "
                "Wrap the network so that it returns the fluxes alone."
            )
        lengths = (self.windows.horizon_days, self.windows.days)
        if simulated.dim() != 3 or simulated.shape[1] not in lengths:
            raise ShapeError(
                f"a network of windows returned shape {tuple(simulated.shape)}, expected (windows, {lengths[0]} or {lengths[1]}, "
                "outputs). Mend `windows` in its spec, or the network."
            )
        return simulated[:, -self.windows.horizon_days :]

    def _in_sequence(self, horizons: Tensor, days: int) -> Tensor:
        """Return the record (B, T, V) that the horizons (B, W, H, V) make."""
        context, horizon = self.windows.context_days, self.windows.horizon_days
        rest = days - context - (horizons.shape[1] - 1) * horizon
        simulated = torch.cat([horizons[:, :-1].flatten(1, 2), horizons[:, -1, horizon - rest :]], dim=1)
        return functional.pad(simulated, (0, 0, context, 0))

    def _most_windows(self, forcing: Tensor) -> int:
        """Return how many windows one call may simulate."""
        limit = _CPU_BYTES if forcing.device.type == "cpu" else _DEVICE_BYTES
        return max(1, limit // (forcing.element_size() * self.windows.days * widest_layer(self.network)))


def widest_layer(network: nn.Module) -> int:
    """Return the size of a network's widest layer, for rough counts of memory; 64 where nothing tells.

    Networks that were recorded keep their weights as buffers, so these count too.

    Example:
        >>> widest_layer(nn.Sequential(nn.Linear(3, 500), nn.Linear(500, 1)))
        500
    """
    tensors = [*network.parameters(), *network.buffers()]
    return max((max(t.shape[:-1]) for t in tensors if t.dim() > 1), default=64)


def _check_keys(values: Mapping[str, Any], known: list[str], where: str) -> None:
    for key in values:
        if key not in known:
            raise SurrogateError(f"{where}: 'windows' has unknown key {key!r}.{suggest(key, known)}")
    for key in ("context_days", "horizon_days"):
        value = values.get(key)
        # To Python `true` is an int, but it is nobody's number of days.
        if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= MOST_DAYS:
            raise SurrogateError(
                f"{where}: {key!r} of 'windows' is {value!r:.60}, expected a whole number of days, 1 or more, at most {MOST_DAYS}."
            )
    inputs = values.get("inputs", "joined")
    if inputs not in get_args(Inputs):
        raise SurrogateError(f"{where}: 'inputs' of 'windows' is {inputs!r:.60}.{suggest(str(inputs), get_args(Inputs))}")
