"""The commands that read a config: fit, check, train."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Sequence
from dataclasses import replace

from ..config import parse_fit, parse_train
from ..errors import ConfigError
from ..fit import FitConfig, read_inputs
from ..fit import fit as run_fit
from ..many import check_sites, fit_sites
from ..plugins import Registry, load_plugins
from ..results import InversionStatus
from ..training import train as run_train
from . import FAILED, INTERRUPTED, OK, Options
from .outcome import show_outcome, show_site, show_verdicts
from .sites import SitesProgress, show_checks, show_sites

#: Short spellings of keys of the config.
_SHORT = {"--engine": "--scale.engine", "--ray-address": "--scale.ray_address"}
#: Exit codes of fits that ended early though their results were written.
_EXIT_CODES = {InversionStatus.DIVERGED: FAILED, InversionStatus.INTERRUPTED: INTERRUPTED}


def fit(argv: list[str], options: Options) -> int:
    """Invert one site or all of a catalogue, and show the scores and where the results are."""
    registry = load_plugins()
    config = parse_fit(_spell_out(argv), registry, options.trust)
    config = replace(config, command=shlex.join(["lit-invert", "fit", *argv]))
    if config.data.sites is not None:
        return _fit_sites(config, registry)
    _check_one_site(config)
    outcome = run_fit(config, registry)
    if outcome is None:
        return OK
    show_outcome(outcome)
    return _EXIT_CODES.get(outcome.result.status, OK)


def _fit_sites(config: FitConfig, registry: Registry) -> int:
    with SitesProgress() as progress:
        outcome = fit_sites(config, registry, progress.show)
    if outcome is None:
        return OK
    show_sites(outcome)
    return FAILED if len(outcome.failed) == len(outcome.sites) else OK


def _check_one_site(config: FitConfig) -> None:
    """Refuse what means something for several sites alone."""
    wants = {
        "scale.engine": config.scale.engine != "local",
        "sharing": config.sharing.shares,
        "attributes.columns": bool(config.attributes.columns),
    }
    for key, is_given in wants.items():
        if is_given:
            raise ConfigError(f"`{key}` is for several sites, but `data.path` names one. Give a catalogue as `data.sites`.")


def _spell_out(argv: Sequence[str]) -> list[str]:
    """Return the arguments with the short spellings of keys in full."""
    return [
        next((token.replace(short, key, 1) for short, key in _SHORT.items() if re.match(rf"{short}(=|$)", token)), token)
        for token in argv
    ]


def check(argv: list[str], options: Options) -> int:
    """Read and check all inputs of a fit, and show what the checks found."""
    registry = load_plugins()
    config = parse_fit(_spell_out(argv), registry, options.trust)
    if config.data.sites is not None:
        return _check_sites(config, registry)
    inputs = read_inputs(replace(config, checks="warn"), registry)
    verdicts = inputs.verdicts
    show_site(inputs.site)
    show_verdicts(verdicts)
    return FAILED if any(verdict.outcome == "fail" for verdict in verdicts) else OK


def _check_sites(config: FitConfig, registry: Registry) -> int:
    outcomes = check_sites(replace(config, checks="warn"), registry)
    show_checks(outcomes)
    return FAILED if any(outcome.failed for outcome in outcomes) else OK


def train(argv: list[str], options: Options) -> int:
    """Train a surrogate, and say where it is."""
    folder = run_train(parse_train(argv, options.trust))
    print(f"Surrogate: {os.path.relpath(folder)}")
    return OK
