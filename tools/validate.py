"""How well inversions do on days that they never saw, and on twins whose truth is known.

`sites`: fit each config with several seeds of the split (one-year sites draw other blocks; a longer record keeps its last year)
and score the held-out days before and after, through the surrogate and through the process model.

`twins`: draw true parameters from the prior, run the process model, add noise where the tower measured, invert, and compare with
the noiseless truth and with the true parameters.

    python tools/validate.py sites configs/fr_hes.yaml configs/us_ar1.yaml --seeds 5
    python tools/validate.py twins configs/fr_hes.yaml --truths 20

Both print Markdown. Results go to a temporary folder.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from lit_invert.config import parse_fit
from lit_invert.fit import FitConfig, Inputs, fit, read_inputs
from lit_invert.inversion import invert
from lit_invert.metrics import rmse
from lit_invert.observations import Observations
from lit_invert.parameters import ParameterTable
from lit_invert.plugins import Registry, load_plugins
from lit_invert.resimulation import resimulate

#: Random error of a daily NEP, sd = a + b |NEP| [gC m-2 d-1]: a regression of `nee_randunc` on |NEP| over the good days of US-AR1.
NOISE_FLOOR, NOISE_SLOPE = 0.094, 0.084


def main(argv: Sequence[str] | None = None) -> None:
    """Run one of the two experiments."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    sites = commands.add_parser("sites")
    sites.add_argument("configs", nargs="+")
    sites.add_argument("--seeds", type=int, default=5)
    twins = commands.add_parser("twins")
    twins.add_argument("config")
    twins.add_argument("--truths", type=int, default=20)
    arguments, overrides = parser.parse_known_args(argv)
    registry = load_plugins()
    if arguments.command == "sites":
        validate_sites(arguments.configs, arguments.seeds, overrides, registry)
    else:
        validate_twins(arguments.config, arguments.truths, overrides, registry)


def load(path: str, overrides: Sequence[str], registry: Registry) -> FitConfig:
    """Parse a config for a quiet run."""
    return parse_fit(["--config", path, "--logger", "false", "--trainer.enable_progress_bar", "false", *overrides], registry)


