r"""How strongly invariance is asked for, steered by how much of it there is.

The weight :math:`\lambda` of the loss term `invariance` has no right value: too small and the fit leans on the last digit of the
weather, too large and it no longer follows the observations. Retention, the share of samples that do not notice a small change of
the drivers, says on which side of its target a fit stands, and a proportional controller moves the weight once an epoch.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import ClassVar

from lit_invert.errors import ConfigError, suggest

from .validator import RETENTION_HIGH, RETENTION_LOW, InvarianceValidator

_log = logging.getLogger("lit_invert")
#: How far retention may be below and above its target before the weight moves [-]. To nine digits: in binary 0.96 - 0.95 is a
#: little more than 0.01.
BAND_BELOW = round(RETENTION_LOW - InvarianceValidator.RETENTION_TARGET, 9)
BAND_ABOVE = round(RETENTION_HIGH - InvarianceValidator.RETENTION_TARGET, 9)


class InvarianceLambdaOptimizer:
    r"""Raise the weight where retention is too low, lower it half as fast where it is too high.

    .. math::
        \lambda \leftarrow \lambda + \begin{cases}
            \eta\,(r^* - r) & r < r^* - 0.01 \\
            0 & |r - r^*| \le 0.01 \\
            -\tfrac{1}{2} \eta\,(r - r^*) & r > r^* + 0.01
        \end{cases}
        \qquad \lambda_{min} \le \lambda \le \lambda_{max}

    The specification's code sample moves the weight at every retention but the target itself, its threshold table keeps it from
    0.94 to 0.96. The table wins: without the dead band the weight would never come to rest, since a share of a finite number of
    samples seldom equals its target.

    Args:
        config: Any of `target_retention` 0.95, `adjustment_rate` 0.1, `min_lambda` 0.01, `max_lambda` 1.0 and `initial_lambda`
            0.1 (the defaults).

    Raises:
        ConfigError: If a key is unknown, or the numbers contradict each other.

    Example:
        >>> steering = InvarianceLambdaOptimizer({"initial_lambda": 0.5})
        >>> [round(steering.update_lambda(retention), 6) for retention in (0.75, 0.94, 0.96, 1.0)]
        [0.52, 0.52, 0.52, 0.5175]
    """

    #: Smallest change of the weight that is worth a line in the log [-].
    ADJUSTMENT_THRESHOLD = 0.01
    DEFAULTS: ClassVar[Mapping[str, float]] = {
        "target_retention": InvarianceValidator.RETENTION_TARGET,
        "adjustment_rate": 0.1,
        "min_lambda": 0.01,
        "max_lambda": 1.0,
        "initial_lambda": 0.1,
    }

    def __init__(self, config: Mapping[str, float] | None = None) -> None:
        config = config or {}
        for key in config:
            if key not in self.DEFAULTS:
                raise ConfigError(f"`invariance.steering`: unknown key {key!r}.{suggest(key, self.DEFAULTS)}")
        values = {**self.DEFAULTS, **config}
        _check(values)
        self.target_retention, self.adjustment_rate = values["target_retention"], values["adjustment_rate"]
        self.min_lambda, self.max_lambda = values["min_lambda"], values["max_lambda"]
        #: The present weight [-].
        self.current_lambda = values["initial_lambda"]

    def update_lambda(self, retention_ratio: float) -> float:
        """Move the weight by one measurement of retention and return it.

        Args:
            retention_ratio: Share of samples that passed, from 0 to 1 [-].

        Returns:
            The new weight [-].

        Raises:
            ConfigError: If the share is none.
        """
        if not 0 <= retention_ratio <= 1:
            raise ConfigError(f"retention is {retention_ratio!r}, expected a share from 0 to 1. Count passed samples over all.")
        before = self.current_lambda
        moved = before + self._change(retention_ratio)
        self.current_lambda = min(max(moved, self.min_lambda), self.max_lambda)
        if abs(self.current_lambda - before) > self.ADJUSTMENT_THRESHOLD:
            _log.info(
                "lit-invert: lambda of invariance %.4f -> %.4f at a retention of %.3f", before, self.current_lambda, retention_ratio
            )
        return self.current_lambda

    def _change(self, retention: float) -> float:
        excess = retention - self.target_retention
        if BAND_BELOW <= round(excess, 9) <= BAND_ABOVE:
            return 0.0
        return -self.adjustment_rate * excess * (0.5 if excess > 0 else 1.0)


def _check(values: Mapping[str, float]) -> None:
    """Refuse numbers that contradict each other; NaN fails every comparison."""
    if not 0 < values["target_retention"] <= 1:
        raise ConfigError(
            f"`invariance.steering.target_retention` is {values['target_retention']!r}, expected a share above 0, up to 1."
        )
    if not 0 <= values["adjustment_rate"] < float("inf"):
        raise ConfigError(f"`invariance.steering.adjustment_rate` is {values['adjustment_rate']!r}, expected 0 or more.")
    low, start, high = (values[key] for key in ("min_lambda", "initial_lambda", "max_lambda"))
    if not 0 <= low <= start <= high < float("inf"):
        raise ConfigError(
            f"`invariance.steering`: min_lambda {low!r}, initial_lambda {start!r} and max_lambda {high!r} are out of order, "
            "expected 0 <= min <= initial <= max."
        )
