"""Retention is counted right, and the weight in the loss is what it asks for: during a fit, after a pause, and not at all."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from lightning.pytorch.loggers import CSVLogger
from lit_invert_invariance.lambda_optimizer import InvarianceLambdaOptimizer
from lit_invert_invariance.penalty import Invariance
from lit_invert_invariance.perturbation import draw_factors, flux_scale, simulate_perturbed
from lit_invert_invariance.settings import InvarianceSettings, SteeringSettings
from lit_invert_invariance.steering import SteerLambda
from lit_invert_invariance.weather_retention import Retention, cut_windows, measure_changes, measure_retention

from lit_invert import InversionSettings, LitInvertError, invert
from lit_invert.builtin import register_solvers
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


def test_windows_start_where_days_count_and_need_half_of_theirs():
    counting = torch.ones(2, 24, dtype=torch.bool)
    counting[0, :4] = False
    counting[1, 20:] = False
    windows = cut_windows(counting, 10)
    assert [windows[0, :, w].nonzero().flatten().tolist() for w in range(3)] == [list(range(4, 14)), list(range(14, 24)), []]
    assert [int(n) for n in windows[1].sum(0)] == [10, 10, 0]
    assert int(cut_windows(torch.ones(1, 25, dtype=torch.bool), 10).any(1).sum()) == 3
    assert int(cut_windows(torch.ones(1, 24, dtype=torch.bool), 10).any(1).sum()) == 2


def test_only_windows_with_a_chosen_day_are_samples():
    chosen = torch.zeros(1, 30, dtype=torch.bool)
    chosen[0, 17] = True
    assert cut_windows(torch.ones(2, 30, dtype=torch.bool), 10, chosen).any(1).tolist() == [[False, True, False]] * 2


def _fit(iterations, tolerance=0.05, term=True, steer=True, solver="adam", select=True, guarded=False, **options):
    """Invert the toy against its own NEP, two iterations an epoch; return result, callback and term."""
    surrogate, forcing = toy_surrogate(), toy_forcing(120)
    fluxes = surrogate(surrogate.static_scaler.to_scaled(toy_truth().float())[None], surrogate.prepare(forcing))[0]
    dates = np.datetime64("2016-01-01") + np.arange(120)
    mask = np.broadcast_to(np.arange(4) == 2, fluxes.shape).copy()
    record = Observations(dates, surrogate.spec.output_names, fluxes.double().numpy(), mask)
    is_select = np.arange(120) >= 90
    callback = SteerLambda(InvarianceSettings(steering=SteeringSettings(tolerance=tolerance)))
    penalty = Invariance(weight=0.7)
    result = invert(
        surrogate,
        toy_table(),
        forcing[0],
        record.only(~is_select),
        InversionSettings(
            lr=0.05, max_iters=iterations, solver=solver, early_stopping=StopSettings(enabled=False), lambda_prior=0.01
        ),
        select=record.only(is_select) if select else None,
        terms=[GuardedTerm(penalty, PluginInfo("invariance", None))] if guarded else [penalty] if term else [],
        solver=next(each for each in register_solvers() if each.name == solver),
        trainer={"accelerator": "cpu", "enable_progress_bar": False, "limit_train_batches": 2},
        callbacks=[callback] if steer else [],
        **options,
    )
    return SimpleNamespace(result=result, callback=callback, penalty=penalty)


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
    assert low.penalty.weight == pytest.approx(0.1 + 3 * 0.095, rel=1e-12)
    assert high.callback.retention.share == 1
    assert high.penalty.weight == pytest.approx(0.1 - 3 * 0.0025, rel=1e-12)


def test_only_windows_with_select_days_are_looked_at():
    assert _fit(2).callback.retention.samples == 32
    assert _fit(2, select=False).callback.retention.samples == 4 * 32


def test_the_term_is_found_and_steered_under_the_guard_that_a_plugins_term_has():
    guarded, bare = _fit(6, guarded=True), _fit(6)
    assert guarded.penalty.weight == bare.penalty.weight > 0.1
    assert torch.equal(guarded.result.optimum, bare.result.optimum)


def test_a_fit_without_the_term_is_left_alone():
    steered, alone = _fit(6, term=False), _fit(6, term=False, steer=False)
    assert torch.equal(steered.result.optimum, alone.result.optimum)
    assert steered.callback.retention is None


def test_a_resumed_fit_goes_on_with_its_weight(tmp_path):
    whole = _fit(8)
    _fit(4, checkpoints=tmp_path / "first")
    resumed = _fit(8, checkpoints=tmp_path / "second", ckpt_path=tmp_path / "first" / "last.ckpt")
    assert resumed.penalty.weight == whole.penalty.weight > 0.1
    np.testing.assert_array_equal(_weights(resumed.result)[4:], _weights(whole.result)[4:])
    assert torch.equal(resumed.result.optimum, whole.result.optimum)


def test_a_solver_that_has_converged_goes_on_with_the_next_weight():
    fixed = _fit(100, steer=False, solver="levenberg_marquardt")
    steered = _fit(100, tolerance=1e-9, solver="levenberg_marquardt")
    assert fixed.result.iterations < 30
    assert steered.penalty.weight == 1.0  # it rose until it met its limit, and the solver converged there
    assert steered.result.status.name == "CONVERGED"


def test_a_wrong_block_is_one_line():
    with pytest.raises(LitInvertError, match=r"`invariance\.steering\.tolerance` is 0, expected a number above zero"):
        SteeringSettings(tolerance=0)
    with pytest.raises(LitInvertError, match=r"min_lambda 0\.2, initial_lambda 0\.1 and max_lambda 1\.0 are out of order"):
        SteeringSettings(min_lambda=0.2)
