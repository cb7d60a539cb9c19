"""Solvers that a config can name.

More arrive through the hook `register_solvers`.
"""

from __future__ import annotations

from torch import nn
from torch.optim import Adam, AdamW, Optimizer

from ..extensions import Solver
from ..objective import Objective
from .bounded import BoundedSolver
from .lbfgs import BoundedLBFGS
from .levenberg_marquardt import LevenbergMarquardt
from .quasi_newton import QuasiNewton
from .stopping import Stopping


def _adam(parameters: list[nn.Parameter], lr: float) -> Optimizer:
    return Adam(parameters, lr=lr)


def _adamw(parameters: list[nn.Parameter], lr: float) -> Optimizer:
    # Decay would pull theta to zero, which is the mean of the surrogate's scaling and not the prior: the prior is a loss term.
    return AdamW(parameters, lr=lr, weight_decay=0.0)


def _lbfgs(parameters: list[nn.Parameter], objective: Objective, stopping: Stopping) -> BoundedSolver:
    return BoundedLBFGS(parameters, objective, stopping=stopping)


def _marquardt(parameters: list[nn.Parameter], objective: Objective, stopping: Stopping) -> BoundedSolver:
    return LevenbergMarquardt(parameters, objective, stopping=stopping)


def _quasi_newton(parameters: list[nn.Parameter], objective: Objective, stopping: Stopping) -> BoundedSolver:
    return QuasiNewton(parameters, objective, stopping=stopping)


SOLVERS = [
    Solver("adam", _adam, "Adam (Kingma and Ba 2015, arXiv:1412.6980)"),
    Solver("adamw", _adamw, "AdamW without decay (Loshchilov and Hutter 2019, arXiv:1711.05101)"),
    Solver("lbfgs", summary="L-BFGS with bounds (Byrd et al. 1995, doi:10.1137/0916069)", build_over=_lbfgs),
    Solver(
        "levenberg_marquardt",
        summary="Levenberg-Marquardt with bounds (Marquardt 1963, doi:10.1137/0111030)",
        build_over=_marquardt,
    ),
    Solver("quasi_newton", summary="BFGS with bounds, started from the Gauss-Newton matrix", build_over=_quasi_newton),
]
#: The name that leaves the choice to :func:`choose_solver`.
AUTO = "auto"
#: Above this many free parameters a dense matrix and as many tangents cost more than they save.
MOST_TANGENTS = 200


def choose_solver(free: int, has_residuals: bool, is_box: bool = True) -> tuple[str, str]:
    """Return the name of the solver for a problem, and why.

    Args:
        free: Number of free parameters.
        has_residuals: Whether some loss term is a sum of squares.
        is_box: Whether the bounds are numbers, and not other parameters.

    Example:
        >>> choose_solver(36, True)
        ('levenberg_marquardt', '36 free parameters and a sum of squares')
    """
    if not is_box:
        return "adam", "bounds that name other parameters"
    if not has_residuals:
        return "lbfgs", "no loss term is a sum of squares"
    if free > MOST_TANGENTS:
        return "lbfgs", f"{free} free parameters are more than {MOST_TANGENTS}"
    return "levenberg_marquardt", f"{free} free parameters and a sum of squares"
