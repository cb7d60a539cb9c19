"""Which parameters sites have in common, as the block `sharing:` of the config says it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, get_args

from ..errors import ConfigError, suggest

Kind = Literal["site", "group", "global", "hierarchical"]
KINDS: tuple[str, ...] = get_args(Kind)


@dataclass
class SharingSettings:
    """Which parameters sites share, and with whom."""

    default: Kind = "site"
    """What holds for parameters that are not named: `site` (each site its own value), `group` (one for the sites of a group),
    `global` (one for all), or `hierarchical` (a site's own, drawn from its group, whose mean and spread are fitted)."""
    parameters: dict[str, Kind] = field(default_factory=dict)
    """The same for single parameters, by name."""
    group_by: str = "plant_type"
    """Column of the site catalogue that says which group a site belongs to."""
    compare: bool = True
    """Whether each site is fitted alone, too, to say what sharing costs it."""
    leave_one_out: bool = False
    """Whether each site is left out in turn, to say what the others' parameters are worth there; takes as many fits."""

    def __post_init__(self) -> None:
        """Check the words.

        Raises:
            ConfigError: If one is none of the four.
        """
        for key, kind in {
            "default": self.default,
            **{f"parameters.{name}": kind for name, kind in self.parameters.items()},
        }.items():
            if kind not in KINDS:
                raise ConfigError(f"`sharing.{key}` is {kind!r}.{suggest(str(kind), KINDS)}")

    @property
    def shares(self) -> bool:
        """Whether anything ties sites together."""
        return {self.default, *self.parameters.values()} != {"site"}
