"""Invert the static parameters of a frozen neural surrogate of a land carbon model against flux-tower observations.

The public names are imported when they are first used, so that `lit-invert --help` need not wait for torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .config import parse_fit as parse_fit
    from .errors import LitInvertError as LitInvertError
    from .extensions import Check as Check
    from .extensions import Command as Command
    from .extensions import ConfigSection as ConfigSection
    from .extensions import ReportSection as ReportSection
    from .extensions import RunInfo as RunInfo
    from .extensions import Solver as Solver
    from .extensions import Verdict as Verdict
    from .fit import FitConfig as FitConfig
    from .fit import Inputs as Inputs
    from .hookspecs import hookimpl as hookimpl
    from .inversion import invert as invert
    from .inverter import StaticParameterInverter as StaticParameterInverter
    from .losses import Evaluation as Evaluation
    from .losses import LossTerm as LossTerm
    from .losses import SquaredTerm as SquaredTerm
    from .many import read_every_site as read_every_site
    from .module import InversionModule as InversionModule
    from .observations import FLUX_UNITS as FLUX_UNITS
    from .observations import Observations as Observations
    from .parameters import ParameterTable as ParameterTable
    from .parameters import load_parameter_table as load_parameter_table
    from .plugins import load_plugins as load_plugins
    from .problem import InversionProblem as InversionProblem
    from .problem_objective import ProblemObjective as ProblemObjective
    from .results import InversionResult as InversionResult
    from .results import InversionStatus as InversionStatus
    from .settings import InversionSettings as InversionSettings
    from .sites import Site as Site
    from .solvers import LevenbergMarquardt as LevenbergMarquardt
    from .solvers.minimize import minimize as minimize
    from .surrogates.base import FrozenSurrogate as FrozenSurrogate
    from .surrogates.base import SurrogateSpec as SurrogateSpec
    from .surrogates.base import Variable as Variable
    from .transforms import Transform as Transform

_HOMES = {
    "config": ["parse_fit"],
    "errors": ["LitInvertError"],
    "extensions": ["Check", "Command", "ConfigSection", "ReportSection", "RunInfo", "Solver", "Verdict"],
    "fit": ["FitConfig", "Inputs"],
    "hookspecs": ["hookimpl"],
    "inversion": ["invert"],
    "inverter": ["StaticParameterInverter"],
    "losses": ["Evaluation", "LossTerm", "SquaredTerm"],
    "many": ["read_every_site"],
    "module": ["InversionModule"],
    "observations": ["FLUX_UNITS", "Observations"],
    "parameters": ["ParameterTable", "load_parameter_table"],
    "plugins": ["load_plugins"],
    "problem": ["InversionProblem"],
    "problem_objective": ["ProblemObjective"],
    "results": ["InversionResult", "InversionStatus"],
    "settings": ["InversionSettings"],
    "sites": ["Site"],
    "solvers": ["LevenbergMarquardt", "minimize"],
    "surrogates.base": ["FrozenSurrogate", "SurrogateSpec", "Variable"],
    "transforms": ["Transform"],
}
_HOME_OF = {name: module for module, names in _HOMES.items() for name in names}

__all__ = sorted(_HOME_OF)


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module 'lit_invert' has no attribute {name!r}")
    return getattr(import_module(f".{_HOME_OF[name]}", __name__), name)


def __dir__() -> list[str]:
    return [*globals(), *__all__]
