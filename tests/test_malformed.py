"""Sixty and more ways to get it wrong: each is one line that names what to mend, exit code 2, and nothing written."""

# ruff: noqa: E501 - a case is a line, so that the table can be read down its columns
from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from lit_invert import trust
from lit_invert.cli import main
from lit_invert.plugins import load_plugins
from lit_invert.surrogates.lstm import LSTMSurrogate
from tests.toy_fit import write_toy_fit

Break = Callable[[Path], list[str] | None]


def replace(file: str, old: str, new: str) -> Break:
    def change(folder):
        text = (folder / file).read_text()
        assert old in text
        (folder / file).write_text(text.replace(old, new, 1))

    return change


def config(old: str, new: str) -> Break:
    return replace("config.yaml", old, new)


def add(text: str) -> Break:
    return lambda folder: append(folder / "config.yaml", text)


def append(path: Path, text: str) -> None:
    path.write_text(path.read_text() + text)


def table(old: str, new: str) -> Break:
    return replace("table.csv", old, new)


def write(file: str, content: str | bytes) -> Break:
    def change(folder):
        (folder / file).write_bytes(content if isinstance(content, bytes) else content.encode())

    return change


def remove(file: str) -> Break:
    return lambda folder: (folder / file).unlink()


def options(*argv: str) -> Break:
    return lambda folder: list(argv)


def cell(column: str, row: int, value: object) -> Break:
    """Change one value of the tower file; rows count from the first day."""

    def change(folder):
        lines = (folder / "tower.csv").read_text().splitlines()
        place, cells = lines[0].split(",").index(column), lines[row + 1].split(",")
        cells[place] = str(value)
        lines[row + 1] = ",".join(cells)
        (folder / "tower.csv").write_text("\n".join(lines) + "\n")

    return change


def columns(change_line: Callable[[str], str]) -> Break:
    def change(folder):
        lines = (folder / "tower.csv").read_text().splitlines()
        (folder / "tower.csv").write_text("\n".join(map(change_line, lines)) + "\n")

    return change


def drop_day(row: int) -> Break:
    def change(folder):
        lines = (folder / "tower.csv").read_text().splitlines()
        (folder / "tower.csv").write_text("\n".join(lines[: row + 1] + lines[row + 2 :]) + "\n")

    return change


def spec(**values: object) -> Break:
    def change(folder):
        path = folder / "spec.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **values}))

    return change


def lstm(damage: Callable[[bytes], bytes] = bytes, **values: object) -> Break:
    """Put an LSTM with three statics and drivers in place of the toy, and damage its weights."""

    def change(folder):
        architecture = {"n_static": 3, "n_forcing": 3, "n_output": 4, "hidden_size": 4}
        save_file(LSTMSurrogate(**architecture).state_dict(), folder / "weights.safetensors")
        content = (folder / "weights.safetensors").read_bytes()
        (folder / "weights.safetensors").write_bytes(damage(content))
        spec(**{"loader": "lstm", "weights": "weights.safetensors", "architecture": architecture, **values})(folder)

    return change


def pickled(folder: Path) -> None:
    torch.save({"gain": print}, folder / "weights.pt")
    spec(weights="weights.pt")(folder)


def module_of(folder: Path) -> str:
    """Each case has a module of its own, since a process imports a name once."""
    return f"bad_{folder.parent.name}"


def plugin(code: str) -> Break:
    """Install a plugin called `bad`, distribution bad-dist 1.0, with a module of this code."""

    def change(folder):
        module = module_of(folder)
        site = folder / "site"
        info = site / "bad_dist-1.0.dist-info"
        info.mkdir(parents=True)
        (site / f"{module}.py").write_text(code)
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: bad-dist\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[lit_invert]\nbad = {module}\n")

    return change


def both(*breaks: Break) -> Break:
    def change(folder):
        argv = [break_(folder) or [] for break_ in breaks]
        return [token for tokens in argv for token in tokens]

    return change


TERM = """
import torch
from lit_invert import LossTerm, hookimpl

class {name}(LossTerm):
    name = "bad"

    def forward(self, evaluation):
        {body}

@hookimpl
def register_loss_terms():
    return [{name}]
"""


def term(name: str, body: str) -> Break:
    """Install a plugin with a loss term, and use it."""

    def use(folder):
        append(folder / "config.yaml", f"loss_terms: [{module_of(folder)}.{name}]\n")

    return both(plugin(TERM.format(name=name, body=body)), use)


