"""The kernel is built once, for this processor or any older one, and what can go wrong is said in one line."""

from __future__ import annotations

import functools
import platform
import shutil
import subprocess
from pathlib import Path

import pytest

from lit_invert.errors import KernelError
from lit_invert.kernels import build
from lit_invert.kernels.build import load_library
from lit_invert.kernels.native import NativeKernel, has_bfloat16
from tests.kernels import cases
from tests.kernels.cases import TOLERANCES, Case, Frozen

NARROWER = {
    "no tiles": ("-mno-amx-bf16", 16),
    "no bfloat16": ("-mno-avx512bf16", 16),
    "256 bits": ("-mno-avx512f", 8),
    "128 bits": ("-mno-avx", 4),
}


def test_it_is_built_once(compiler, empty_cache, monkeypatch):
    load_library()
    built = list(empty_cache.iterdir())
    assert [path.suffix for path in built] == [".so"]
    load_library.cache_clear()
    monkeypatch.setattr(subprocess, "run", None)
    load_library()
    assert list(empty_cache.iterdir()) == built


def test_without_a_compiler_it_says_which_were_looked_for(empty_cache, monkeypatch):
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setenv("PATH", "")
    with pytest.raises(KernelError, match=r"no C compiler was found \(cc, gcc or clang, or the variable CC\)"):
        load_library()


def test_a_compiler_that_fails_is_named_and_leaves_nothing_behind(empty_cache, monkeypatch):
    monkeypatch.setenv("CC", "false")
    with pytest.raises(KernelError, match=r"^false could not build the kernel: no message$"):
        load_library()
    assert list(empty_cache.iterdir()) == []


def test_a_compiler_that_is_not_there_is_named(empty_cache, monkeypatch):
    monkeypatch.setenv("CC", "no-such-compiler")
    with pytest.raises(KernelError, match="no-such-compiler"):
        load_library()


def test_a_cache_that_cannot_be_written_is_named(tmp_path, empty_cache, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(KernelError, match=r"cannot be kept or loaded in .*file/lit-invert"):
        load_library()


@pytest.mark.skipif(platform.machine() != "x86_64", reason="these are instruction sets of x86")
@pytest.mark.parametrize(("without", "vector"), NARROWER.values(), ids=NARROWER)
def test_narrower_processors_give_the_same_numbers(compiler, tmp_path, empty_cache, monkeypatch, without, vector):
    monkeypatch.setenv("CC", _compiler_without(without, tmp_path))
    assert load_library().lstm_vector() <= vector
    assert load_library().lstm_bf16() <= (without == "-mno-amx-bf16")
    for precision in ("float32", "split") if has_bfloat16() else ("float32",):
        frozen = Frozen(Case(layers=2, batch=7), functools.partial(NativeKernel, gradient=precision, tangents=precision))
        tolerance = TOLERANCES[precision]
        cases.check_simulation(frozen, tolerance=tolerance)
        cases.check_pull(frozen, tolerance=tolerance)
        cases.check_push(frozen, tolerance=tolerance)


def _compiler_without(instructions: str, folder: Path) -> str:
    """Return a compiler that leaves instructions out, whatever it is told of the processor before."""
    script = folder / "cc"
    script.write_text(f'#!/bin/sh\nexec {shutil.which("cc") or shutil.which("gcc")} "$@" {instructions}\n')
    script.chmod(0o755)
    return str(script)


def test_without_a_home_it_says_so(monkeypatch):
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)

    def homeless():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(build.Path, "home", homeless)
    load_library.cache_clear()
    with pytest.raises(KernelError, match="cannot be kept or loaded"):
        load_library()
    load_library.cache_clear()
