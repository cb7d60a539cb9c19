"""What steering the weight of the loss term `invariance` is worth, beside a fixed weight and none.

Each config is fitted with several seeds of the split, once without the term, once with the fixed weight 0.1, once with the weight
steered from there. A tolerance is chosen before any fit, from the prior alone: the change that 95 % of the validation samples stay
within at the prior, so that a fit is asked to lean on the weather no more than the prior does. Two iterates are scored: the one
that a fit returns, chosen by its `select` days, and the last one, where steering has had its time.

    python tools/invariance_kpi.py configs/fr_hes.yaml configs/us_ar1.yaml --seeds 5 --solver levenberg_marquardt

Prints Markdown: one row a fit, then the medians. RMSE is that of NEP [gC m-2 d-1] on the `test` days. Retention is measured on the
windows with `select` days: `steered` with the instruments that steer, `other` with ones that neither penalty nor steering has seen.
"""

from __future__ import annotations

import argparse
import logging
import time
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import pandas as pd
import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from lit_invert_invariance.penalty import Invariance
from lit_invert_invariance.perturbation import draw_factors
from lit_invert_invariance.settings import InvarianceSettings, SteeringSettings
from lit_invert_invariance.steering import DRAWS, SEED_OFFSET, SteerLambda
from lit_invert_invariance.weather_retention import measure_changes
from torch import Tensor

from lit_invert import Evaluation, InversionModule, invert, load_plugins, parse_fit, read_every_site
from lit_invert.fit import FitConfig, Inputs
from lit_invert.metrics import rmse
from lit_invert.plugins import Registry

FIXED, OTHER_SEED = 0.1, 104729
ARMS = ("none", "fixed", "steered")
#: Iterations of an epoch: the weight moves once an epoch.
EPOCHS = {"adam": 10, "levenberg_marquardt": 5}


class KeepLast(Callback):
    """Keep the last iterate, and the penalty's weight there."""

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Keep what the result does not tell."""
        assert isinstance(pl_module, InversionModule)
        self.evaluation = pl_module.problem.evaluate(pl_module.theta.detach())
        self.weight = next((term.weight for term in pl_module.problem.loss_terms if term.name == Invariance.name), 0.0)


@dataclass(frozen=True)
class Trial:
    """One split of one site."""

    config: FitConfig
    inputs: Inputs
    registry: Registry

    @cached_property
    def test(self) -> tuple[np.ndarray, np.ndarray]:
        """Values and mask of the target on the `test` days."""
        sealed, place = self.inputs.sealed.open(), self._place
        return sealed.values[:, place], sealed.mask[:, place]

    @property
    def _place(self) -> int:
        return self.inputs.surrogate.spec.output_names.index(self.config.inversion.target_variable)

    def evaluate(self, physical: Tensor) -> Evaluation:
        """Simulate physical parameters, (P,)."""
        space = self.inputs.problem.space
        with torch.no_grad():
            return self.inputs.problem.evaluate(space.to_theta(physical.to(space.prior))[None])

    def score(self, evaluation: Evaluation) -> float:
        """Return the RMSE on the `test` days [gC m-2 d-1]."""
        values, mask = self.test
        return rmse(evaluation.simulated[0, :, self._place].detach().double().numpy()[mask], values[mask])

    def changes(self, evaluation: Evaluation, seed: int) -> Tensor:
        """Return by how much each validation sample changes under one seed of instruments [-]."""
        assert self.inputs.site.select is not None
        factors = draw_factors(self.inputs.surrogate.spec.drivers, DRAWS, Invariance().spread, seed)
        days = torch.as_tensor(self.inputs.site.select.mask.any(-1))[None]
        return measure_changes(evaluation, factors, InvarianceSettings().window_days, days)

    def choose_tolerance(self) -> float:
        """Return the change that the target's share of samples stays within at the prior, to a thousandth upwards."""
        changes = self.changes(self.evaluate(self.inputs.table.prior), SEED_OFFSET)
        return float(np.ceil(1000 * changes.quantile(SteeringSettings().target_retention).item()) / 1000)

    def fit(self, arm: str, tolerance: float) -> dict[str, float | str]:
        """Fit once and score both iterates."""
        settings = replace(self.config.inversion, early_stopping=replace(self.config.inversion.early_stopping, enabled=False))
        steering = InvarianceSettings(steering=SteeringSettings(tolerance=tolerance))
        last, start = KeepLast(), time.perf_counter()
        result = invert(
            self.inputs.surrogate,
            self.inputs.table,
            self.inputs.record.forcing,
            self.inputs.record.fit,
            settings,
            select=self.inputs.record.select,
            terms=[] if arm == "none" else [Invariance(FIXED)],
            solver=self.registry.solvers[settings.solver],
            trainer={"accelerator": "cpu", "enable_progress_bar": False, "limit_train_batches": EPOCHS[settings.solver]},
            callbacks=[last, SteerLambda(steering)] if arm == "steered" else [last],
        )
        kept = self.evaluate(result.optimum)
        return {
            "weight": arm,
            "tolerance": tolerance,
            "last lambda": last.weight,
            "RMSE kept": self.score(kept),
            "RMSE last": self.score(last.evaluation),
            "retention kept": share(self.changes(kept, SEED_OFFSET), tolerance),
            "retention last": share(self.changes(last.evaluation, SEED_OFFSET), tolerance),
            "retention last, other": share(self.changes(last.evaluation, OTHER_SEED), tolerance),
            "seconds": time.perf_counter() - start,
        }


