"""The benchmark's own machinery: what it times must be what it says."""

import importlib
from pathlib import Path

import numpy as np
import pytest
import torch

from lit_invert.testing import toy_problem, toy_truth

BENCH = Path(__file__).parents[1] / "tools" / "bench"


@pytest.fixture
def bench(monkeypatch):
    """Import a script of tools/bench by name, as its neighbours do."""
    monkeypatch.syspath_prepend(str(BENCH))
    return importlib.import_module


def test_a_twin_is_the_same_problem_each_time_and_half_observed(bench):
    problems = bench("problems")
    twin, again, other = (problems.twin_problem(60, seed=seed) for seed in (3, 3, 4))
    mask = twin.problem.mask[0]
    assert mask.any(0).tolist() == [name == "nep" for name in twin.problem.surrogate.spec.output_names]
    assert int(mask.sum()) == 30
    assert torch.equal(twin.problem.observed, again.problem.observed)
    assert torch.equal(twin.truth, again.truth)
    assert not torch.equal(twin.truth, other.truth)
    assert torch.equal(twin.problem.space.table.bounds.clip(twin.truth), twin.truth)


def test_the_loss_at_the_truth_is_the_noise_and_the_distance_from_the_prior(bench):
    problems = bench("problems")
    twin = problems.twin_problem(1461, seed=1)
    loss = twin.problem(twin.problem.space.to_theta(twin.truth.float())[None])
    nep = loss.evaluation.simulated[twin.problem.mask].double().numpy()
    variance = (problems.NOISE_FLOOR + problems.NOISE_SLOPE * np.abs(nep)) ** 2 + problems.DRIFT_SPREAD**2
    # 730 days, a ninth of them independent in their drift: a standard error of about 0.12
    assert loss.terms["misfit"].item() == pytest.approx(variance.mean(), rel=0.35)


def test_with_mismatch_the_process_model_makes_the_observations(bench):
    problems = bench("problems")
    own, other = (problems.twin_problem(60, seed=0, mismatch=mismatch).problem for mismatch in (False, True))
    assert torch.equal(own.mask, other.mask)
    assert not torch.allclose(own.observed, other.observed)


def test_residuals_are_the_loss(bench):
    problems, rivals = bench("problems"), bench("rivals")
    problem = problems.twin_problem(60, seed=1).problem
    theta = torch.cat([problems.random_start(problem, seed) for seed in range(3)])
    squares = rivals.residuals(problem, theta).square().sum(1)
    torch.testing.assert_close(squares, problem(theta).total, rtol=1e-5, atol=0.0)


def test_a_trace_knows_when_a_loss_was_reached_first(bench):
    trace = bench("traces").Trace([1.0, 2.0, 3.0, 4.0], [0.5, 1.0, 1.5, 2.0], [9.0, 2.0, 5.0, 1.0])
    assert (trace.best, trace.seconds_to(2.0), trace.cpu_seconds_to(2.0)) == (1.0, 2.0, 1.0)
    assert trace.seconds_to(0.5) == float("inf")


def test_the_plain_loop_takes_its_500_steps_to_the_truth_inside_the_bounds(bench):
    rivals, problem = bench("rivals"), toy_problem()
    start = problem.space.to_theta(torch.tensor([3.5, 0.5, 2.0]).double())[None]
    trace = rivals.adam(problem, start, budget=0.0)
    assert len(trace.losses) == trace.evaluations[-1] == 501
    assert torch.allclose(problem.space.to_physical(trace.theta)[0], toy_truth(), atol=1e-3)


def test_a_spent_budget_ends_a_method_after_the_evaluation_that_spent_it(bench):
    problems, traces = bench("problems"), bench("traces")
    twin = problems.twin_problem(30, seed=0)
    recorder = traces.Recorder(twin.problem, budget=0.0)
    with recorder.until_spent():
        while True:
            recorder.losses(twin.start.repeat(3, 1))
    assert recorder.trace.evaluations == [3]
    assert recorder.trace.losses == [pytest.approx(twin.problem(twin.start).total.item(), rel=1e-5)]
    assert torch.equal(recorder.trace.theta, twin.start)


def test_a_wider_or_deeper_student_starts_as_its_teacher(bench):
    problems, net2net = bench("problems"), bench("net2net")
    surrogate = problems.bench_surrogate()
    teacher = surrogate.network
    static, forcing = torch.randn(3, 36), torch.randn(1, 90, 12)
    for size, tolerance in (({"hidden_size": 192}, 1e-4), ({"num_layers": 2}, 0.2)):
        student = type(teacher)(**{**surrogate.spec.architecture, **size})
        net2net.grow(student, teacher)
        expected = teacher(static, forcing)
        assert (student(static, forcing) - expected).abs().max() < tolerance * expected.std()


def test_the_table_counts_truths_that_never_reach_a_loss(bench):
    scores, pd = bench("scores"), bench("pandas")
    settings = {"days": 365, "hidden": 128, "layers": 1, "mismatch": False, "lambda_prior": 0.001}
    rows = pd.DataFrame(
        {
            "truth": [0, 1, 2],
            "method": "other",
            "final": [1.0, 1.2, 1.04],
            "best_known": 1.0,
            "seconds_to_adam": [1.0, float("inf"), 2.0],
            "cpu_seconds_to_adam": [1.0, float("inf"), 2.0],
            "seconds_to_best": [2.0, float("inf"), float("inf")],
            "cpu_seconds_to_best": [2.0, float("inf"), float("inf")],
            "adam_seconds": 10.0,
            "adam_cpu_seconds": 10.0,
            "evaluations": [5, 6, 7],
            "peak_mib": 1.0,
        }
    ).assign(**settings)
    cells = scores.describe(rows).splitlines()[-1].split(" | ")
    assert cells[1].startswith("5 (")
    assert cells[3] == "2/3"
    assert cells[4].startswith("never (")
    assert cells[6] == "1/3"
    assert cells[8] == "1/3"


def test_peak_memory_is_what_a_call_held_at_most_even_if_it_let_go(bench):
    with bench("memory").peak_memory() as peak:
        torch.ones(64 * 2**18).sum()  # 64 MiB, freed at once
        found = peak()
    if np.isnan(found):
        pytest.skip("this kernel does not tell")
    assert 60 < found < 80
