"""A program as a process model: real processes that end well, fail, hang, write junk, or may not be run at all."""

from __future__ import annotations

import os
import time

import numpy as np
import pytest
import torch

from lit_invert.errors import ConfigError, ProcessModelError, TrustError
from lit_invert.external import ExternalModel, OutputColumn
from lit_invert.external.program import run_program
from lit_invert.process import SimCycle
from lit_invert.resimulation import resimulate
from lit_invert.trust import Trust
from tests.external.programs import DAYS, make_settings, make_site, write_program
from tests.tower import READERS

VALUES = torch.tensor([[0.1, 2.0], [1 / 3, -1.0]], dtype=torch.float64)


def make_model(folder, *mode, site=None, **changes):
    settings = make_settings(folder, *mode, **changes)
    return ExternalModel(settings, ["a", "b"], site or make_site(), READERS, Trust(frozenset({folder / "model.py"})))


def run(folder, *mode, **changes):
    model = make_model(folder, *mode, **changes)
    return model(VALUES, torch.as_tensor(model.site.forcing)[None])


def test_fluxes_come_back_in_order_sign_and_unit_to_the_last_digit(tmp_path):
    """NEE in kgC ha-1 d-1: a tenth, turned round; every set of parameters has a run of its own."""
    light = make_site().forcing[:, 1]
    found = run(tmp_path).numpy()
    for member, (a, b) in enumerate(VALUES.tolist()):
        assert found[member, :, 0].tolist() == (a * light).tolist()
        np.testing.assert_allclose(found[member, :, 1], 0.1 * (a * light - b), rtol=1e-15)


def test_the_shipped_model_as_a_program_gives_what_it_gives_in_python(tmp_path):
    """Through the surrogate's side of the matter: names in another order, and every digit kept by the files between."""
    script = """
import sys
import pandas as pd, torch
from lit_invert.process import SimCycle
model, (parameters, forcing, output) = SimCycle(), sys.argv[1:4]
values = pd.read_csv(parameters).set_index("name")["value"]
weather = pd.read_csv(forcing)
fluxes = model(*(torch.tensor(t[[*names]].to_numpy())[None] for t, names in ((values, model.statics), (weather, model.drivers))))
table = pd.DataFrame(fluxes[0].numpy(), columns=model.outputs)
table.insert(0, "date", weather["date"])
table.to_csv(output, index=False)
"""
    write_program(tmp_path, script, "simcycle")
    names = list(reversed(SimCycle.statics))
    (tmp_path / "parameters.csv").write_text("name,value\n" + "".join(f"{name},{{{name}}}\n" for name in names))
    random = np.random.default_rng(0)
    values = torch.tensor(random.uniform(0.5, 1.5, 36)) * torch.tensor([20.0 if n in ("tmax", "topt") else 1.0 for n in names])
    forcing = random.uniform(0.5, 1.0, (4, 12)) * np.array([283, 283, 283, 283, 150, 50, 3e-5, 6e-3, 3, 400, 12, 0.9])
    settings = make_settings(
        tmp_path,
        command=[str(tmp_path / "simcycle"), "{parameters}", "{forcing}", "{output}"],
        template=str(tmp_path / "parameters.csv"),
        outputs={name: OutputColumn(name) for name in ("rh", "nep", "npp", "gpp")},
        timeout=60.0,
    )
    site = make_site(4, SimCycle.drivers, forcing)
    model = ExternalModel(settings, names, site, READERS, Trust(frozenset({tmp_path / "simcycle"})))
    arguments = (names, values, site.drivers, forcing, ("gpp", "npp", "nep", "rh"))
    np.testing.assert_allclose(resimulate(model, *arguments), resimulate(SimCycle(), *arguments), rtol=1e-12)


@pytest.mark.parametrize(
    ("mode", "message"),
    [
        ("fail", r"model\.py: ended with exit code 1, expected 0\. It said: reading the soil failed in line 7"),
        ("nothing", r"model\.py: ended well but wrote no output\.csv"),
        ("short", "its output has 4 days, 2020-02-27 to 2020-03-01, expected the 5 days 2020-02-27 to 2020-03-02"),
        ("late", "its output has 5 days, 2024-02-27"),
        ("nan", "'NEE' of its output has no value on 1 days, first on 2020-02-29"),
        ("infinite", r"its output cannot be read: output\.csv: row 4 .*expected a finite number, found inf"),
        ("names", "its output cannot be read: output.csv: has no column 'NEE', .* Known: GPP, date, nee"),
        ("junk", r"its output cannot be read: output\.csv: "),
    ],
)
def test_every_failure_is_one_line(tmp_path, mode, message):
    with pytest.raises(ProcessModelError, match=message) as caught:
        run(tmp_path, mode)
    assert "\n" not in str(caught.value)