CASES: list[tuple[str, Break, str]] = [
    # the config as a file
    ("no config", options("--config", "nowhere.yaml"), r"nowhere\.yaml: config file cannot be read"),
    ("empty file", write("config.yaml", ""), r"config\.yaml: expected keys .* found none"),
    ("a list", write("config.yaml", "- name: toy\n"), r"config\.yaml: expected keys .* found a list"),
    ("a word", write("config.yaml", "toy\n"), r"expected keys .* found text"),
    ("only empty keys", write("config.yaml", "data:\n"), r"every key is empty"),
    ("open bracket", add("loss_terms: [\n"), r"config\.yaml:\d+:\d+: is not valid YAML"),
    ("a tab", add("constraints:\n\ttransform: scaled\n"), r"config\.yaml:\d+:1: is not valid YAML .*tab"),
    ("not UTF-8", write("config.yaml", b"name: \xff\xfe\n"), r"is not UTF-8"),
    ("a key twice", add("name: again\n"), r"config\.yaml:\d+: `name` stands here and in line 1"),
    ("a nested key twice", config("lr: 0.05", "lr: 0.05\n  lr: 0.1"), r"`inversion\.lr` stands here and in line"),
    ("python tag", add("resimulate: !!python/name:os.system\n"), r"python/name"),
    # keys
    ("unknown key", add("nme: toy\n"), r"config\.yaml:\d+: unknown key `nme`\. Did you mean `name`\?"),
    ("block of a plugin that is not there", add("kelp: {depth: 3}\n"), r"unknown key `kelp`\..*install or enable that plugin"),
    ("unknown nested key", config("lr: 0.05", "lrr: 0.05"), r"unknown key `inversion\.lrr`\. Did you mean `inversion\.lr`"),
    ("key in the wrong block", add("max_iters: 3\n"), r"unknown key `max_iters`\. Did you mean `inversion\.max_iters`"),
    ("unknown trainer key", config("accelerator: cpu", "acelerator: cpu"), r"Did you mean `trainer\.accelerator`"),
    ("a number for a block", config("quality: {column", "quality: 3\n  drivers: {column"), r"`data\.\w+`: expected"),
    ("a number for inversion", config("inversion:\n  lr: 0.05\n  max_iters: 60", "inversion: 3"), r"`inversion`: expected a block of keys, found 3"),
    ("missing surrogate", config("surrogate:\n  spec: spec.json\n", ""), r"config\.yaml: `surrogate\.spec` is missing"),
    ("missing parameters", config("parameters: table.csv\n", ""), r"`parameters` is missing"),
    ("missing path", config("  path: tower.csv\n", ""), r"`data\.path` is missing"),
    ("missing latitude", config("  latitude: 48.0\n", ""), r"`data\.latitude` is missing"),
    # values
    ("text for a number", config("lr: 0.05", "lr: fast"), r"config\.yaml:\d+: `inversion\.lr`: expected a number, found 'fast'"),
    ("null for a number", config("lr: 0.05", "lr: null"), r"`inversion\.lr` is empty \(null\)"),
    ("fraction for a count", config("max_iters: 60", "max_iters: 1.5"), r"`inversion\.max_iters`: expected a whole number or null, found '1\.5'"),
    ("text for a switch", config("max_iters: 60", "use_mask: maybe"), r"`inversion\.use_mask`: expected true or false, found 'maybe'"),
    ("negative rate", config("lr: 0.05", "lr: -1"), r"config\.yaml:\d+: `inversion\.lr` is -1\.0, expected a positive number"),
    ("no iterations", config("max_iters: 60", "max_iters: 0"), r"`inversion\.max_iters` is 0, expected 1 or more"),
    ("word out of a list", add("checks: maybe\n"), r"`checks`: expected one of 'required', 'warn', 'skip', found 'maybe'"),
    ("unknown split", config("method: dates", "method: random"), r"`data\.split\.method`: expected one of .*'dates'.* found 'random'"),
    ("unknown sign", config("sign: nep", "sign: gpp"), r"`data\.observed\.sign`: expected one of 'nep', 'nee'"),
    ("unknown key of a flux", config("sign: nep", "sgn: nep"), r"`data\.observed` has no key `sgn`\. Did you mean 'sign'"),
    ("unknown unit", config("gC m-2 d-1", "gC m-2 s-1"), r"unit.*gC m-2 s-1"),
    ("unknown flux", config("nep: {column", "nee: {column"), r"nee.*[Kk]nown"),
    ("latitude off the earth", config("latitude: 48.0", "latitude: 480"), r"latitude.*480"),
    ("unknown transform", add("constraints: {transform: sigmoidd}\n"), r"`constraints\.transform`: 'sigmoidd' is not registered\. Did you mean 'sigmoid'"),
    ("unknown solver", config("lr: 0.05", "solver: adm"), r"`inversion\.solver`: 'adm' is not registered\. Did you mean 'adam"),
    ("unknown process model", add("resimulate: simcicle\n"), r"`resimulate`: 'simcicle' is not registered\. Did you mean 'simcycle'"),
    ("process model that does not fit", add("resimulate: simcycle\n"), r"`resimulate`: 'simcycle' needs|simcycle needs static parameter"),
    ("unknown target", config("lr: 0.05", "target_variable: nep_"), r"`inversion\.target_variable`: 'nep_' is not an output .* Did you mean 'nep'"),
    ("two numbers of iterations", config("accelerator: cpu", "max_steps: 7"), r"`inversion\.max_iters` is 60 but `trainer\.max_steps` is 7"),
    ("unknown accelerator", config("accelerator: cpu", "accelerator: abacus"), r"`trainer`: Lightning refuses"),
    ("a bar that is switched off", config("enable_progress_bar: false", "enable_progress_bar: false\n  callbacks: [RichProgressBar]"), r"`trainer`: Lightning refuses .*RichProgressBar"),
    ("run name with slash", config("name: toy", "name: a/b"), r"run name 'a/b'"),
    ("no such checkpoint", options("--ckpt_path", "last"), r"`--ckpt_path last`: no run"),
    # classes
    ("unknown term", add("loss_terms: [Boundry]\n"), r"`loss_terms`: 'Boundry' is not a known class\. Did you mean 'Boundary'"),
    ("missing key of a block", add("resimulate: {command: [echo]}\n"), r"config\.yaml:\d+: `resimulate` needs `template`, `outputs`\."),
    ("unknown key of a block", add("resimulate: {command: [echo], templat: a}\n"), r"`resimulate` has no key `templat`\. Did you mean 'template'"),
    ("unknown argument of a term", add("loss_terms: [{class_path: Boundary, init_args: {wait: 1}}]\n"), r"Boundary has no argument 'wait'"),
    ("wrong argument of a term", add("loss_terms: [{class_path: Boundary, init_args: {weight: big}}]\n"), r"`loss_terms\.weight`: expected a number, found 'big'"),
    ("two terms of one name", add("loss_terms: [Boundary, Boundary]\n"), r"`loss_terms` has 2 terms named 'boundary'"),
    ("a term that is none", add("loss_terms: [torch.nn.Linear]\n"), r"expected a LossTerm, found 'torch\.nn\.Linear'"),
    ("misspelt class_path", add("loss_terms: [{clas_path: Boundary}]\n"), r"concrete LossTerm by `class_path`"),
    ("a term that does not exist", add("loss_terms: [lit_invert.losses.Nothing]\n"), r"'lit_invert\.losses\.Nothing' cannot be imported"),
    ("os.system as a term", add("loss_terms: [os.system]\n"), r"importing 'os\.system' is not allowed"),
    ("torch.hub as a callback", add("  callbacks: [torch.hub.load]\n"), r"'torch\.hub\.load' is private or can run other code"),
    ("unknown callback", add("  callbacks: [EarlyStoping]\n"), r"'EarlyStoping' is not a known class\. Did you mean 'EarlyStopping'"),
    ("callback without an argument", add("  callbacks: [{class_path: EarlyStopping}]\n"), r"EarlyStopping needs `monitor`"),
    ("callback with a bad argument", add("  callbacks: [{class_path: EarlyStopping, init_args: {monitor: a, mode: up}}]\n"), r"cannot be built \(MisconfigurationException: `mode`"),
    ("unknown logger", config("logger: false", "logger: TensorBordLogger"), r"Did you mean 'TensorBoardLogger'"),
    # options
    ("unknown option", options("--inversion.lrr", "3"), r"command line: unknown option `--inversion\.lrr`\. Did you mean `--inversion\.lr`"),
    ("wrong type of an option", options("--inversion.lr", "fast"), r"command line: `inversion\.lr`: expected a number, found 'fast'"),
    ("option without a value", options("--name"), r"command line: `--name`: expected one argument"),
    ("stray word", options("fast"), r"command line: did not expect 'fast'"),
    ("import by option", options("--trainer.callbacks", "evil.Thing"), r"command line: `trainer\.callbacks`: importing 'evil\.Thing' is not allowed"),
    ("allow-import without a package", options("--allow-import"), r"--allow-import: expected one argument"),
    ("allow what is closed", options("--allow-import", "torch.hub"), r"`--allow-import torch\.hub`"),
    # the parameter table
    ("no table", remove("table.csv"), r"table\.csv"),
    ("empty table", write("table.csv", ""), r"table\.csv"),
    ("missing column", table("name,", "id,"), r"table\.csv.*'name'"),
    ("text for a prior", table("s1,-,first,2.0", "s1,-,first,two"), r"table\.csv.*two"),
    ("prior out of bounds", table("s2,-,second,2.0", "s2,-,second,9.0"), r"s2.*9"),
    ("min above max", table("s3,-,third,2.0,0.5,0.5,3.5", "s3,-,third,2.0,0.5,4.5,3.5"), r"s3"),
    ("a parameter twice", table("s2,", "s1,"), r"s1"),
    ("a parameter too few", table("s3,-,third,2.0,0.5,0.5,3.5,lin,false\n", ""), r"s3"),
    ("unknown scale", table("lin", "logarithmic"), r"logarithmic"),
    ("bound that names nobody", table("0.5,3.5,lin", "0.5,s9,lin"), r"s9"),
    # the tower file
    ("no tower file", remove("tower.csv"), r"tower\.csv"),
    ("empty tower file", write("tower.csv", ""), r"tower\.csv"),
    ("semicolons", columns(lambda line: line.replace(",", ";")), r"separated by ';'"),
    ("no date", columns(lambda line: line.partition(",")[2]), r"date"),
    ("no NEP column", columns(lambda line: line.replace("nep", "flux")), r"nep"),
    ("text in NEP", cell("nep", 5, "high"), r"row 7.*nep.*high|nep.*row 7"),
    ("infinite NEP", cell("nep", 5, "inf"), r"row 7"),
    ("absurd NEP", cell("nep", 5, "4000"), r"row 7.*unit"),
    ("gap in a driver", cell("dswrf", 9, ""), r"row 11.*dswrf|dswrf.*row 11"),
    ("Celsius for kelvin", columns(lambda line: re.sub(r"^(2016[^,]*),[^,]*", r"\1,12.5", line)), r"tmp_2m.*(Celsius|degC)"),
    ("no driver", columns(lambda line: line.replace("dswrf", "light")), r"dswrf"),
    ("a day is missing", drop_day(30), r"2016-01-31"),
    ("a day twice", cell("date", 30, "2016-01-30"), r"rows 31 and 32"),
    ("not a date", cell("date", 30, "yesterday"), r"row 32.*yesterday"),
    ("no quality column", config("n_good", "n_best"), r"n_best"),
    ("no good day", config("minimum: 24", "minimum: 49"), r"mask|observed|quality"),
    ("no fit day", both(config("03-01, 2016-03-20", "01-01, 2016-03-31"), config("04-20", "04-30")), r"no observed day is left for `fit`"),
    ("no test day", config("2016-04-01, 2016-04-20", "2019-04-01, 2019-04-20"), r"test"),
    # the surrogate
    ("no spec", remove("spec.json"), r"spec\.json: surrogate spec not found"),
    ("spec that is no JSON", write("spec.json", "name: toy"), r"spec\.json: is not a JSON file"),
    ("unknown key of the spec", spec(warmup=3), r"unknown key 'warmup'\. Did you mean 'warmup_days'"),
    ("spec without outputs", spec(outputs=[]), r"'outputs' must be a list"),
    ("unknown loader", spec(loader="lstmm"), r"loader 'lstmm' is unknown\. Did you mean 'lstm'"),
    ("class outside the policy", spec(architecture={"class_path": "os.path.join"}), r"importing 'os\.path\.join' is not allowed"),
    ("class that is no network", spec(architecture={"class_path": "lit_invert.trust.Trust"}), r"is not a subclass of torch\.nn"),
    ("no weights", spec(weights="weights.safetensors"), r"weights 'weights\.safetensors' not found beside the spec"),
    ("weights outside the folder", spec(weights="../weights.safetensors"), r"leaves the spec's folder"),
    ("pickle with code", pickled, r"weights\.pt: cannot be read as tensors"),
    ("truncated weights", lstm(lambda content: content[:-9]), r"weights\.safetensors: cannot be read as tensors"),
    ("wrong hash", lstm(sha256="0" * 64), r"sha256 is [0-9a-f]{64}, but spec 'toy' expects 000"),
    ("wrong width", lstm(architecture={"n_static": 3, "n_forcing": 3, "n_output": 4, "hidden_size": 8}), r"tensor '.*' has shape"),
    ("TorchScript without trust", both(write("net.pt", b"PK"), spec(loader="torchscript", weights="net.pt")), r"add `--trust .*net\.pt`"),
    ("static that the table lacks", spec(statics=[{"name": "s1"}, {"name": "s2"}, {"name": "s4"}]), r"s4"),
    # plugins
    ("plugin that cannot be imported", plugin("import nothing_of_that_name"), r"plugin 'bad' \(bad-dist 1\.0\) failed in import.*nothing_of_that_name"),
    ("misspelt hook", plugin("from lit_invert import hookimpl\n@hookimpl\ndef register_los_terms(): return []"), r"'bad'.*Did you mean 'register_loss_terms'"),
    ("hook that raises", plugin("from lit_invert import hookimpl\n@hookimpl\ndef register_checks(): return 1 / 0"), r"'bad'.*register_checks.*ZeroDivisionError"),
    ("hook that returns no list", plugin("from lit_invert import hookimpl\n@hookimpl\ndef register_checks(): return None"), r"'bad'.*expected a list"),
    ("term that raises", term("Raises", "raise KeyError('boom')"), r"'bad' \(bad-dist 1\.0\).*KeyError.*boom"),
    ("term that is NaN", term("IsNaN", "return evaluation.physical.sum(-1) * float('nan')"), r"'bad' \(bad-dist 1\.0\).*nan"),
    ("term of a wrong shape", term("IsWide", "return evaluation.physical"), r"'bad' \(bad-dist 1\.0\).*shape"),
]  # fmt: skip


