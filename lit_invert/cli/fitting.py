"""The commands that read a config: fit, check, train."""

from __future__ import annotations

import os
import shlex
from dataclasses import replace

from ..config import parse_fit, parse_train
from ..fit import fit as run_fit
from ..fit import read_inputs
from ..plugins import load_plugins
from ..results import InversionStatus
from ..training import train as run_train
from . import FAILED, INTERRUPTED, OK, Options
from .outcome import show_outcome, show_site, show_verdicts

#: Exit codes of fits that ended early though their results were written.
_EXIT_CODES = {InversionStatus.DIVERGED: FAILED, InversionStatus.INTERRUPTED: INTERRUPTED}


def fit(argv: list[str], options: Options) -> int:
    """Invert, and show the scores and where the results are."""
    registry = load_plugins()
    config = parse_fit(argv, registry, options.trust)
    outcome = run_fit(replace(config, command=shlex.join(["lit-invert", "fit", *argv])), registry)
    if outcome is None:
        return OK
    show_outcome(outcome)
    return _EXIT_CODES.get(outcome.result.status, OK)


def check(argv: list[str], options: Options) -> int:
    """Read and check all inputs of a fit, and show what the checks found."""
    registry = load_plugins()
    config = parse_fit(argv, registry, options.trust)
    inputs = read_inputs(replace(config, checks="warn"), registry)
    verdicts = inputs.verdicts
    show_site(inputs.site)
    show_verdicts(verdicts)
    return FAILED if any(verdict.outcome == "fail" for verdict in verdicts) else OK


def train(argv: list[str], options: Options) -> int:
    """Train a surrogate, and say where it is."""
    folder = run_train(parse_train(argv, options.trust))
    print(f"Surrogate: {os.path.relpath(folder)}")
    return OK
