"""How much memory a call takes at its peak, beyond what the process held before."""

from __future__ import annotations

import ctypes
import math
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

_STATUS, _RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")


@contextmanager
def peak_memory() -> Iterator[Callable[[], float]]:
    """Yield a function that returns the peak since the start [MiB]; NaN where the kernel (Linux) does not tell."""
    try:
        ctypes.CDLL(None).malloc_trim(0)  # what earlier calls freed but still hold would hide what this one takes
        _RESET.write_text("5")  # sets the high-water mark to what is resident now
        before = _read("VmRSS")
    except (OSError, AttributeError, LookupError):
        yield lambda: math.nan
        return
    yield lambda: _read("VmHWM") - before


def _read(key: str) -> float:
    found = re.search(rf"{key}:\s+(\d+) kB", _STATUS.read_text())
    if found is None:
        raise LookupError(f"{_STATUS} has no {key}")
    return int(found[1]) / 1024
