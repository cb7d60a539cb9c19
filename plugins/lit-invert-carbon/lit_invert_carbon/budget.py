"""The yearly carbon budget of a run, from its folder alone: as a section of the report, as a command and as a file."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from lit_invert import LitInvertError

from .fluxes import CarbonUseEfficiency

DAYS_A_YEAR = 365.25
#: Outputs of a surrogate that the budget is made of.
OUTPUTS = ("gpp", "npp", "nep", "rh")
#: Runs, and how a reader calls them.
_RUNS = {"prior": "prior", "optimum": "optimum", "resimulated": "process model"}


def load_budget(folder: Path) -> pd.DataFrame:
    """Compute the budget from a run's fluxes.csv.

    Args:
        folder: Folder of a finished run.

    Returns:
        One row a run (prior, optimum, and the process model's re-simulation where there is one); columns GPP, NPP, NEP, Rh
        [gC m-2 yr-1], as far as the surrogate has them, and CUE [-]; empty without any.

    Raises:
        LitInvertError: If the folder has no readable fluxes.csv.
    """
    path = folder / "fluxes.csv"
    try:
        fluxes = pd.read_csv(path)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise LitInvertError(f"{path}: expected the fluxes of a finished run ({reason}). Give the folder of a run.") from error
    rows = {name: _means(fluxes, run) for run, name in _RUNS.items() if any(f"{output}_{run}" in fluxes for output in OUTPUTS)}
    return pd.DataFrame.from_dict(rows, orient="index")


def _means(fluxes: pd.DataFrame, run: str) -> dict[str, float]:
    columns = {name: f"{name}_{run}" for name in OUTPUTS if f"{name}_{run}" in fluxes}
    return to_annual({name: float(fluxes[column].mean()) for name, column in columns.items()})


def to_annual(means: Mapping[str, float]) -> dict[str, float]:
    """Return the yearly budget that mean daily fluxes add up to.

    Args:
        means: Mean flux by output name [gC m-2 d-1].

    Returns:
        Sums by label [gC m-2 yr-1], and CUE [-] where GPP is positive and NPP known.

    Example:
        >>> to_annual({"gpp": 4.0, "npp": 2.0, "rh": 1.0})
        {'GPP': 1461.0, 'NPP': 730.5, 'Rh': 365.25, 'CUE': 0.5}
    """
    budget = {_label(name): DAYS_A_YEAR * mean for name, mean in means.items()}
    if budget.get("GPP", 0.0) > 0 and "NPP" in budget:
        budget["CUE"] = budget["NPP"] / budget["GPP"]
    return budget


def _label(name: str) -> str:
    return "Rh" if name == "rh" else name.upper()


def render_budget(folder: Path) -> str:
    """Return the budget as an HTML table; empty where the surrogate has no carbon flux."""
    budget = load_budget(folder)
    if budget.empty:
        return ""
    term = CarbonUseEfficiency()
    note = f"Sums in gC m-2 yr-1; CUE = NPP/GPP, plausible from {term.low} to {term.high}{_verdict(budget, term)}."
    return f"{_rounded(budget).to_html(border=0, escape=True)}\n<p>{note}</p>"


def _verdict(budget: pd.DataFrame, term: CarbonUseEfficiency) -> str:
    if "CUE" not in budget or budget["CUE"].between(term.low, term.high).all():
        return ""
    outside = budget.index[~budget["CUE"].between(term.low, term.high)]
    return f"; outside: {', '.join(outside)}"


def _rounded(budget: pd.DataFrame) -> pd.DataFrame:
    return budget.map(lambda value: f"{value:.0f}").assign(
        **({"CUE": budget["CUE"].map("{:.2f}".format)} if "CUE" in budget else {})
    )


def print_budget(arguments: list[str], trust: object = None) -> int:
    """Print the budget of a run: `lit-invert carbon-budget RUN`."""
    parser = argparse.ArgumentParser(prog="lit-invert carbon-budget", description="Print the yearly carbon budget of a run.")
    parser.add_argument("run", type=Path, help="folder of a finished run, logs/<name>/version_N")
    budget = load_budget(parser.parse_args(arguments).run)
    if budget.empty:
        raise LitInvertError("the run's surrogate has none of the outputs gpp, npp, nep, rh; there is no budget to print.")
    print("Carbon budget [gC m-2 yr-1]")
    print(_rounded(budget).to_string())
    return 0


def write_budget(folder: Path) -> None:
    """Write the budget as `carbon_budget.csv` beside the fluxes; nothing where the surrogate has no carbon flux."""
    budget = load_budget(folder)
    if not budget.empty:
        budget.to_csv(folder / "carbon_budget.csv", index_label="run", float_format="%.9g", lineterminator="\n")
