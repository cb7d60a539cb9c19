"""What becomes of many starts: a record of each, whether it went on, was dropped or failed.

While starts are run the journal notes where each was left. At the end all of them are judged by the whole problem, where they began
and where they were left, so that their losses can be compared though halving dropped them early and on the first years alone.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import pandas as pd
import torch
from torch import Tensor

from .losses.misfit import masked_mean_square
from .problem import InversionProblem
from .results import InversionResult, StartRecord, start_table


class Journal:
    """What becomes of the N starts of one site: where each was left, in which round, after how much work.

    Args:
        origins: Where each place comes from.
        theta: Where each begins, (N, P).
    """

    def __init__(self, origins: Sequence[str], theta: Tensor) -> None:
        self.origins, self.begun, self.left = tuple(origins), theta, theta.clone()
        self.rounds = torch.zeros(len(theta), dtype=torch.long)
        self.steps = torch.zeros(len(theta), dtype=torch.long)
        self.seconds = torch.zeros(len(theta), dtype=torch.float64)
        self.failed = torch.zeros(len(theta), dtype=torch.bool)
        #: Whether starts were dropped before they ended.
        self.is_halved = True
        #: Place of the start that goes on.
        self.kept = 0

    def note(self, places: Tensor, theta: Tensor, steps: Tensor, seconds: float) -> None:
        """Note that some starts, (n,), have been led to theta, (n, P), in so many steps each and seconds together."""
        self.left[places.to(theta.device)] = theta
        self.rounds[places] += 1
        self.steps[places] += steps.cpu()
        self.seconds[places] += seconds / len(places)

    def table(
        self, problem: InversionProblem, theta: Tensor, result: InversionResult, select: tuple[Tensor, Tensor] | None
    ) -> pd.DataFrame:
        """Return the record of the starts once the fit of the one that went on has ended.

        Args:
            problem: The whole problem.
            theta: Where the fit ended, (P,).
            result: What it found.
            select: Observed fluxes of the `select` days and their mask, (1, T, V); None if there are none.

        Returns:
            As :func:`lit_invert.results.start_table`.
        """
        space = problem.space
        begun, left = (theta_of.to(space.prior) for theta_of in (self.begun, self.left))
        left = torch.where(self.failed[:, None], begun, left)
        left[self.kept] = theta.to(left)
        loss_start, _ = judge(problem, begun, result.target)
        loss, select_rmse = judge(problem, left, result.target, select)
        physical = space.to_physical(left).double()
        physical[self.kept] = result.optimum
        free = ~space.fixed
        units = (space.scaler.to_scaled(physical.to(left)) - space.scaler.to_scaled(space.prior)) / space.prior_sd_scaled
        records = [
            StartRecord(
                origin=origin,
                status=status,
                round=int(self.rounds[i]),
                loss_start=loss_start[i].item(),
                loss=loss[i].item(),
                select_rmse=select_rmse[i].item() if status != "failed" else math.nan,
                iterations=int(self.steps[i]) + (result.iterations if i == self.kept else 0),
                seconds=self._seconds(i, result.seconds),
                message=message,
                physical=physical[i].cpu().numpy(),
                units=units[i, free].double().cpu().numpy(),
            )
            for i, (origin, (status, message)) in enumerate(zip(self.origins, self._outcomes(loss), strict=True))
        ]
        return start_table(records, space.table.names)

    def _outcomes(self, loss: Tensor) -> list[tuple[str, str]]:
        """Return status and message of each start."""
        outcomes = []
        for i, is_finite in enumerate(loss.isfinite().tolist()):
            if bool(self.failed[i]):
                outcomes.append(("failed", "the loss is not finite where it starts"))
            elif not is_finite:
                outcomes.append(("failed", "the loss was not finite any more"))
            elif i == self.kept:
                outcomes.append(("finished", "went on to the optimum"))
            elif self.is_halved:
                outcomes.append(("dropped", f"dropped by halving after round {int(self.rounds[i])}"))
            else:
                outcomes.append(("finished", "ran to its end"))
        return outcomes

    def _seconds(self, i: int, whole: float) -> float:
        """Return the share of the wall time of a start; the one that went on has all that the others did not take."""
        own = float(self.seconds[i])
        return own if i != self.kept else whole - float(self.seconds.sum()) + own


@torch.no_grad()
def judge(
    problem: InversionProblem,
    theta: Tensor,
    target: str,
    select: tuple[Tensor, Tensor] | None = None,
    rows: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Return the loss of each member, and its RMSE on the `select` days.

    Args:
        problem: The problem.
        theta: Members, (B, P).
        target: The flux that is fitted.
        select: Observed fluxes of the `select` days and their mask, (S, T, V); None if there are none.
        rows: Which site each member belongs to, (B,), where there are several.

    Returns:
        Both (B,); the RMSE is NaN without such days [gC m-2 d-1].
    """
    loss = problem(theta, rows)
    if select is None:
        return loss.total, torch.full_like(loss.total, math.nan)
    place = problem.surrogate.spec.output_names.index(target)
    observed, mask = (part[..., place] if rows is None else part[rows][..., place] for part in select)
    return loss.total, masked_mean_square(loss.evaluation.simulated[..., place], observed, mask).sqrt()
