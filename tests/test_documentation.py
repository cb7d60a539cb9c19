"""Documentation that nothing runs goes wrong: so links lead somewhere, snippets run, and no page knows its machine."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from lit_invert.parameters import load_parameter_table
from lit_invert.process import SimCycle
from lit_invert.testing import check_loss_term, toy_problem
from lit_invert.trust import Trust
from tests.toy_fit import write_toy_fit

ROOT = Path(__file__).parents[1]
PAGES = [
    ROOT / "README.md",
    ROOT / "CHANGELOG.md",
    *sorted((ROOT / "docs").glob("*.md")),
    *sorted((ROOT / "lit_invert" / "assets").rglob("*.md")),
    *sorted((ROOT / "plugins").glob("*/README.md")),
]


def python_of(page: str) -> list[str]:
    return re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(encoding="utf-8"), re.DOTALL)


def anchors(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        if link.startswith("http"):
            continue
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_no_page_names_a_folder_of_somebodys_machine(page):
    assert not re.findall(r"/(?:home|root|work|tmp|Users)/\w+", page.read_text(encoding="utf-8"))


def test_the_readmes_facade_runs():
    class Model(nn.Module):
        def forward(self, static, dynamic):
            gpp = static[:, None, :1] * dynamic[..., :1]
            return torch.cat([gpp, gpp / 2, gpp / 4, gpp / 4], -1)

    days = 40
    given = {
        "model": Model(),
        "static_scaler": (np.zeros(2), np.ones(2)),
        "s_prior_raw": np.full(2, 0.5),
        "X_dyn": np.linspace(1, 2, days)[:, None],
        "Y_obs": np.linspace(1, 2, days),
        "obs_mask": np.ones(days),
    }
    exec(python_of("README.md")[0], given)
    assert given["s_opt_raw"].shape == (2,)
    assert given["info"]["final_loss"] < given["info"]["loss_history"][0]


def test_the_readmes_plugin_keeps_the_contract():
    plugin: dict[str, object] = {}
    exec(python_of("README.md")[1], plugin)
    (term,) = plugin["register_loss_terms"]()
    check_loss_term(term())
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert f"class_path: {term.__name__}" in readme
    assert f"check_loss_term({term.__name__}())" in readme


def test_the_process_models_page_calls_it_as_it_is():
    model = SimCycle()
    table = load_parameter_table(ROOT / "lit_invert/assets/parameters/simcycle_36.csv").ordered_as(model.statics, "")
    weather = {
        "tmp": 285.0,
        "dswrf": 150.0,
        "tcdc": 50.0,
        "spfh": 0.006,
        "wind": 2.0,
        "aco2": 400.0,
        "day_length": 12.0,
        "sun_noon": 0.7,
    }
    days = [next((value for name, value in weather.items() if driver.startswith(name)), 3e-5) for driver in model.drivers]
    given = {
        "static_physical": table.prior.reshape(1, -1),
        "forcing": torch.tensor(days, dtype=torch.float64).expand(1, 30, -1),
    }
    exec(python_of("docs/process-model.md")[0], given)
    assert given["fluxes"].shape == (1, 30, 4)


def plugins_page(marker: str) -> dict[str, object]:
    (snippet,) = [text for text in python_of("docs/plugins.md") if marker in text]
    names: dict[str, object] = {}
    exec(snippet, names)
    return names


@pytest.mark.parametrize(("cooling", "outcome"), [(0.0, "pass"), (20.0, "fail")])
def test_the_plugins_pages_check_finds_frost(cooling, outcome):
    problem = toy_problem(n_days=30)
    forcing = problem.forcing - torch.tensor([cooling, 0.0, 0.0])
    (check,) = plugins_page("def check_frost")["register_checks"]()
    site = SimpleNamespace(forcing=forcing[0].numpy(), drivers=("tmp_2m", "tmp10_soil", "dswrf"))
    verdict = check.ask(problem.variant(forcing=forcing), site, None)
    assert (verdict.outcome, check.when) == (outcome, "validation")


def test_the_plugins_pages_command_reads_a_config(tmp_path, capsys):
    (command,) = plugins_page("def count_days")["register_commands"]()
    assert command.run(["--config", str(write_toy_fit(tmp_path))], Trust()) == 0
    assert capsys.readouterr().out.split() == ["tower", "68"]
