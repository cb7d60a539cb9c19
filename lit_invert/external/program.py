"""Running somebody's program: which file it is, whether it may run, for how long, and what it said when it failed.

No shell is between us and the program, so nothing in a config is expanded or chained. A program runs only if the user named it with
`--trust` on the command line: a config alone starts nothing.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

from ..errors import ConfigError, ProcessModelError, TrustError
from ..trust import Trust

#: Characters of the last words of a program that an error repeats.
_LAST_WORDS = 300
#: Bytes at the end of what it wrote in which they are looked for: a program may write for hours.
_LAST_BYTES = 16 * _LAST_WORDS
#: Seconds between two looks at a program, at first and in the end.
_SHORTEST_PAUSE, _LONGEST_PAUSE = 0.0005, 0.05


def find_program(name: str, trust: Trust) -> Path:
    """Return the file of a program that may be run.

    Args:
        name: Its path, or a name to look for as a shell would.
        trust: What the user allowed.

    Raises:
        ConfigError: If there is no such program, or it is not executable.
        TrustError: If the user did not allow it.
    """
    found = shutil.which(name)
    if found is None:
        reason = "is not executable (chmod +x)" if Path(name).is_file() else "is not there"
        raise ConfigError(
            f"`resimulate.command`: program {name!r} {reason}. Expected its path, such as ./visit, or a name on PATH."
        )
    path = Path(found).absolute()
    if not trust.is_file_trusted(path):
        raise TrustError(
            f"`resimulate.command`: running {os.path.relpath(path)!r} executes code that the config names. "
            f"If you trust it, add `--trust {os.path.relpath(path)}`."
        )
    return path


def run_program(command: Sequence[str], folder: Path, timeout: float) -> None:
    """Run a program to its end, without a shell; whatever it leaves running is stopped.

    Args:
        command: The program and its arguments.
        folder: Its working folder.
        timeout: Seconds after which it is killed, with all that it started.

    Raises:
        ProcessModelError: If it cannot be started, takes too long, or its exit code is not 0.
    """
    name, log = Path(command[0]).name, folder / "stderr.txt"
    with log.open("wb") as errors, (folder / "stdout.txt").open("wb") as words:
        try:
            process = subprocess.Popen(
                list(command), cwd=folder, stdin=subprocess.DEVNULL, stdout=words, stderr=errors, start_new_session=True
            )
        except OSError as error:
            raise ProcessModelError(f"{name}: cannot be started ({error.strerror}). Check `resimulate.command`.") from error
        try:
            has_ended = _wait(process.pid, timeout)
        finally:
            code = _stop_all(process)
    if not has_ended:
        raise ProcessModelError(
            f"{name}: was stopped after {timeout:g} s. Raise `resimulate.timeout` if it needs longer.{_last_words(log)}"
        )
    if code:
        raise ProcessModelError(f"{name}: ended with exit code {code}, expected 0.{_last_words(log)}")


def _wait(program: int, timeout: float) -> bool:
    """Wait for a program's end, for so many seconds at most, and say whether it came.

    Its exit code is left to be collected: until that is done the system gives its number, which is its group's, to nobody else.
    """
    end, pause = time.monotonic() + timeout, _SHORTEST_PAUSE
    while os.waitid(os.P_PID, program, os.WEXITED | os.WNOWAIT | os.WNOHANG) is None:
        if time.monotonic() >= end:
            return False
        time.sleep(max(0.0, min(pause, end - time.monotonic())))
        pause = min(2 * pause, _LONGEST_PAUSE)
    return True


def _stop_all(process: subprocess.Popen[bytes]) -> int:
    """Kill the program's whole group, in which whatever it started is, too, and return the program's exit code."""
    with contextlib.suppress(ProcessLookupError, PermissionError):  # the usual case, by either name: all have ended
        os.killpg(process.pid, signal.SIGKILL)
    return process.wait()


def _last_words(log: Path) -> str:
    """Return the end of what the program wrote to stderr, on one line."""
    with log.open("rb") as stream:
        start = max(0, stream.seek(0, os.SEEK_END) - _LAST_BYTES)
        stream.seek(start)
        text = " ".join(stream.read().decode("utf-8", errors="replace").split())
    is_cut = start > 0 or len(text) > _LAST_WORDS
    return f" It said: {'...' if is_cut else ''}{text[-_LAST_WORDS:]}" if text else ""
