from __future__ import annotations

import sys

import pytest

from lit_invert import doctor
from lit_invert.doctor import Finding, diagnose, is_within, parse_requirement


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Make a distribution that can be found, and imported in other processes."""

    def make(name, version, code, entry_points=""):
        info = tmp_path / f"{name}-{version}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        (info / "entry_points.txt").write_text(entry_points)
        (tmp_path / f"{name}.py").write_text(code)
        monkeypatch.syspath_prepend(tmp_path)
        monkeypatch.setenv("PYTHONPATH", str(tmp_path))

    return make


def test_this_environment_is_healthy():
    findings = diagnose()
    assert [finding for finding in findings if not finding.is_good] == []
    assert {"python", "torch", "lightning", "torchvision", "GPU", "plugins"} <= {finding.what for finding in findings}


def test_limits_of_versions():
    assert is_within("2.6.6", [">=2.6.6", "<2.7"])
    assert not is_within("2.6.5", [">=2.6.6", "<2.7"])
    assert not is_within("2.7.0", [">=2.6.6", "<2.7"])
    assert is_within("2.13.0+cpu", [">=2.10"])
    assert not is_within("2.9.1", [">=2.10"])


def test_a_package_that_is_missing_or_old_says_how_to_mend_it():
    assert doctor._package("nothing-of-that-name>=1.0") == Finding(
        "nothing-of-that-name", "not installed", False, 'pip install "nothing-of-that-name>=1.0"'
    )
    finding = doctor._package("rich>=999")
    assert (finding.is_good, finding.remedy) == (False, 'pip install "rich>=999"')
    assert parse_requirement("rich>=13") == ("rich", [">=13"])


def test_a_broken_torchvision_is_found_without_being_imported_here(install):
    install("torchvision", "0.28.0", "raise RuntimeError('operator torchvision::nms does not exist')")
    finding = doctor._torchvision()
    assert not finding.is_good
    assert "0.28.0, broken: RuntimeError: operator torchvision::nms does not exist" in finding.found
    assert finding.remedy.startswith("pip uninstall torchvision")
    assert "torchvision" not in sys.modules


def test_a_broken_plugin_is_named(install):
    install("brokenplugin", "1.0", "import nothing_of_that_name", "[lit_invert]\nbroken = brokenplugin\n")
    finding = doctor._plugins()
    assert not finding.is_good
    assert "'broken' (brokenplugin 1.0)" in finding.found


def test_a_process_that_dies_is_a_finding():
    assert doctor._run("import os; os._exit(3)") == ("", "exit code 3")
    assert doctor._run("print('a'); print('b')") == ("b", "")


def test_a_machine_without_a_compiler_is_no_fault(monkeypatch, tmp_path):
    assert doctor._kernel().found.startswith(("native", "none"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("CC", "false")
    without = doctor._kernel()
    assert without.is_good
    assert without.found == "none, fits take longer: false could not build the kernel: no message"
