"""Solvers: the optimisers that move theta, one step an iteration.

A solver is a plain `torch.optim.Optimizer`; the Trainer drives it. :class:`LevenbergMarquardt`, :class:`BoundedLBFGS` and
:class:`QuasiNewton` know the problem as an :class:`~lit_invert.objective.Objective`, many members at once, keep to its bounds and
know when they are finished; :func:`minimize` drives them without a Trainer, and :class:`LeastSquares` makes an objective of a plain
function.
"""

from .bounded import BoundedSolver
from .lbfgs import BoundedLBFGS
from .least_squares import LeastSquares
from .levenberg_marquardt import LevenbergMarquardt
from .minimize import Solution, minimize
from .quasi_newton import QuasiNewton
from .registry import AUTO, SOLVERS, choose_solver
from .stopping import Status, Stopping

__all__ = [
    "AUTO",
    "SOLVERS",
    "BoundedLBFGS",
    "BoundedSolver",
    "LeastSquares",
    "LevenbergMarquardt",
    "QuasiNewton",
    "Solution",
    "Status",
    "Stopping",
    "choose_solver",
    "minimize",
]
