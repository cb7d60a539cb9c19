"""The outcome of one inversion, in memory."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from torch import Tensor

from ..parameters import ParameterTable


class InversionStatus(Enum):
    """How an inversion ended. It is a value, not an exception: even a run that diverged has a best iterate."""

    CONVERGED = "The solver's tests of convergence were met."
    EARLY_STOPPED = "The monitored number had stopped improving, so the fit ended early."
    STEP_LIMIT = "All iterations that were allowed have been made."
    INTERRUPTED = "The fit was interrupted; the best iterate until then was kept."
    STOPPED = "The Trainer or the solver stopped before all iterations were made; the best iterate until then was kept."
    DIVERGED = "The loss or its gradient was not finite any more; the best iterate before that was kept."
    FAILED = "The run ended in an error."

    @property
    def key(self) -> str:
        """The name in files, e.g. `step_limit`."""
        return self.name.lower()


@dataclass(frozen=True)
class InversionResult:
    """The best iterate of an inversion beside the prior that it started from; P parameters, T days, V outputs."""

    status: InversionStatus
    """How it ended."""
    message: str
    """The same in a sentence with numbers."""
    table: ParameterTable
    """The parameters, in the order of the vectors below."""
    optimum: Tensor
    """Best iterate after clipping, (P,), float64, in the table's units."""
    optimum_scaled: Tensor
    """The same as the surrogate takes it, (P,) [-]."""
    prior_scaled: Tensor
    """The prior as the surrogate takes it, (P,) [-]."""
    simulated_prior: NDArray[np.float64]
    """Fluxes at the prior, (T, V) [gC m-2 d-1]."""
    simulated_optimum: NDArray[np.float64]
    """Fluxes at the optimum, (T, V) [gC m-2 d-1]."""
    loss_prior: Mapping[str, float]
    """Loss at the prior: `loss/total`, `loss/<term>` unweighted, `weighted/<term>`."""
    loss_optimum: Mapping[str, float]
    """Loss at the optimum, with the same keys."""
    history: pd.DataFrame
    """One row an iteration: `iteration`, `loss/total`, `loss/<term>`, `weighted/<term>`, and whatever else was recorded."""
    iterations: int
    """Iterations that were made."""
    best_iteration: int
    """Iteration of the best iterate; 0 is the prior."""
    monitor: str
    """The number by which the best iterate was chosen, e.g. `select/rmse`."""
    seconds: float
    """Wall time of the fit [s]."""
    target: str = "nep"
    """The flux that was fitted."""
    lambda_prior: float = math.nan
    """Weight of the prior, given or derived; NaN where the loss has no such term."""
    starts: pd.DataFrame | None = None
    """What became of each start, as :func:`lit_invert.results.start_table` returns it; None where there was one."""
