"""Our own terms, transforms, loaders and so on come through the hooks like anybody's."""

from __future__ import annotations

import pytest
import torch

from lit_invert import builtin
from lit_invert.plugins import HOOKS, build_registry
from lit_invert.problem_objective import ProblemObjective
from lit_invert.solvers import Stopping
from lit_invert.testing import check_constraint, check_loss_term, toy_problem

REGISTRY = build_registry()


def test_everything_of_ours_is_there_by_name():
    assert list(REGISTRY.loss_terms) == ["boundary", "misfit", "prior"]
    assert list(REGISTRY.transforms) == ["log", "scaled", "sigmoid", "softplus"]
    assert list(REGISTRY.surrogate_loaders) == ["export", "import", "lstm", "neuralhydrology", "onnx", "torchscript"]
    assert list(REGISTRY.process_models) == ["simcycle"]
    assert {"adam", "adamw"} <= set(REGISTRY.solvers)
    assert list(REGISTRY.data_readers) == ["csv", "netcdf", "parquet"]
    assert REGISTRY.checks


def test_ours_has_no_owner_and_runs_bare():
    terms = [kind() for kind in REGISTRY.loss_terms.values()]
    assert REGISTRY.guard_terms(terms) == terms
    assert all(REGISTRY.owner(kind) is None for kind in REGISTRY.transforms.values())


def test_builtin_uses_no_back_door():
    (plugin,) = REGISTRY.plugins
    registering = {hook for hook in HOOKS if hook.startswith("register_")}
    assert plugin.module is builtin
    assert registering - set(plugin.hooks) == {
        "register_callbacks",
        "register_commands",
        "register_config_sections",
        "register_report_sections",
    }


@pytest.mark.parametrize("name", REGISTRY.loss_terms)
def test_terms_keep_the_contract(name):
    check_loss_term(REGISTRY.loss_terms[name]())


@pytest.mark.parametrize(
    ("name", "keeps"), [("scaled", ()), ("sigmoid", ("lower", "upper")), ("softplus", ("lower",)), ("log", ("lower",))]
)
def test_transforms_keep_the_contract(name, keeps):
    check_constraint(REGISTRY.transforms[name], keeps=keeps)


@pytest.mark.parametrize("name", REGISTRY.solvers)
def test_solvers_find_the_truth_of_the_toy(name):
    problem, solver = toy_problem(), REGISTRY.solvers[name]
    theta = torch.nn.Parameter(torch.zeros(1, 3, dtype=torch.float64))
    first = problem(theta).total.item()
    if solver.build_over is not None:
        optimizer = solver.build_over([theta], ProblemObjective(problem), Stopping())
        for _ in range(20):
            optimizer.step()
    else:
        optimizer = solver.build([theta], 0.05)
        for _ in range(100):
            optimizer.zero_grad()
            problem(theta).total.sum().backward()
            optimizer.step()
    assert problem(theta).total.item() < 0.01 * first
