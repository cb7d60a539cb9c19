"""Parameters that sites share: by plant type, everywhere, or drawn from a common distribution.

:func:`plan_sharing` says who shares what, :func:`fit_plan` fits it, :func:`predict_parameters` and :func:`leave_one_out` look at
sites that no fit has seen. :class:`SharedObjective` is for solvers, and for a Trainer.
"""

from .fitting import SharedFit, fit_shared
from .hierarchy import HierarchicalFit, fit_hierarchy, fit_plan
from .objective import SharedObjective
from .plan import SharingPlan, plan_sharing
from .settings import Kind, SharingSettings
from .unseen import leave_one_out, predict_parameters, score

__all__ = [
    "HierarchicalFit",
    "Kind",
    "SharedFit",
    "SharedObjective",
    "SharingPlan",
    "SharingSettings",
    "fit_hierarchy",
    "fit_plan",
    "fit_shared",
    "leave_one_out",
    "plan_sharing",
    "predict_parameters",
    "score",
]
