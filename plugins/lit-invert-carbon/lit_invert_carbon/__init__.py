"""What is known of the carbon cycle before any tower has measured: loss terms, and the yearly budget during and after a fit.

NEP alone leaves gross fluxes free: photosynthesis and respiration can grow together and no tower sees it. These terms say what
a modeller would: carbon does not come from nowhere, plants keep about half of what they fix, leaves work in the light half of the
year and soils breathe in the warm half, and wood lasts longer than leaves. Each is zero wherever the simulation is plausible.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lit_invert import Command, ConfigSection, LossTerm, ReportSection, RunInfo, hookimpl

from .budget import print_budget, render_budget, write_budget
from .fluxes import CarbonBalance, CarbonUseEfficiency
from .seasons import SeasonalPlausibility
from .settings import CarbonSettings
from .turnover import TurnoverOrder

if TYPE_CHECKING:
    from lightning.pytorch.callbacks import Callback

HOOK_API = 1


@hookimpl
def register_loss_terms() -> list[type[LossTerm]]:
    """Four terms, none of which is used unless a config names it."""
    return [CarbonBalance, CarbonUseEfficiency, SeasonalPlausibility, TurnoverOrder]


@hookimpl
def register_report_sections() -> list[ReportSection]:
    """The mean yearly budget and the share of GPP that plants keep."""
    return [ReportSection("Carbon-use efficiency", render_budget)]


@hookimpl
def register_commands() -> list[Command]:
    """`lit-invert carbon-budget RUN`."""
    return [Command("carbon-budget", "Print the yearly carbon budget of a run.", print_budget)]


@hookimpl
def register_config_sections() -> list[ConfigSection]:
    """The block `carbon:`."""
    return [ConfigSection("carbon", CarbonSettings)]


@hookimpl
def register_callbacks(run: RunInfo) -> list[Callback]:
    """The budget after each epoch, unless `carbon.log_budget` is off."""
    if not run.sections.get("carbon", CarbonSettings()).log_budget:
        return []
    from .monitor import LogBudget  # Lightning takes seconds to import, and most commands need none

    return [LogBudget()]


@hookimpl
def run_finished(run: RunInfo) -> None:
    """Leave `carbon_budget.csv` in the folder of a run of one site."""
    if run.folder is not None and not run.has_many_sites:
        write_budget(run.folder)
