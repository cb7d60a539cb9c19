"""Where a fit starts: the places, the first years alone, halving, and what becomes of each start."""

from __future__ import annotations

import math
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

from lit_invert.errors import ConfigError, ParameterTableError
from lit_invert.losses import LossTerm, Misfit, Prior
from lit_invert.parameters import ParameterSpace, parse_parameter_table
from lit_invert.problem import InversionProblem
from lit_invert.problem_objective import ProblemObjective
from lit_invert.results import load_parameters
from lit_invert.settings import InversionSettings
from lit_invert.solvers import LevenbergMarquardt, minimize
from lit_invert.start_journal import Journal, judge
from lit_invert.start_points import draw_hypercube, draw_starts, place_starts, read_starts
from lit_invert.starting import COARSE_STEPS, STEPS_A_ROUND, coarse_days, find_start, halve, run_all
from lit_invert.testing import toy_problem
from lit_invert.transforms import Bounds, ScaledTransform, Scaler
from tests.toy_fit import finished_toy_run


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def masked(problem, mask):
    return InversionProblem(problem.surrogate, problem.space, problem.forcing, problem.observed, mask, problem.loss_terms)


class Counting(InversionProblem):
    """Counts the members that are linearised."""

    linearized = 0

    def push(self, theta, members=None):
        self.linearized += len(theta)
        return super().push(theta, members)


def test_starts_are_the_prior_and_draws_from_it_inside_the_bounds():
    space = toy_problem().space
    starts = draw_starts(space, 2000, generator())
    assert torch.equal(starts[0], space.to_theta(space.prior))
    physical = space.to_physical(starts)
    assert torch.equal(space.bounds.clip(physical), physical)
    wide = draw_starts(toy_problem().space, 2000, generator(1))
    assert not torch.equal(starts[1:], wide[1:])
    assert torch.equal(starts, draw_starts(space, 2000, generator()))
    middle = starts[1:].median(0).values
    assert ((middle - starts[0]).abs() < 0.1 * space.prior_sd_scaled).all()  # 1.25 / sqrt(2000) is 0.03 sd


def test_the_first_days_hold_a_share_of_the_observations_and_a_year():
    problem = toy_problem(n_days=2000)
    mask = torch.ones_like(problem.mask)
    assert coarse_days(masked(problem, mask), "nep") == [600]
    mask[:, :900] = False  # 1,100 observed days, three tenths of them by day 900 + 330
    assert coarse_days(masked(problem, mask), "nep") == [None]
    mask[:, 1000:] = False
    mask[:, 500:900] = True  # 500 observed days from day 500 on
    mask[:, :, 0] = True  # days of another flux do not count
    assert coarse_days(masked(problem, mask), "nep") == [650]
    assert coarse_days(toy_problem(n_days=700), "nep") == [None]  # a year would be more than half of it
    whole = masked(problem, torch.ones_like(problem.mask))
    whole.surrogate.spec = replace(whole.surrogate.spec, fixed_length=2000)
    assert coarse_days(whole, "nep") == [None]


def test_the_first_days_are_the_whole_problem_cut_short():
    problem = toy_problem(n_days=800, terms=[Misfit(), Prior(weight=0.1)])
    theta = torch.tensor([[0.3, -0.2, 0.5]], dtype=torch.float64)
    short = problem.first(400)
    torch.testing.assert_close(short.simulate(theta), problem.simulate(theta)[:, :400])
    alone = InversionProblem(
        problem.surrogate,
        problem.space,
        problem.forcing[:, :400],
        problem.observed[:, :400],
        problem.mask[:, :400],
        problem.loss_terms,
    )
    torch.testing.assert_close(short(theta).total, alone(theta).total)
    assert problem.observed.shape[1] == 800


def test_steps_on_the_first_days_come_first_and_are_told():
    problem = toy_problem(n_days=2000, terms=[Misfit(), Prior(weight=1e-3)])
    objective = ProblemObjective(problem)
    prior = draw_starts(problem.space, 1, generator())
    theta, how = find_start(objective, LevenbergMarquardt, prior)
    assert objective.loss(theta).item() < 0.1 * objective.loss(prior).item()
    assert how.endswith("steps on the first 600 days before")
    assert 1 <= int(how.split()[0]) <= COARSE_STEPS
    same, silent = find_start(objective, LevenbergMarquardt, prior, coarse=False)
    assert torch.equal(same, prior)
    assert silent == ""


def test_halving_leaves_the_best_basin_for_less_than_all_its_starts():
    problem = toy_problem(terms=[Misfit(), Prior(weight=1e-3)])
    problem.__class__ = Counting
    objective = ProblemObjective(problem)
    starts = draw_starts(objective.problem.space, 8, generator())
    starts[5:] = 50.0 * starts[5:]  # far outside; their first step is a projection
    left = halve(objective, starts[None], LevenbergMarquardt)
    assert left.shape == (1, 3)
    assert 0 < problem.linearized <= STEPS_A_ROUND * (8 + 4 + 2)
    assert objective.loss(left).item() <= objective.loss(starts[:1]).item()
    _, how = find_start(objective, LevenbergMarquardt, starts)
    assert how == "best of 8 starts"


