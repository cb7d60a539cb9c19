"""Is a surrogate fit to be inverted, and does the answer hold still when nothing that matters changed?

`lit-invert check-surrogate` asks every check of a validation that is registered, ours and those of others, and keeps what they
find: `validator` holds the thresholds, `flow` the decision, `store` the folder, `gate` what a fit makes of it. Our checks:
`retention` (windows, units, predictions, estimates), `expectancy`, `ranks`, `redundancy`, `onnx_export`, `finite`, `gradients`,
`responses`, `edges`, `extrapolation`, `lengths`. In a fit, `penalty` is the loss term `invariance` and `steering` turns its weight
by retention. `monitor` holds new data against the `baseline` of a validation.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lit_invert import Check, Command, ConfigSection, LossTerm, ReportSection, RunInfo, Verdict, hookimpl

from .edges import check_edges
from .expectancy import check_expectancy
from .extrapolation import check_extrapolation
from .finite import check_nan
from .gate import check_validation
from .gradients import check_gradient
from .lambda_optimizer import InvarianceLambdaOptimizer as InvarianceLambdaOptimizer
from .lengths import check_length
from .onnx_export import check_onnx
from .penalty import Invariance as Invariance
from .ranks import check_spearman
from .redundancy import check_redundancy
from .responses import check_monotone
from .retention import check_retention
from .settings import InvarianceSettings, settings_of
from .validator import InvarianceValidator as InvarianceValidator

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from lightning.pytorch.callbacks import Callback

    from lit_invert.trust import Trust

HOOK_API = 1


@hookimpl
def register_checks() -> list[Check]:
    """Eleven questions of a validation, and one of a fit: whether there was one."""
    validation: dict[str, Callable[..., Verdict | None]] = {
        "edges": check_edges,
        "extrapolation": check_extrapolation,
        "gradient_soundness": check_gradient,
        "length": check_length,
        "monotone": check_monotone,
        "nan": check_nan,
        "net_expectancy": check_expectancy,
        "onnx": check_onnx,
        "redundancy": check_redundancy,
        "retention": check_retention,
        "spearman": check_spearman,
    }
    return [*(Check(name, ask, "validation") for name, ask in validation.items()), Check("validation", check_validation)]


@hookimpl
def register_commands() -> list[Command]:
    """`lit-invert check-surrogate` and `lit-invert monitor`."""
    return [
        Command("check-surrogate", "Validate the surrogate of a fit at its sites: --config FILE.", _check_surrogate),
        Command("monitor", "Hold new data against a validation: --config FILE --data FILE.", _monitor),
    ]


@hookimpl
def register_config_sections() -> list[ConfigSection]:
    """The block `invariance:`."""
    return [ConfigSection("invariance", InvarianceSettings)]


@hookimpl
def register_loss_terms() -> list[type[LossTerm]]:
    """The penalty `invariance`, which is not used unless a config names it."""
    return [Invariance]


@hookimpl
def register_callbacks(run: RunInfo) -> list[Callback]:
    """The steering of the penalty's weight, unless `invariance.steering.adaptive` is off."""
    settings = settings_of(run)
    if not settings.steering.adaptive:
        return []
    from .steering import SteerLambda  # Lightning takes seconds to import, and most commands need none

    return [SteerLambda(settings)]


@hookimpl
def register_report_sections() -> list[ReportSection]:
    """What is known of the surrogate, in the report of each later fit."""
    return [ReportSection("Validation of the surrogate", _render)]


def _check_surrogate(arguments: list[str], trust: Trust) -> int:
    from .command import check_surrogate

    return check_surrogate(arguments, trust)


def _monitor(arguments: list[str], trust: Trust) -> int:
    from .monitor import monitor

    return monitor(arguments, trust)


def _render(folder: Path) -> str:
    from .page import render_validation

    return render_validation(folder)
