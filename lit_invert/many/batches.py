"""Which sites share a batch: those of like length, as many as memory allows.

Filling a short record up costs time and changes nothing, as long as the surrogate steps forward through time. One that looks ahead
(a bidirectional network, attention without a mask, a climatology of a year that the record does not have), or whose last window
ends with the record, would simulate other fluxes, so sites then share a batch only with those of their own length.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

#: Largest share of a batch's days that may be filling.
MOST_FILLING = 0.15
#: Memory of a member's day, without and with what grows with the hidden size, measured with the C kernel and with PyTorch [bytes].
_DAY_BYTES, _HIDDEN_BYTES = 4_000, 160


def plan_batches(
    lengths: Sequence[int], most_members: int, most_days: float, pads_exactly: Callable[[int, int], bool]
) -> list[list[int]]:
    """Share sites out between batches.

    Args:
        lengths: Days of each site's record.
        most_members: Most sites of a batch.
        most_days: Most days of all members of a batch together, filling included.
        pads_exactly: Asked with a site of each length of a batch and its longest: whether the first keeps its fluxes beside it.

    Returns:
        Indices of the sites of each batch, shortest records first.

    Example:
        >>> plan_batches([730, 3650, 700, 365], 8, 1e6, lambda shortest, longest: True)
        [[3], [2, 0], [1]]
    """
    order = sorted(range(len(lengths)), key=lambda i: lengths[i])
    batches: list[list[int]] = []
    for i in order:
        if not batches or not _fits(batches[-1], i, lengths, most_members, most_days):
            batches.append([])
        batches[-1].append(i)
    return [part for batch in batches for part in _of_exact_length(batch, lengths, pads_exactly)]


def most_days(memory_gb: float, hidden_size: int, starts: int) -> float:
    """Return how many days all sites of a batch may have together.

    Args:
        memory_gb: Memory that the batch may take [GB].
        hidden_size: Widest layer of the surrogate.
        starts: Starts of each site.
    """
    return memory_gb * 1e9 / (_DAY_BYTES + _HIDDEN_BYTES * hidden_size) / starts


def _fits(batch: Sequence[int], i: int, lengths: Sequence[int], most_members: int, most_days: float) -> bool:
    total = (len(batch) + 1) * lengths[i]  # it is the longest so far
    filling = total - sum(lengths[j] for j in batch) - lengths[i]
    return len(batch) < most_members and total <= most_days and filling <= MOST_FILLING * total


def _of_exact_length(batch: list[int], lengths: Sequence[int], pads_exactly: Callable[[int, int], bool]) -> list[list[int]]:
    """Return the batch, or one for each length where filling up changes a site."""
    of_length = {lengths[i]: i for i in batch}
    longest = of_length.pop(lengths[batch[-1]])
    if all(pads_exactly(i, longest) for i in of_length.values()):  # windows of some lengths bear it, of others not
        return [batch]
    return [[i for i in batch if lengths[i] == length] for length in sorted({lengths[i] for i in batch})]