TABLE = parse_parameter_table(
    ["name,prior,min,max,scale,fixed", "rate,0.1,0.001,1,log,false", "share,0.4,0,1,lin,false", "kept,3,1,9,lin,true"]
)


def log_space(table=TABLE):
    scaler = Scaler(torch.zeros(3, dtype=torch.float64), torch.ones(3, dtype=torch.float64), torch.tensor([True, False, False]))
    return ParameterSpace(table, ScaledTransform(scaler, table.bounds))


def test_a_hypercube_has_one_point_in_each_stratum_of_each_range_in_its_own_scale():
    space = log_space()
    physical = space.to_physical(draw_hypercube(space, 41, generator()))
    torch.testing.assert_close(physical[0], TABLE.prior)
    strata = torch.stack([(physical[1:, 0].log10() + 3) / 3, physical[1:, 1]], -1).mul(40).floor().sort(0).values
    assert torch.equal(strata, torch.arange(40.0, dtype=torch.float64)[:, None].expand(-1, 2))
    assert (physical[:, 2] == 3.0).all()
    assert not torch.equal(physical[1:, 1].argsort(), physical[1:, 0].argsort())


def test_a_hypercube_needs_finite_bounds():
    open_ended = replace(TABLE, bounds=Bounds(TABLE.bounds.lower, torch.tensor([1.0, math.inf, 9.0], dtype=torch.float64)))
    with pytest.raises(ConfigError, match="'share' has the bounds 0 to inf"):
        draw_hypercube(log_space(open_ended), 4, generator())


def test_a_file_of_starts_says_what_it_says_and_the_prior_the_rest(tmp_path):
    path = tmp_path / "starts.csv"
    path.write_text("share,rate\n0.9,\n0.1,0.5\n")
    settings = InversionSettings(starts=5, start_points=str(path))
    starts = place_starts(log_space(), [read_starts(settings, TABLE)], settings, 0)
    assert starts.origins == ("prior", "user", "user", "draw", "draw")
    physical = log_space().to_physical(starts.theta[0])
    torch.testing.assert_close(physical[:3, :2], torch.tensor([[0.1, 0.4], [0.1, 0.9], [0.5, 0.1]], dtype=torch.float64))
    drawn = draw_starts(log_space(), 5, generator())
    assert torch.equal(starts.theta[0, 3:], drawn[3:])


@pytest.mark.parametrize(
    ("text", "starts", "message"),
    [
        ("shar\n0.5\n", 3, "starts.csv: column 'shar' is not a static parameter. Did you mean 'share'"),
        ("share,share\n0.5,0.5\n", 3, "column 'share' stands twice"),
        ("share\n0.5\nhalf\n", 3, "row 3, column 'share': expected a number, found 'half'"),
        ("rate,share\n0.5,1.5\n", 3, "row 2, column 'share': 1.5 is outside its bounds, 0 to 1"),
        ("rate\ninf\n", 3, "row 2, column 'rate': inf is outside its bounds"),
        ("kept\n4\n", 3, "column 'kept': is fixed at 3; leave the column out"),
        ("rate,share\n0.5\n", 3, "row 2: has other than the header's number of cells"),
        ("rate,share\n0.5,0.5,0.5\n", 3, "row 2: has other than the header's number of cells"),
        ("rate\n", 3, "has no start"),
        ("rate\n0.2\n0.3\n0.4\n", 3, "has 3 rows. Ask for 4"),
    ],
)
def test_a_file_that_makes_no_sense_is_one_line_that_names_the_place(tmp_path, text, starts, message):
    path = tmp_path / "starts.csv"
    path.write_text(text)
    with pytest.raises((ParameterTableError, ConfigError)) as caught:
        read_starts(InversionSettings(starts=starts, start_points=str(path)), TABLE)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_there_and_points_without_starts_are_said(tmp_path):
    with pytest.raises(ParameterTableError, match=r"not found\. `inversion.start_points` is prior, lhs, or"):
        read_starts(InversionSettings(starts=2, start_points=str(tmp_path / "none.csv")), TABLE)
    with pytest.raises(ConfigError, match=r"'lhs', but `inversion\.starts` is 1"):
        InversionSettings(start_points="lhs")


class Cliff(LossTerm):
    """Not finite where the first parameter is beyond 3."""

    name = "cliff"

    def forward(self, evaluation):
        return torch.where(evaluation.physical[:, 0] > 3.0, math.nan, 0.0 * evaluation.physical[:, 0])


def starts_of(problem, count=8):
    theta = draw_starts(problem.space, count, generator())
    theta[2, 0] = 2.5  # physical 3.25
    return theta


def outcome_at(problem, theta):
    physical = problem.space.to_physical(theta).double()
    return SimpleNamespace(target="nep", optimum=physical, iterations=3, seconds=9.0)


