"""A compiler where one is needed, and a cache of compiled kernels that is a test's own."""

from __future__ import annotations

import pytest

from lit_invert.errors import KernelError
from lit_invert.kernels.build import load_library


@pytest.fixture
def compiler():
    try:
        load_library()
    except KernelError as error:
        pytest.skip(str(error))


@pytest.fixture
def empty_cache(tmp_path, monkeypatch):
    """Nothing is compiled yet, and what is will be forgotten."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    load_library.cache_clear()
    yield tmp_path / "cache" / "lit-invert"
    load_library.cache_clear()
