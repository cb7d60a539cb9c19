"""Hooks cannot rot: each is documented with its exact arguments, each has a test, and the example of the docs runs."""

from __future__ import annotations

import inspect
import re
import sys
import tomllib
from pathlib import Path

import pytest

from lit_invert import hookspecs
from lit_invert.plugins import HOOKS, build_registry, find_plugins

ROOT = Path(__file__).parents[1]
DOCS = (ROOT / "docs" / "plugins.md").read_text(encoding="utf-8")
EXAMPLES = dict(re.findall(r"<!-- example: (\S+) -->\n```\w+\n(.*?)```", DOCS, flags=re.DOTALL))


@pytest.mark.parametrize("hook", HOOKS)
def test_hook_is_documented_with_its_arguments(hook):
    arguments = ", ".join(inspect.signature(getattr(hookspecs, hook)).parameters)
    assert f"| `{hook}({arguments})` |" in DOCS


@pytest.mark.parametrize("hook", HOOKS)
def test_hook_says_when_and_what(hook):
    assert len(inspect.getdoc(getattr(hookspecs, hook))) > 40


def test_docs_name_no_hook_that_is_not_there():
    assert set(re.findall(r"^\| `(\w+)\(", DOCS, flags=re.MULTILINE)) == set(HOOKS)


@pytest.mark.parametrize("hook", HOOKS)
def test_hook_has_a_test(hook):
    assert f"def {hook}(" in (ROOT / "tests" / "test_plugins.py").read_text(encoding="utf-8")


def test_the_example_is_installed_found_and_kept_to_the_contract(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delenv("LIT_INVERT_DISABLE_PLUGINS", raising=False)
    for name, text in EXAMPLES.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    project = tomllib.loads(EXAMPLES["pyproject.toml"])["project"]
    info = tmp_path / "lit_invert_smooth-0.1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n")
    ((name, module),) = project["entry-points"]["lit_invert"].items()
    (info / "entry_points.txt").write_text(f"[lit_invert_docs]\n{name} = {module}\n")

    registry = build_registry(find_plugins("lit_invert_docs"))
    assert registry.versions()["smooth"] == "lit-invert-smooth 0.1.0"
    assert "smoothness" in registry.loss_terms
    namespace: dict[str, object] = {}
    exec(EXAMPLES["test_smooth.py"], namespace)
    namespace["test_contract"]()
    sys.modules.pop("lit_invert_smooth")


def test_the_example_has_20_lines():
    assert len(EXAMPLES["lit_invert_smooth.py"].splitlines()) <= 20
