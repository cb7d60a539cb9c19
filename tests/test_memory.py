"""Freed memory is kept while a fit runs: counted in page faults."""

from __future__ import annotations

import resource
import sys

import pytest
import torch

from lit_invert.memory import keeping_freed_memory

PAGES_OF_ONE = (24 << 20) // resource.getpagesize()


def faults_of(rounds):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(rounds):
        [torch.ones(6 << 20) for _ in range(4)]  # 24 MiB of float32 each, written and freed
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's allocator")
def test_the_same_pages_are_written_again():
    outside = faults_of(5)
    with keeping_freed_memory():
        faults_of(1)
        inside = faults_of(5)
    assert outside > 5 * 4 * 0.5 * PAGES_OF_ONE > 3 * inside


def test_an_error_inside_comes_through():
    with pytest.raises(ZeroDivisionError), keeping_freed_memory():
        1 / 0  # noqa: B018
