"""Retention is counted right, and the weight in the loss is what it asks for: during a fit, after a pause, and not at all."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import CSVLogger
from lit_invert_invariance.lambda_optimizer import InvarianceLambdaOptimizer
from lit_invert_invariance.penalty import Invariance
from lit_invert_invariance.perturbation import draw_factors, flux_scale, simulate_perturbed
from lit_invert_invariance.settings import InvarianceSettings, SteeringSettings
from lit_invert_invariance.steering import SteerLambda
from lit_invert_invariance.weather_retention import Retention, measure_changes, measure_retention
from two_processes import steer

from lit_invert import InversionSettings, LitInvertError, invert
from lit_invert.builtin import register_solvers
from lit_invert.callbacks import KeepBest
from lit_invert.guards import GuardedTerm, PluginInfo
from lit_invert.observations import Observations
from lit_invert.settings import StopSettings
from lit_invert.testing import toy_forcing, toy_problem, toy_surrogate, toy_table, toy_truth


def _evaluation(members=2, n_days=75):
    problem = toy_problem(n_days=n_days)
    return problem.evaluate(torch.linspace(-1, 1, 3 * members, dtype=torch.float64).reshape(members, 3))


def test_the_change_of_a_sample_is_that_of_numpy():
    evaluation = _evaluation()
    factors = draw_factors(evaluation.surrogate.spec.drivers, 5, 0.02, seed=1)
    changes = measure_changes(evaluation, factors, 30).reshape(5, 2, 3)
    change = (simulate_perturbed(evaluation, factors) - evaluation.simulated).detach().numpy()
    scale = flux_scale(evaluation).numpy()
    for window, days in enumerate((slice(0, 30), slice(30, 60), slice(60, 75))):
        rms = np.sqrt(np.mean(change[:, :, days] ** 2, axis=2)) / scale
        np.testing.assert_allclose(changes[:, :, window], rms.max(-1), rtol=1e-12)


def test_the_scale_is_the_spread_at_the_prior():
    evaluation, prior = _evaluation(), toy_problem(n_days=75).evaluate(torch.zeros(1, 3).double())
    expected = prior.simulated.std(1, correction=0)
    torch.testing.assert_close(flux_scale(evaluation), expected, rtol=1e-12, atol=0)


def test_a_sample_at_the_tolerance_passes():
    evaluation = _evaluation(1, 30)
    factors = draw_factors(evaluation.surrogate.spec.drivers, 1, 0.02, seed=0)
    change = measure_changes(evaluation, factors, 30).item()
    assert measure_retention(evaluation, factors, 30, change) == Retention(1, 1, 0)
    assert measure_retention(evaluation, factors, 30, np.nextafter(change, 0)) == Retention(0, 1, 0)


def test_what_is_not_finite_is_left_out_and_counted():
    evaluation = _evaluation()
    simulated = evaluation.simulated.clone()
    simulated[1, 40, 0] = torch.nan
    factors = draw_factors(evaluation.surrogate.spec.drivers, 4, 0.02, seed=0)
    assert measure_retention(replace(evaluation, simulated=simulated), factors, 30, 10.0) == Retention(20, 20, 4)


def test_only_windows_with_a_chosen_day_are_samples():
    evaluation = toy_problem(n_days=30).evaluate(torch.zeros(2, 3).double())
    factors = draw_factors(evaluation.surrogate.spec.drivers, 4, 0.02, seed=0)
    chosen = torch.zeros(1, 30, dtype=torch.bool)
    chosen[0, 17] = True
    every, one = (measure_changes(evaluation, factors, 10, days) for days in (None, chosen))
    assert (len(every), len(one)) == (24, 8)  # three windows, or the second alone, of two members under four sets
    torch.testing.assert_close(one, every.unflatten(0, (4, 2, 3))[..., 1].flatten())


def _fit(
    iterations,
    tolerance=0.05,
    term=True,
    steer=True,
    solver="adam",
    select=True,
    guarded=False,
    epoch=2,
    starts=1,
    more=(),
    **options,
):
    """Invert the toy against its own NEP, with a penalty, or no `term`; return result, callback and the last weight."""
    surrogate, forcing = toy_surrogate(), toy_forcing(120)
    fluxes = surrogate(surrogate.static_scaler.to_scaled(toy_truth().float())[None], surrogate.prepare(forcing))[0]
    dates = np.datetime64("2016-01-01") + np.arange(120)
    mask = np.broadcast_to(np.arange(4) == 2, fluxes.shape).copy()
    record = Observations(dates, surrogate.spec.output_names, fluxes.double().numpy(), mask)
    is_select = np.arange(120) >= 90
    callback = SteerLambda(InvarianceSettings(steering=SteeringSettings(tolerance=tolerance)))
    penalty = Invariance(weight=0.7) if term is True else term
    result = invert(
        surrogate,
        toy_table(),
        forcing[0],
        record.only(~is_select),
        InversionSettings(
            lr=0.05,
            max_iters=iterations,
            solver=solver,
            early_stopping=StopSettings(enabled=False),
            lambda_prior=0.01,
            starts=starts,
        ),
        select=record.only(is_select) if select else None,
        terms=[GuardedTerm(penalty, PluginInfo("invariance", None))] if guarded else [penalty] if term else [],
        solver=next(each for each in register_solvers() if each.name == solver),
        trainer={"accelerator": "cpu", "enable_progress_bar": False, "limit_train_batches": epoch},
        callbacks=[callback, *more] if steer else [],
        **options,
    )
    return SimpleNamespace(result=result, callback=callback, weight=callback.steering.current_lambda)


def _weights(result):
    """Return the weight that each iteration had, from what it made of the term."""
    return (result.history["weighted/invariance"] / result.history["loss/invariance"]).to_numpy()


def test_each_epoch_has_the_weight_that_the_retention_before_asked_for(tmp_path):
    result = _fit(8, logger=CSVLogger(tmp_path)).result
    (path,) = tmp_path.rglob("metrics.csv")
    logged = pd.read_csv(path).set_index("step")[["invariance/lambda", "invariance/retention"]].dropna()
    assert logged.index.tolist() == [1, 3, 5, 7]
    np.testing.assert_allclose(_weights(result), logged["invariance/lambda"].repeat(2), rtol=1e-6)
    steering = InvarianceLambdaOptimizer()
    expected = [0.1] + [steering.update_lambda(retention) for retention in logged["invariance/retention"]]
    assert logged["invariance/lambda"].tolist() == pytest.approx(expected[:-1], rel=1e-12)
    assert logged["invariance/retention"].between(0.01, 0.93).all()
    assert logged["invariance/lambda"].is_monotonic_increasing


def test_the_weight_rises_where_nothing_passes_and_falls_where_all_do():
    low, high = _fit(6, tolerance=1e-9), _fit(6, tolerance=10.0)
    assert low.callback.retention.share == 0
    assert low.weight == pytest.approx(0.1 + 3 * 0.095, rel=1e-12)
    assert high.callback.retention.share == 1
    assert high.weight == pytest.approx(0.1 - 3 * 0.0025, rel=1e-12)


def test_only_windows_with_select_days_are_looked_at():
    assert _fit(2).callback.retention.samples == 32
    assert _fit(2, select=False).callback.retention.samples == 4 * 32


def test_the_term_is_found_and_steered_under_the_guard_that_a_plugins_term_has():
    guarded, bare = _fit(6, guarded=True), _fit(6)
    assert guarded.weight == bare.weight > 0.1
    assert torch.equal(guarded.result.optimum, bare.result.optimum)


def test_a_fit_without_the_term_is_left_alone():
    steered, alone = _fit(6, term=False), _fit(6, term=False, steer=False)
    assert torch.equal(steered.result.optimum, alone.result.optimum)
    assert steered.callback.retention is None


def test_a_resumed_fit_goes_on_with_its_weight(tmp_path):
    whole = _fit(8)
    _fit(4, checkpoints=tmp_path / "first")
    resumed = _fit(8, checkpoints=tmp_path / "second", ckpt_path=tmp_path / "first" / "last.ckpt")
    assert resumed.weight == whole.weight > 0.1
    np.testing.assert_array_equal(_weights(resumed.result)[4:], _weights(whole.result)[4:])
    assert torch.equal(resumed.result.optimum, whole.result.optimum)


def test_a_resumed_fit_keeps_the_best_of_its_weight(tmp_path):
    class Look(Callback):
        def on_fit_start(self, trainer, pl_module):
            self.kept = next(callback for callback in trainer.callbacks if isinstance(callback, KeepBest)).theta

    look = Look()
    first = _fit(3, select=False, checkpoints=tmp_path / "first")
    _fit(8, select=False, checkpoints=tmp_path / "second", ckpt_path=tmp_path / "first" / "last.ckpt", more=[look])
    torch.testing.assert_close(look.kept[0], first.result.optimum_scaled, rtol=0, atol=1e-6, check_dtype=False)


@pytest.mark.parametrize("epoch", [2, 50])
def test_a_solver_that_has_converged_goes_on_with_the_next_weight(epoch):
    fixed = _fit(100, steer=False, solver="levenberg_marquardt", epoch=epoch)
    steered = _fit(100, tolerance=1e-9, solver="levenberg_marquardt", epoch=epoch)
    assert fixed.result.iterations < 30
    assert steered.weight == 1.0  # it rose until it met its limit, and the solver converged there
    assert steered.result.status.name == "CONVERGED"


def test_an_inversion_knows_nothing_of_the_one_before_with_the_same_term():
    term = Invariance(weight=0.7)
    first, second = (_fit(20, tolerance=1e-9, term=term, solver="levenberg_marquardt", starts=3) for _ in range(2))
    assert first.weight == second.weight > 0.1
    assert term.weight == 0.7
    pd.testing.assert_frame_equal(first.result.history, second.result.history)
    assert torch.equal(first.result.optimum, second.result.optimum)


def test_a_penalty_of_another_name_is_steered_as_well():
    class Leaning(Invariance):
        name = "leaning"

    named, plain = _fit(6, term=Leaning(weight=0.7)), _fit(6)
    assert named.weight == plain.weight > 0.1
    assert torch.equal(named.result.optimum, plain.result.optimum)


def test_two_processes_steer_by_the_sites_of_both():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    here = Path(__file__).parent
    place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "NODE_RANK": "0", "OMP_NUM_THREADS": "1"}
    place["PYTHONPATH"] = os.pathsep.join(filter(None, (str(here.parent), os.environ.get("PYTHONPATH"))))
    command = [sys.executable, "-W", "ignore", str(here / "two_processes.py")]
    both = [
        subprocess.Popen(
            command, cwd=here.parents[2], env={**os.environ, **place, "LOCAL_RANK": rank},
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for rank in "01"
    ]  # fmt: skip
    try:
        ends = [process.communicate(timeout=120) for process in both]
    finally:
        for process in both:
            process.kill()
    assert [process.returncode for process in both] == [0, 0], ends
    first, second = (json.loads(out.splitlines()[-1]) for out, _ in ends)
    assert first == second
    np.testing.assert_allclose(first, steer("levenberg_marquardt"), rtol=1e-12)
    others = steer("levenberg_marquardt", slice(0, None, 2)), steer("levenberg_marquardt", slice(1, 2))
    assert first[0][-1] < others[1][0][-1] - 0.01  # what the second would do by its own site
    assert first[0][-1] > others[0][0][-1] + 0.01


def test_a_wrong_block_is_one_line():
    with pytest.raises(LitInvertError, match=r"`invariance\.steering\.tolerance` is 0, expected a number above zero"):
        SteeringSettings(tolerance=0)
    with pytest.raises(LitInvertError, match=r"min_lambda 0\.2, initial_lambda 0\.1 and max_lambda 1\.0 are out of order"):
        SteeringSettings(min_lambda=0.2)
