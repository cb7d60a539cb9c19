"""The command `lit-invert`: a thin front door.

It knows the names of the commands and nothing of what they do, so that `--help` and `--version` need no torch. A command's code is
imported when it runs. What the user can mend is one line and exit code 2; a run that failed is 1; any other exception keeps its
traceback.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
import traceback
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import NoReturn

from ..errors import ConfigError, DivergenceError, LitInvertError, suggest
from ..trust import Trust

#: The commands that lit-invert brings itself: the module here that has a function of that name, and what it does.
COMMANDS = {
    "fit": ("fitting", "invert static parameters against a tower: --config FILE"),
    "check": ("fitting", "read and check all inputs of a fit, write nothing: --config FILE"),
    "train": ("fitting", "train a surrogate of the process model: --config FILE"),
    "recover": ("recovery", "say which parameters an inversion of the site can find, by twin experiments: --config FILE"),
    "calibrate-posterior": ("recovery", "say whether posterior intervals keep their promise, by twin experiments: --config FILE"),
    "predict": ("runs", "run a finished fit on other weather: RUN --data FILE"),
    "resimulate": ("runs", "run the process model at the optimum of a finished fit: RUN"),
    "export": ("exporting", "hand a finished fit on as CalLMIP, NetCDF, Parquet, CSV or a parameter file: RUN --format FORMAT"),
    "sensitivity": ("runs", "ask which parameters the fluxes of a finished fit respond to: RUN"),
    "report": ("reporting", "write the figures, as PNG and PDF, and the report of a finished fit again: RUN"),
    "compare": ("reporting", "show finished fits side by side, on a page and here: RUN RUN..."),
    "plugins": ("installation", "list the plugins and what they register"),
    "doctor": ("installation", "look for faults of the installation"),
}
OK, FAILED, USAGE, INTERRUPTED = 0, 1, 2, 130


@dataclass(frozen=True)
class Options:
    """What every command understands."""

    trust: Trust
    """What the user allows beyond the import policy."""
    verbose: bool
    """Whether errors show their traceback."""


class OneLineParser(argparse.ArgumentParser):
    """An argparse parser whose mistakes are one-line errors as all others."""

    def error(self, message: str) -> NoReturn:
        """Raise what argparse would print with its usage."""
        raise ConfigError(f"command line: {message}. See `{self.prog} --help`.")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        argv: Arguments without the program's name; those of the process when omitted.

    Returns:
        The exit code: 0 for success, 1 for a run that failed, 2 for what the user can mend, 130 after Ctrl-C.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    verbose = "--verbose" in arguments
    try:
        code = _dispatch(arguments)
        sys.stdout.flush()
        return code
    except LitInvertError as error:
        if verbose:
            traceback.print_exc()
        print(f"lit-invert: {' '.join(str(error).split())}", file=sys.stderr)
        return FAILED if isinstance(error, DivergenceError) else USAGE
    except BrokenPipeError:  # who reads, such as `| head`, has read enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return OK
    except KeyboardInterrupt:
        print("lit-invert: interrupted.", file=sys.stderr)
        return INTERRUPTED


def _dispatch(arguments: list[str]) -> int:
    if not arguments or arguments[0] in ("-h", "--help"):
        print(_help())
        return OK if arguments else USAGE
    if arguments[0] == "--version":
        print(f"lit-invert {version('lit-invert')}")
        return OK
    name, rest = arguments[0], arguments[1:]
    options, rest = _split_options(rest)
    if name not in COMMANDS:
        return _run_plugin_command(name, rest, options.trust)
    command = getattr(import_module(f".{COMMANDS[name][0]}", __name__), name.replace("-", "_"))
    _silence_lightning()
    code: int = command(rest, options)
    return code


def _silence_lightning() -> None:
    """Hide banners about devices and tips; Lightning resets its loggers when it is imported, so this comes after."""
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", ".*LeafSpec.*")  # Lightning's own use of a name that torch has deprecated


def _split_options(arguments: list[str]) -> tuple[Options, list[str]]:
    parser = OneLineParser("lit-invert", add_help=False, allow_abbrev=False)
    parser.add_argument("--allow-import", action="append", default=[])
    parser.add_argument("--trust", action="append", default=[], type=Path)
    parser.add_argument("--verbose", action="store_true")
    known, rest = parser.parse_known_args(arguments)
    trust = Trust(files=frozenset(known.trust), imports=frozenset(known.allow_import))
    return Options(trust, known.verbose), rest


def _run_plugin_command(name: str, arguments: list[str], trust: Trust) -> int:
    from ..plugins import load_plugins

    commands = load_plugins().commands
    if name not in commands:
        raise ConfigError(f"{name!r} is not a command.{suggest(name, [*COMMANDS, *commands])}")
    return commands[name].run(arguments, trust)


def _help() -> str:
    width = max(map(len, COMMANDS))
    commands = "\n".join(f"  {name:<{width}}  {summary}" for name, (_, summary) in COMMANDS.items())
    return f"""usage: lit-invert COMMAND [options]

Invert the static parameters of a frozen neural surrogate against flux-tower observations.

commands:
{commands}
  Plugins may add more: see `lit-invert plugins`.

options of every command:
  --allow-import PKG  let class paths name classes of this package (repeatable)
  --trust FILE        open this artefact though it can execute code (repeatable)
  --verbose           show the traceback of an error
  --help, --version

examples:
  lit-invert fit --config configs/fr_hes.yaml
  lit-invert fit --config configs/fr_hes.yaml --inversion.lr 0.05 --trainer.accelerator gpu
  lit-invert fit --help  (every key of the config)"""