def test_every_start_leaves_a_record_though_one_fails_and_most_are_dropped():
    problem = toy_problem(terms=[Misfit(), Prior(weight=1e-3), Cliff()])
    objective, starts = ProblemObjective(problem), starts_of(problem)
    journal = Journal(["prior", *["draw"] * 7], starts)
    left = halve(objective, starts[None], LevenbergMarquardt, journal)
    table = journal.table(problem, left[0], outcome_at(problem, left[0]), None)
    assert list(table["start"]) == list(range(8))
    assert table["status"].value_counts().to_dict() == {"dropped": 6, "failed": 1, "finished": 1}
    assert table.loc[2, "message"] == "the loss is not finite where it starts"
    assert np.isnan(table.loc[2, ["loss_start", "loss"]].astype(float)).all()
    assert sorted(table.loc[table["status"] != "failed", "round"]) in ([1, 1, 1, 1, 2, 3, 3], [1, 1, 1, 2, 2, 3, 3])
    np.testing.assert_allclose(table["loss_start"][[0, 1]], objective.loss(starts[:2]))
    best = table[table["status"] == "finished"].iloc[0]
    assert best["loss"] == objective.loss(left).item()
    assert best["iterations"] == int(journal.steps[journal.kept]) + 3
    assert 1 <= int(journal.steps[journal.kept]) <= 3 * STEPS_A_ROUND
    assert table["seconds"].sum() == pytest.approx(9.0)
    assert table["select_rmse"].isna().all()


def test_without_halving_every_start_ends_where_it_would_alone_and_the_best_by_rank_is_kept():
    problem = toy_problem(terms=[Misfit(), Prior(weight=1e-3)])
    objective, starts = ProblemObjective(problem), draw_starts(problem.space, 4, generator())
    journal = Journal(["prior", *["draw"] * 3], starts)
    theta, (how,) = run_all(objective, LevenbergMarquardt, starts[None], lambda ends: -objective.loss(ends), 40, journal)
    alone = torch.cat([minimize(objective, start[None], LevenbergMarquardt, max_iters=40).theta for start in starts])
    torch.testing.assert_close(journal.left, alone, atol=1e-5, rtol=0)
    assert journal.kept == int(objective.loss(alone).argmax())
    assert torch.equal(theta[0], journal.left[journal.kept])
    assert how == "best of 4 starts, each run to its end"
    table = journal.table(problem, theta[0], outcome_at(problem, theta[0]), None)
    assert set(table["status"]) == {"finished"}
    assert list(table["cluster"]) == [0, 0, 0, 0]  # a parabola has one minimum


def test_starts_of_two_sites_are_ranked_each_by_its_own():
    one = toy_problem(terms=[Misfit(), Prior(weight=1e-3)])
    both = one.variant(observed=torch.cat([one.observed, -one.observed]), mask=one.mask.expand(2, -1, -1))
    starts = draw_starts(one.space, 3, generator()).expand(2, -1, -1)
    objective = ProblemObjective(both)
    theta, _ = run_all(objective, LevenbergMarquardt, starts, lambda ends: objective.repeated(2, 3).loss(ends), 40)
    for site, problem in enumerate((one, one.variant(observed=-one.observed))):
        alone, _ = run_all(ProblemObjective(problem), LevenbergMarquardt, starts[:1], ProblemObjective(problem).loss, 40)
        torch.testing.assert_close(theta[site], alone[0], atol=1e-6, rtol=0)


def test_the_judge_looks_at_the_select_days_alone():
    problem = toy_problem()
    theta = torch.zeros(1, 3, dtype=torch.float64)
    mask = torch.zeros(1, 60, 4, dtype=torch.bool)
    mask[:, 10:20, 2] = True
    loss, found = judge(problem, theta, "nep", (torch.where(mask, 0.0, math.nan), mask))
    torch.testing.assert_close(found, problem.simulate(theta)[:, 10:20, 2].square().mean(1).sqrt())
    assert loss.item() == problem(theta).total.item()


def test_a_fit_from_several_places_leaves_its_starts(tmp_path, monkeypatch):
    (tmp_path / "mine.csv").write_text("s1,s2\n3.0,\n")
    monkeypatch.chdir("/")  # the file is meant from the config's folder
    block = "  solver: levenberg_marquardt\n  start_points: mine.csv\n  starts: 3\n  halving: false\n"
    run, metrics = finished_toy_run(tmp_path, block)
    starts = pd.read_csv(run / "starts.csv")
    assert list(starts["origin"]) == ["prior", "user", "draw"]
    assert set(starts["cluster"]) == {0}
    kept = starts[starts["message"] == "went on to the optimum"].iloc[0]
    assert kept["select_rmse"] == starts["select_rmse"].min()
    assert list(kept[["s1", "s2", "s3"]]) == list(load_parameters(run)["optimum"])
    assert (metrics["starts"]["count"], metrics["starts"]["clusters"], len(metrics["starts"]["r_t"])) == (3, 1, 3)


def test_a_fit_from_the_prior_alone_leaves_no_starts(tmp_path):
    run, metrics = finished_toy_run(tmp_path, "  solver: levenberg_marquardt\n")
    assert not (run / "starts.csv").exists()
    assert metrics["starts"] is None