def test_only_the_end_of_what_a_program_said_is_read_and_told(tmp_path):
    script = "import sys\nsys.stderr.write('\u00e9 ' * 100000 + 'the soil froze')\nsys.exit(3)\n"
    write_program(tmp_path, script, "loud")
    with pytest.raises(ProcessModelError) as caught:
        run_program([str(tmp_path / "loud")], tmp_path, 20.0)
    told = ("\u00e9 " * 100000 + "the soil froze")[-300:]
    assert str(caught.value) == f"loud: ended with exit code 3, expected 0. It said: ...{told}"


def test_the_exit_code_of_a_program_that_was_killed_is_told(tmp_path):
    write_program(tmp_path, "import os, signal\nos.kill(os.getpid(), signal.SIGTERM)\n", "weary")
    with pytest.raises(ProcessModelError, match="weary: ended with exit code -15, expected 0"):
        run_program([str(tmp_path / "weary")], tmp_path, 20.0)


def test_a_program_that_hangs_is_stopped_with_all_it_started(tmp_path):
    trace = tmp_path / "trace"
    start = time.monotonic()
    with pytest.raises(ProcessModelError, match=r"model\.py: was stopped after 0\.5 s\. Raise `resimulate\.timeout`"):
        run(tmp_path, "sleep", str(trace), timeout=0.5)
    assert time.monotonic() - start < 5.0
    time.sleep(max(0.0, start + 2.0 - time.monotonic()))  # its child would have left a trace after a second and a half
    assert not trace.exists()


def test_what_a_program_leaves_running_is_stopped(tmp_path):
    run(tmp_path, "daemon", str(tmp_path / "trace"))
    time.sleep(1.5)
    assert not (tmp_path / "trace").exists()


def test_the_program_works_in_a_folder_of_its_own_that_is_gone_afterwards(tmp_path, monkeypatch):
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    assert (run(tmp_path, "where")[0, :, 0] == 1.0).all()
    assert os.listdir(tmp_path / "temporary") == []


def test_no_shell_sees_the_command(tmp_path):
    found = run(tmp_path, f"$(touch {tmp_path}/shell); touch {tmp_path}/shell")
    assert found.shape == (2, DAYS, 2)
    assert not (tmp_path / "shell").exists()


def test_a_program_that_was_not_allowed_is_refused_and_not_run(tmp_path):
    settings = make_settings(tmp_path)
    with pytest.raises(TrustError, match=r"running '.*model\.py' executes code that the config names.* add `--trust .*model\.py`"):
        ExternalModel(settings, ["a", "b"], make_site(), READERS)


def test_a_name_on_path_must_be_trusted_by_its_file(tmp_path):
    settings = make_settings(tmp_path, command=["sh", "-c", "true"])
    with pytest.raises(TrustError, match=r"add `--trust .*/sh`"):
        ExternalModel(settings, ["a", "b"], make_site(), READERS, Trust(frozenset({tmp_path / "sh"})))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"command": ["./no_such_program"]}, r"program '\./no_such_program' is not there"),
        ({"template": "no_such.txt"}, r"no_such\.txt: template cannot be read"),
        ({"command": ["MODEL", "{parameter}"]}, r"`resimulate\.command`:1: 'parameter' is not known\. Did you mean 'parameters'"),
    ],
)
def test_what_is_missing_is_found_before_anything_runs(tmp_path, changes, message):
    changes = {key: [str(tmp_path / "model.py") if v == "MODEL" else v for v in value] if key == "command" else value
               for key, value in changes.items()}  # fmt: skip
    with pytest.raises(ConfigError, match=message):
        make_model(tmp_path, **changes)


def test_an_unknown_placeholder_of_the_template_is_found_before_anything_runs(tmp_path):
    settings = make_settings(tmp_path)
    (tmp_path / "parameters.txt").write_text("a = {a}\nb = {bb}\n")
    with pytest.raises(ConfigError, match=r"parameters\.txt:2: 'bb' is not known"):
        ExternalModel(settings, ["a", "b"], make_site(), READERS, Trust(frozenset({tmp_path / "model.py"})))


def test_a_file_without_the_right_to_run_is_named(tmp_path):
    settings = make_settings(tmp_path)
    (tmp_path / "model.py").chmod(0o644)
    with pytest.raises(ConfigError, match=r"is not executable \(chmod \+x\)"):
        ExternalModel(settings, ["a", "b"], make_site(), READERS)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"command": []}, "`command` or `outputs` is empty"),
        ({"outputs": {}}, "`command` or `outputs` is empty"),
        ({"outputs": {"nep": OutputColumn("NEP", unit="gC")}}, r"`resimulate\.outputs\.nep\.unit`: 'gC' is not a carbon flux unit"),
        ({"timeout": 0.0}, "expected a positive number of seconds"),
        ({"timeout": float("nan")}, "expected a positive number of seconds"),
    ],
)
def test_settings_that_make_no_sense_are_refused(tmp_path, changes, message):
    with pytest.raises(ConfigError, match=message):
        make_model(tmp_path, **changes)
