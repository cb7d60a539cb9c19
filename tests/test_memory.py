"""Freed memory is kept while a fit runs: counted in page faults, in a process whose allocator has no past."""

from __future__ import annotations

import subprocess
import sys

import pytest

from lit_invert.memory import keeping_freed_memory

COUNT = """
import ctypes, resource
from lit_invert.memory import keeping_freed_memory

libc, size = ctypes.CDLL(None), 24 << 20
libc.malloc.restype = ctypes.c_void_p
libc.malloc.argtypes = [ctypes.c_size_t]
libc.free.argtypes = [ctypes.c_void_p]


def faults(rounds):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(rounds):
        pieces = [libc.malloc(size) for _ in range(4)]
        for piece in pieces:
            ctypes.memset(piece, 1, size)
        for piece in pieces:
            libc.free(piece)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


outside = faults(5)
with keeping_freed_memory():
    faults(1)
    inside = faults(5)
print(outside, inside)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's allocator")
def test_the_same_pages_are_written_again():
    done = subprocess.run([sys.executable, "-c", COUNT], capture_output=True, text=True, check=True)
    outside, inside = map(int, done.stdout.split())
    assert inside < 0.1 * outside


def test_an_error_inside_comes_through():
    with pytest.raises(ZeroDivisionError), keeping_freed_memory():
        1 / 0  # noqa: B018