def validate_sites(paths: Sequence[str], seeds: int, overrides: Sequence[str], registry: Registry) -> None:
    """Print RMSE by role before and after, one row a fit, and the median change on `test` days."""
    print("| site | split seed | role | n | prior | optimum | change | process model at optimum |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    for path in paths:
        changes = []
        for seed in range(seeds):
            with tempfile.TemporaryDirectory() as folder:
                config = load(path, ["--data.split.seed", str(seed), "--logs", folder, *overrides], registry)
                metrics = fit(config, registry).metrics
            for role, fluxes in metrics["roles"].items():
                score = fluxes[config.inversion.target_variable]
                again = score.get("resimulated", {}).get("rmse", float("nan"))
                print(
                    f"| {metrics['site']} | {seed} | {role} | {score['n']} | {score['prior']['rmse']:.2f} | "
                    f"{score['optimum']['rmse']:.2f} | {score['rmse_change_percent']:+.0f} % | {again:.2f} |",
                    flush=True,
                )
            changes.append(metrics["roles"]["test"][config.inversion.target_variable]["rmse_change_percent"])
        print(f"\n{metrics['site']}: change of the test RMSE, median {np.median(changes):+.0f} %, each {[*map(round, changes)]}\n")


def noise_model(nep: NDArray[np.float64], generator: np.random.Generator) -> NDArray[np.float64]:
    """Draw the random error of daily NEP, independent from day to day [gC m-2 d-1]."""
    return generator.standard_normal(nep.shape) * (NOISE_FLOOR + NOISE_SLOPE * np.abs(nep))


def draw_truth(table: ParameterTable, generator: np.random.Generator) -> torch.Tensor:
    """Draw parameters from the prior, inside their bounds: Gaussian, of the logarithm where the table says `log`."""
    shift = torch.as_tensor(generator.standard_normal(len(table)))
    linear = table.prior + shift * table.prior_sd
    ratio = table.prior * torch.exp(shift * table.prior_sd / table.prior)
    drawn = torch.where(table.log, ratio, linear)
    return torch.where(table.fixed, table.prior, table.bounds.clip(drawn))


def twin(inputs: Inputs, truth: NDArray[np.float64], seed: int) -> tuple[Observations, Observations]:
    """Return the `fit` and `select` observations of a twin: the site's own days, the truth's fluxes with noise."""
    site, spec = inputs.site, inputs.surrogate.spec
    noisy = truth + noise_model(truth, np.random.default_rng(seed))
    observations = [
        Observations(site.dates, spec.output_names, np.where(o.mask, noisy, np.nan), o.mask) for o in (site.fit, site.select)
    ]
    return observations[0], observations[1]


def validate_twins(path: str, truths: int, overrides: Sequence[str], registry: Registry) -> None:
    """Print the error against the noiseless truth before and after, and how well each parameter came back."""
    config = load(path, overrides, registry)
    inputs = read_inputs(config, registry)
    model, table, site = registry.process_models[config.resimulate or "simcycle"], inputs.table, inputs.site
    outputs = inputs.surrogate.spec.output_names
    target = outputs.index(config.inversion.target_variable)

    def run(physical: torch.Tensor) -> NDArray[np.float64]:
        return resimulate(model, table.names, physical, site.drivers, site.forcing, outputs)

    days = {role: site.roles == role for role in ("fit", "select", "test")} | {"all days": np.ones(len(site.dates), dtype=bool)}
    errors: dict[str, list[tuple[float, float, float]]] = {role: [] for role in days}
    true, found = [], []
    for seed in range(truths):
        physical = draw_truth(table, np.random.default_rng(seed))
        fluxes = run(physical)
        fit_days, select_days = twin(inputs, fluxes, seed)
        result = invert(
            inputs.surrogate,
            table,
            torch.as_tensor(site.forcing),
            fit_days,
            config.inversion,
            select=select_days,
            transform=registry.transforms[config.constraints.transform],
            solver=registry.solvers.get(config.inversion.solver),
            trainer=config.trainer,
        )
        again, before = run(result.optimum), run(table.prior)
        for role, where in days.items():
            series = (before, result.simulated_optimum, again)
            errors[role].append(tuple(rmse(s[where, target], fluxes[where, target]) for s in series))  # type: ignore[arg-type]
        true.append(physical.numpy())
        found.append(result.optimum.numpy())
        print(f"truth {seed}: {errors['all days'][-1]} ({result.iterations} iterations, {result.seconds:.0f} s)", file=sys.stderr)
    _print_errors(errors, truths)
    _print_parameters(table, np.array(true), np.array(found))


def _print_errors(errors: dict[str, list[tuple[float, float, float]]], truths: int) -> None:
    print(f"RMSE of NEP against the noiseless truth [gC m-2 d-1], median of {truths} truths\n")
    print("| days | process model at prior | surrogate at optimum | process model at optimum | change |")
    print("| --- | --- | --- | --- | --- |")
    for role, rows in errors.items():
        prior, optimum, again = np.median(rows, axis=0)
        change = np.median([100 * (row[2] - row[0]) / row[0] for row in rows])
        print(f"| {role} | {prior:.2f} | {optimum:.2f} | {again:.2f} | {change:+.0f} % |")


def _print_parameters(table: ParameterTable, true: NDArray[np.float64], found: NDArray[np.float64]) -> None:
    """Print the share of each parameter's true variance that the estimate explains, best first."""
    log = table.log.numpy()
    true, found, prior = (np.where(log, np.log(np.where(log, x, 1.0)), x) for x in (true, found, table.prior.numpy()))
    left = ((found - true) ** 2).mean(0)
    spread = ((prior - true) ** 2).mean(0)
    skill = 1 - left / np.where(spread > 0, spread, np.nan)
    print("\nShare of the true parameters' mean square distance from the prior that the inversion removed\n")
    print("| parameter | share | correlation |")
    print("| --- | --- | --- |")
    for i in np.argsort(-np.nan_to_num(skill, nan=-np.inf)):
        if np.isfinite(skill[i]):
            moves = found[:, i].std() > 0
            correlation = np.corrcoef(found[:, i], true[:, i])[0, 1] if moves else float("nan")
            print(f"| {table.names[i]} | {skill[i]:+.2f} | {correlation:+.2f} |")


if __name__ == "__main__":
    main()
