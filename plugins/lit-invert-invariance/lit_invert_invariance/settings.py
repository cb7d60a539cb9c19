"""The block `invariance:` of the config."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from lit_invert import RunInfo
from lit_invert.errors import ConfigError

from .lambda_optimizer import InvarianceLambdaOptimizer


@dataclass
class SteeringSettings:
    """How the weight of the loss term `invariance` is steered by retention."""

    adaptive: bool = True
    """Whether retention steers the weight; if not, the term keeps its own from the config."""
    target_retention: float = 0.95
    """Share of samples that should not notice a small change of the drivers [-]."""
    adjustment_rate: float = 0.1
    """Change of lambda for a retention that is off by one [-]."""
    min_lambda: float = 0.01
    """Least weight [-]."""
    max_lambda: float = 1.0
    """Largest weight [-]."""
    initial_lambda: float = 0.1
    """Weight of the first epoch [-]."""
    tolerance: float = 0.08
    """Change of a window's fluxes that a sample may show and still pass, as a share of their spread over the record [-]. The priors
    of the shipped sites keep about 95 % of their samples at this one: a fit should lean on the weather no more than its prior."""

    def __post_init__(self) -> None:
        """Refuse numbers that contradict each other.

        Raises:
            ConfigError: If there are such.
        """
        InvarianceLambdaOptimizer(self.control)
        if not self.tolerance > 0:
            raise ConfigError(f"`invariance.steering.tolerance` is {self.tolerance!r}, expected a number above zero.")

    @property
    def control(self) -> dict[str, float]:
        """What the controller of the weight takes."""
        return {key: getattr(self, key) for key in InvarianceLambdaOptimizer.DEFAULTS}


@dataclass
class InvarianceSettings:
    """How a surrogate is validated, and whether a fit asks for it."""

    validation: Literal["required", "warn", "off"] = "off"
    """Whether a fit stops without a passed validation of its surrogate, only says so, or does not ask."""
    window_days: int = 30
    """Length of a sample's window [d]."""
    prediction_tolerance: float = 1e-3
    """Largest RMS change of a flux in a window, as a share of its spread over the record [-]."""
    estimate_tolerance: float = 0.25
    """Largest change of an estimate under another scale or other starts, along the directions that the data determine, RMS in
    standard deviations of its posterior [-]."""
    mask_tolerance: float = 2.0
    """The same under another draw of the observed days, which is other data [-]."""
    points: int = 8
    """Points of the prior at which gradients and fluxes are looked at."""
    skip: list[str] = field(default_factory=list)
    """Checks of the validation that are left out, by name."""
    seed: int = 0
    """Seed of masks, starts and points."""
    steering: SteeringSettings = field(default_factory=SteeringSettings)
    """How the weight of the loss term `invariance` is steered."""

    def __post_init__(self) -> None:
        """Refuse numbers that mean nothing.

        Raises:
            ConfigError: If there are such.
        """
        for key in ("window_days", "points"):
            if getattr(self, key) < 1:
                raise ConfigError(f"`invariance.{key}` is {getattr(self, key)!r}, expected 1 or more.")
        for key in ("prediction_tolerance", "estimate_tolerance", "mask_tolerance"):
            if not getattr(self, key) > 0:
                raise ConfigError(f"`invariance.{key}` is {getattr(self, key)!r}, expected a number above zero.")


def settings_of(run: RunInfo) -> InvarianceSettings:
    """Return the plugin's block of a run's config, or its defaults."""
    settings = run.sections.get("invariance")
    return settings if isinstance(settings, InvarianceSettings) else InvarianceSettings()
