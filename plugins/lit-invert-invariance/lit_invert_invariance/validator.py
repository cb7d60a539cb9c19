"""The thresholds of scale-invariance validation, and the decisions that rest on them.

Two readings of one set of numbers stand side by side. :class:`InvarianceValidator` gives the literal booleans: retention within its
target and tolerance, everything else on the right side of its threshold. The `judge_*` functions give what the decision flow makes
of each number: retention that is too high and a low rank correlation are advice, everything else passes or fails.
"""

from __future__ import annotations

import math
from typing import Literal, TypeAlias

Outcome: TypeAlias = Literal["pass", "advice", "fail"]

#: Retention below the first is a failure, above the second the surrogate is over-constrained: share of samples [-].
RETENTION_LOW, RETENTION_HIGH = 0.94, 0.96
#: Correlation between two drivers above which one of them is redundant, either sign [-].
REDUNDANCY_THRESHOLD = 0.95


class InvarianceValidator:
    """Say of each of five numbers whether it is as it should be.

    Example:
        >>> validator = InvarianceValidator()
        >>> validator.validate_all(0.95, 1.0, 0.97, 0.2, 0.0)["all_passed"]
        True
        >>> [name for name, ok in validator.validate_all(0.95, 5.0, 0.97, 0.2, 0.0).items() if not ok]
        ['netexp_ok', 'all_passed']
    """

    RETENTION_TARGET = 0.95
    RETENTION_TOLERANCE = 0.02
    NETEXPECTANCY_DEGRADATION_THRESHOLD = 5.0
    SPEARMAN_THRESHOLD = 0.90
    ONNX_DEGRADATION_THRESHOLD = 1.5
    NAN_RATIO_THRESHOLD = 0.05

    def validate_all(
        self, retention: float, net_exp_degradation: float, spearman_rho: float, onnx_degradation: float, nan_ratio: float
    ) -> dict[str, bool]:
        """Hold five numbers against their thresholds; one that is NaN is not as it should be.

        Args:
            retention: Share of samples that do not change when nothing that matters changed [-].
            net_exp_degradation: Change of the annual mean under a change of scale [%].
            spearman_rho: Rank correlation of predicted decile and observed rank [-].
            onnx_degradation: Loss of accuracy in the exported surrogate [%].
            nan_ratio: Share of simulated values that are no numbers [-].

        Returns:
            `retention_ok`, `netexp_ok`, `spearman_ok`, `onnx_ok`, `nan_ok` and `all_passed`.
        """
        # to nine digits: 0.97 - 0.95 is a little more than 0.02 in binary
        verdicts = {
            "retention_ok": round(abs(retention - self.RETENTION_TARGET), 9) <= self.RETENTION_TOLERANCE,
            "netexp_ok": net_exp_degradation < self.NETEXPECTANCY_DEGRADATION_THRESHOLD,
            "spearman_ok": spearman_rho > self.SPEARMAN_THRESHOLD,
            "onnx_ok": onnx_degradation < self.ONNX_DEGRADATION_THRESHOLD,
            "nan_ok": nan_ratio < self.NAN_RATIO_THRESHOLD,
        }
        return {**verdicts, "all_passed": all(verdicts.values())}


def judge_retention(retention: float) -> Outcome:
    """Fail below 0.94, pass up to 0.96, advise a lower lambda above.

    Example:
        >>> [judge_retention(value) for value in (0.939, 0.94, 0.96, 0.961)]
        ['fail', 'pass', 'pass', 'advice']
    """
    if not retention >= RETENTION_LOW:
        return "fail"
    return "advice" if retention > RETENTION_HIGH else "pass"


def judge_net_expectancy(change: float) -> Outcome:
    """Fail at a change of 5 % or more."""
    return "pass" if change < InvarianceValidator.NETEXPECTANCY_DEGRADATION_THRESHOLD else "fail"


def judge_spearman(rho: float) -> Outcome:
    """Advise recalibration at 0.90 or less."""
    return "pass" if rho > InvarianceValidator.SPEARMAN_THRESHOLD else "advice"


def judge_onnx(degradation: float) -> Outcome:
    """Fail at a degradation of 1.5 % or more."""
    return "pass" if degradation < InvarianceValidator.ONNX_DEGRADATION_THRESHOLD else "fail"


def judge_nan(ratio: float) -> Outcome:
    """Fail at a share of 0.05 or more."""
    return "pass" if ratio < InvarianceValidator.NAN_RATIO_THRESHOLD else "fail"


def judge_redundancy(rho: float) -> Outcome:
    """Advise to drop one of two drivers whose correlation is above 0.95, either sign."""
    return "advice" if abs(rho) > REDUNDANCY_THRESHOLD else "pass"


def net_expectancy_change(original: float, scaled: float) -> float:
    r"""Return the change of an expected value in percent.

    .. math:: 100 \left| \frac{s - o}{o} \right|

    Args:
        original: Expected value before the change of scale, e.g. annual mean NEP.
        scaled: The same after it, in the same unit.

    Returns:
        The change [%]; 100.0 where the original is zero.

    Example:
        >>> net_expectancy_change(-2.0, -2.1), net_expectancy_change(0.0, 0.0)
        (5.0, 100.0)
    """
    if original == 0:
        return 100.0
    # to nine digits: a change of 5 % in decimals is a little less in binary
    return round(abs((scaled - original) / original) * 100, 9) if math.isfinite(scaled) else math.inf
