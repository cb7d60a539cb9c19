"""Compile the C kernel for this processor, once, into the user's cache.

The library is built with whatever C compiler is there (`CC`, cc, gcc or clang) for exactly this processor, and named by the hash of
source, flags, system and processor, so that a home folder shared by different machines holds one library for each.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
from pathlib import Path

from ..errors import KernelError

_SOURCE = Path(__file__).with_name("lstm.c")
_FLAGS = ("-O3", "-march=native", "-std=gnu11", "-Wno-psabi", "-fPIC", "-shared")
_TIMEOUT = 120  # seconds; a build takes one or two


@functools.cache
def load_library() -> ctypes.CDLL:
    """Return the compiled kernel, built first if this processor has none in the cache.

    Raises:
        KernelError: If there is no C compiler, or it cannot build or load the kernel.
    """
    source = _SOURCE.read_bytes()
    parts = [*_FLAGS, os.environ.get("CC", ""), platform.platform(), _processor()]
    key = hashlib.sha256(b"\0".join([source, *(part.encode() for part in parts)])).hexdigest()[:16]
    folder = Path()
    try:
        folder = cache_folder()
        path = folder / f"lstm-{key}.so"
        if not path.exists():
            folder.mkdir(parents=True, exist_ok=True)
            _compile(path)
        return _declare(ctypes.CDLL(str(path)))
    except (OSError, RuntimeError) as error:  # no home folder is a RuntimeError
        raise KernelError(f"the compiled kernel cannot be kept or loaded in {folder} ({error}).") from error


def _declare(library: ctypes.CDLL) -> ctypes.CDLL:
    """Tell ctypes what each entry point takes: without it, addresses would be cut to 32 bits."""
    pointer = ctypes.c_void_p
    library.lstm_simulate.argtypes = [pointer] * 5
    library.lstm_pull.argtypes = [pointer] * 9
    library.lstm_push.argtypes = [pointer] * 3 + [ctypes.c_int] + [pointer] * 5
    for name in ("lstm_simulate", "lstm_pull", "lstm_push"):
        getattr(library, name).restype = None
    return library


def cache_folder() -> Path:
    """Return where compiled kernels are kept: `$XDG_CACHE_HOME/lit-invert`, or `~/.cache/lit-invert`."""
    root = os.environ.get("XDG_CACHE_HOME")
    return (Path(root) if root else Path.home() / ".cache") / "lit-invert"


def _compile(path: Path) -> None:
    compiler = os.environ.get("CC") or shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if not compiler:
        raise KernelError("no C compiler was found (cc, gcc or clang, or the variable CC).")
    handle, name = tempfile.mkstemp(suffix=".so", dir=path.parent)
    os.close(handle)
    try:
        command = [*compiler.split(), *_FLAGS, str(_SOURCE), "-o", name, "-lm", "-lpthread"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT, check=False)
        if done.returncode:
            lines = done.stderr.strip().splitlines() or ["no message"]
            raise KernelError(f"{compiler} could not build the kernel: {lines[0]}")
        os.replace(name, path)  # another process may be building the same
    except subprocess.TimeoutExpired:
        raise KernelError(f"{compiler} took more than {_TIMEOUT} s to build the kernel.") from None
    finally:
        Path(name).unlink(missing_ok=True)


def _processor() -> str:
    """Name the instruction set, so that a library never meets a processor that it was not built for."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return f"{platform.machine()} {platform.processor()}"
    flags = [line for line in lines if line.lower().startswith(("flags", "features"))]
    return f"{platform.machine()} {flags[0] if flags else platform.processor()}"
