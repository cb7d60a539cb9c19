"""What is known of the carbon cycle before any tower has measured: loss terms, a section of the report, a command.

NEP alone leaves gross fluxes free: photosynthesis and respiration can grow together and no tower sees it. These terms say what
a modeller would: carbon does not come from nowhere, plants keep about half of what they fix, leaves work in the light half of the
year and soils breathe in the warm half, and wood lasts longer than leaves. Each is zero wherever the simulation is plausible.
"""

from __future__ import annotations

from lit_invert import Command, LossTerm, ReportSection, hookimpl

from .budget import print_budget, render_budget
from .fluxes import CarbonBalance, CarbonUseEfficiency
from .seasons import SeasonalPlausibility
from .turnover import TurnoverOrder

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