@pytest.fixture(scope="session")
def good(tmp_path_factory):
    folder = tmp_path_factory.mktemp("good")
    write_toy_fit(folder)
    return folder


@pytest.fixture
def folder(good, tmp_path, monkeypatch):
    copy = tmp_path / "toy"
    shutil.copytree(good, copy)
    monkeypatch.syspath_prepend(copy / "site")
    yield copy
    forget_plugins()


def forget_plugins():
    load_plugins.cache_clear()
    trust.plugin_packages.cache_clear()


def run(folder: Path, break_: Break) -> int:
    argv = break_(folder) or []
    forget_plugins()
    return main(["fit", "--config", str(folder / "config.yaml"), *argv])


def is_one_line(error: str, expected: str) -> bool:
    return error.startswith("lit-invert: ") and error.count("\n") == 1 and re.search(expected, error) is not None


def test_there_are_sixty_and_each_has_a_name():
    assert len({name for name, _, _ in CASES}) == len(CASES) >= 60


@pytest.mark.parametrize(("break_", "expected"), [pytest.param(b, e, id=name) for name, b, e in CASES])
def test_malformed_input_is_one_line(folder, capsys, break_, expected):
    code = run(folder, break_)
    output, error = capsys.readouterr()
    assert is_one_line(error, expected), error
    assert (code, output) == (2, "")
    assert not (folder / "logs").exists()