def share(changes: Tensor, tolerance: float) -> float:
    """Return the share of samples within the tolerance [-]."""
    return (changes <= tolerance).double().mean().item()


def read_trials(path: str, solver: str, seeds: int, registry: Registry) -> Iterator[tuple[int, Trial]]:
    """Read a site once a seed of its split."""
    for seed in range(seeds):
        arguments = ["--config", path, "--inversion.solver", solver, "--data.split.seed", str(seed)]
        config = parse_fit(arguments, registry)
        yield seed, Trial(config, next(read_every_site(config, registry)), registry)


def summarise(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the median of each arm, and the change of its RMSE against the fixed weight of the same split [%]."""
    key = ["site", "split"]
    fixed = rows[rows["weight"] == "fixed"].set_index(key)
    for name in ("kept", "last"):
        against = fixed[f"RMSE {name}"].reindex(pd.MultiIndex.from_frame(rows[key])).to_numpy()
        rows[f"change {name} [%]"] = 100 * (rows[f"RMSE {name}"] / against - 1)
    return rows.groupby(["site", "weight"], sort=False).median(numeric_only=True).drop(columns="split").reset_index()


def to_markdown(frame: pd.DataFrame) -> str:
    """Return a table as Markdown."""
    cells = [[f"{value:.3f}" if isinstance(value, float) else str(value) for value in row] for row in frame.itertuples(index=False)]
    return "\n".join(f"| {' | '.join(row)} |" for row in [[*frame.columns], ["---"] * frame.shape[1], *cells])


def main(argv: Sequence[str] | None = None) -> None:
    """Run all fits and print them, then the medians."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("configs", nargs="+")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--solver", choices=EPOCHS, default="levenberg_marquardt")
    parser.add_argument("--tolerance", type=float, default=None)
    arguments = parser.parse_args(argv)
    warnings.simplefilter("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    torch.set_num_threads(1)
    registry, rows = load_plugins(), []
    for path in arguments.configs:
        for seed, trial in read_trials(path, arguments.solver, arguments.seeds, registry):
            tolerance = arguments.tolerance or trial.choose_tolerance()
            name = {"site": trial.inputs.site.name, "split": seed}
            rows += [{**name, **trial.fit(arm, tolerance)} for arm in ARMS]
    frame = pd.DataFrame(rows)
    medians = summarise(frame)
    print(to_markdown(frame), to_markdown(medians), sep="\n\n")


if __name__ == "__main__":
    main()
