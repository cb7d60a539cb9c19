"""Keeping freed memory while a fit runs.

A fit allocates and frees the same few large tensors again and again. glibc gives such memory back to the system at once and gets it
again page by page, which can take as long as the simulation that fills it.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Iterator
from contextlib import contextmanager

# Parameters of mallopt(3).
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
_LARGEST = 32 << 20  # glibc's own upper limit of the second
_ALL = (1 << 31) - 1


@contextmanager
def keeping_freed_memory() -> Iterator[None]:
    """Keep what is freed inside for what is allocated next, up to 32 MiB a piece, and give it back in the end.

    Without glibc this does nothing. Its threshold for pieces stays where it adapts to by itself.
    """
    library = ctypes.CDLL(None) if sys.platform == "linux" else None
    if not hasattr(library, "mallopt"):
        yield
        return
    assert library is not None
    library.mallopt(_MMAP_THRESHOLD, _LARGEST)
    library.mallopt(_TRIM_THRESHOLD, _ALL)
    try:
        yield
    finally:
        library.mallopt(_TRIM_THRESHOLD, 2 * _LARGEST)  # where glibc's own thresholds end when they adapt
        library.malloc_trim(0)