@pytest.mark.parametrize("name", ["text for a number", "truncated weights", "term that is NaN"])
def test_it_is_the_same_in_a_process_of_its_own(folder, name):
    break_, expected = next((b, e) for n, b, e in CASES if n == name)
    break_(folder)
    code = f"import sys; sys.path.insert(0, {str(folder / 'site')!r}); from lit_invert.cli import main; sys.exit(main())"
    argv = [sys.executable, "-c", code, "fit", "--config", str(folder / "config.yaml")]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=120, check=False)
    assert is_one_line(done.stderr, expected), done.stderr
    assert (done.returncode, done.stdout) == (2, "")
    assert not (folder / "logs").exists()


def test_a_config_never_imports_a_module_that_it_may_not(folder, monkeypatch):
    """Not even its first line runs: the name is judged before the import."""
    package = folder / "elsewhere"
    package.mkdir()
    (package / "sideeffect.py").write_text(f"open({str(folder / 'marker')!r}, 'w').close()\nclass Term: pass\n")
    monkeypatch.syspath_prepend(package)
    for text in ("loss_terms: [sideeffect.Term]\n", "  callbacks: [{class_path: sideeffect.Term}]\n"):
        shutil.copy(folder / "config.yaml", folder / "other.yaml")
        append(folder / "other.yaml", text)
        assert main(["fit", "--config", str(folder / "other.yaml")]) == 2
    assert main(["fit", "--config", str(folder / "config.yaml"), "--logger", "sideeffect.Term"]) == 2
    assert not (folder / "marker").exists()
    assert "sideeffect" not in sys.modules


def test_the_unbroken_setup_runs(folder, capsys):
    """Without this, every case above could fail for one and the same reason."""
    assert main(["fit", "--config", str(folder / "config.yaml"), "--inversion.max_iters", "20"]) == 0
    assert capsys.readouterr().err == ""
    assert np.isfinite(json.loads((folder / "logs/toy/version_0/metrics.json").read_text())["loss"]["optimum"]["loss/total"])
