"""The block `carbon:` of the config."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class CarbonSettings:
    """What the plugin does during a fit."""

    log_budget: bool = True
    """Whether the yearly budget of the current iterate goes to the loggers after each epoch."""
