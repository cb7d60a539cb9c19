from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml
from lightning.pytorch.callbacks import EarlyStopping
from lightning.pytorch.loggers import CSVLogger

from lit_invert.config import parse_fit, parse_train
from lit_invert.config.files import read_config_file, relate_paths, resolve_paths
from lit_invert.config.keys import suggest_key
from lit_invert.errors import ConfigError, TrustError
from lit_invert.extensions import ConfigSection
from lit_invert.guards import PluginInfo
from lit_invert.hookspecs import hookimpl
from lit_invert.losses import Boundary, Misfit
from lit_invert.plugins import build_registry
from lit_invert.settings import InversionSettings
from lit_invert.trust import Trust

CONFIGS = Path(__file__).parents[1] / "configs"
BLOCK = """\
surrogate: {spec: spec.json}
parameters: table.csv
data: {path: tower.csv, latitude: 48.67}
"""
USERS_BLOCK = """\
inversion:
  lr: 0.02
  max_iters: 500
  lambda_prior: 1.0
  use_multi_output_loss: false
  target_variable: "nep"
  use_mask: true
  clip_raw_params:
    enabled: true
"""


@pytest.fixture(scope="module")
def registry():
    return build_registry()


@pytest.fixture
def parse(tmp_path, registry):
    def parse_text(text, *argv, **kwargs):
        path = tmp_path / "config.yaml"
        path.write_text(BLOCK + text)
        return parse_fit(["--config", str(path), *argv], kwargs.pop("registry", registry), **kwargs)

    return parse_text


def test_the_users_block_works_as_written(parse):
    assert parse(USERS_BLOCK).inversion == InversionSettings(max_iters=500)


def test_everything_but_three_blocks_has_a_default(parse):
    config = parse("")
    assert (config.name, config.seed_everything, list(config.loss_terms), config.logger) == ("fit", 0, [], None)


def test_paths_in_a_file_are_relative_to_it(parse, tmp_path):
    config = parse("logs: ../runs\n")
    assert config.surrogate.spec == str(tmp_path / "spec.json")
    assert config.parameters == str(tmp_path / "table.csv")
    assert config.data.path == str(tmp_path / "tower.csv")
    assert Path(config.logs).resolve() == (tmp_path.parent / "runs").resolve()


def test_paths_on_the_command_line_are_relative_to_the_working_folder(parse, tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    assert parse("", "--data.path", "other.csv").data.path == str(tmp_path / "here" / "other.csv")


def test_words_for_checkpoints_are_no_paths(parse):
    assert parse("ckpt_path: last\n").ckpt_path == "last"


def test_options_win_over_files_and_later_files_over_earlier_ones(parse, tmp_path):
    (tmp_path / "later.yaml").write_text("inversion: {lr: 0.2, max_iters: 7}\n")
    config = parse(
        "inversion: {lr: 0.1, lambda_prior: 3}\n", "--config", str(tmp_path / "later.yaml"), "--inversion.max_iters", "9"
    )
    assert (config.inversion.lr, config.inversion.lambda_prior, config.inversion.max_iters) == (0.2, 3.0, 9)


def test_numbers_in_scientific_notation_are_numbers(parse):
    assert parse("inversion: {lr: 1e-3}\n").inversion.lr == 0.001


def test_terms_by_short_name_and_by_class_path(parse):
    config = parse("loss_terms:\n- Boundary\n- {class_path: lit_invert.losses.Misfit, init_args: {target: gpp, weight: 0.5}}\n")
    boundary, misfit = config.loss_terms
    assert isinstance(boundary, Boundary)
    assert isinstance(misfit, Misfit)
    assert (misfit.target, misfit.weight) == ("gpp", 0.5)


def test_trainer_takes_lightnings_own_arguments_and_classes(parse):
    callbacks = "[{class_path: EarlyStopping, init_args: {monitor: loss/total, patience: 4}}]"
    config = parse(f"trainer: {{max_epochs: 3, precision: 64-true, callbacks: {callbacks}}}\n")
    assert (config.trainer["max_epochs"], config.trainer["precision"]) == (3, "64-true")
    (stopping,) = config.trainer["callbacks"]
    assert isinstance(stopping, EarlyStopping)
    assert stopping.patience == 4


def test_logger_by_class_path_or_none_at_all(parse, tmp_path):
    assert parse("logger: false\n").logger is False
    assert isinstance(parse(f"logger: {{class_path: CSVLogger, init_args: {{save_dir: {tmp_path}}}}}\n").logger, CSVLogger)


def test_saved_text_parses_to_the_same_config_from_its_own_folder(parse, tmp_path, registry):
    term = "loss_terms: [{class_path: Boundary, init_args: {weight: 2.0}}]\n"
    text = f"{USERS_BLOCK}{term}logs: logs\nname: hes\ntrainer: {{max_time: 00:01:00:00}}\n"
    first = parse(text)
    run = tmp_path / "logs" / "hes" / "version_3"
    run.mkdir(parents=True)
    (run / "config.yaml").write_text(first.text)
    again = parse_fit(["--config", str(run / "config.yaml")], registry)
    assert again.text == first.text
    assert str(tmp_path) not in first.text
    assert (Path(again.logs).resolve(), Path(again.data.path).resolve()) == (tmp_path / "logs", tmp_path / "tower.csv")
    assert (again.inversion, again.trainer, again.loss_terms[0].weight) == (first.inversion, first.trainer, 2.0)


def test_printed_config_parses_from_anywhere(parse, tmp_path, registry, capsys):
    with pytest.raises(SystemExit) as exit_:
        parse(USERS_BLOCK, "--print_config")
    assert exit_.value.code in (0, None)
    (tmp_path / "elsewhere").mkdir()
    printed = tmp_path / "elsewhere" / "config.yaml"
    printed.write_text(capsys.readouterr().out)
    assert parse_fit(["--config", str(printed)], registry).data.path == str(tmp_path / "tower.csv")


def test_an_allowed_package_can_be_named(parse, tmp_path, monkeypatch):
    (tmp_path / "my_terms.py").write_text(
        "from lit_invert.losses import LossTerm\n"
        "class Mine(LossTerm):\n    name = 'mine'\n    def forward(self, evaluation):\n        return evaluation.physical.sum(-1)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(TrustError, match="add `--allow-import my_terms`"):
        parse("loss_terms: [my_terms.Mine]\n")
    (term,) = parse("loss_terms: [my_terms.Mine]\n", trust=Trust(imports=frozenset({"my_terms"}))).loss_terms
    assert term.name == "mine"


@dataclass
class SiteSettings:
    depth: float = 1.5


class Plugin:
    key = "soil"

    @hookimpl
    def register_config_sections(self):
        return [ConfigSection(self.key, SiteSettings)]


def test_a_plugins_block_that_nobody_touched_is_not_stored(parse):
    """A stored config runs where the plugin is no more, unless the user's own words name it."""
    extended = build_registry([PluginInfo("soil", Plugin())])
    default = SiteSettings().depth
    assert "soil" not in parse("", registry=extended).values
    assert "soil" not in parse(f"soil: {{depth: {default}}}\n", registry=extended).text
    assert yaml.safe_load(parse("", "--soil.depth", "7.5", registry=extended).text)["soil"] == {"depth": 7.5}


def test_a_plugins_section_is_a_block_with_types(parse):
    extended = build_registry([PluginInfo("soil", Plugin())])
    assert parse("soil: {depth: 3}\n", registry=extended).sections == {"soil": SiteSettings(3.0)}
    assert parse("", registry=extended).sections == {"soil": SiteSettings()}
    with pytest.raises(ConfigError, match=r"config\.yaml:4: unknown key `soil\.dept`\. Did you mean `soil\.depth`"):
        parse("soil: {dept: 3}\n", registry=extended)


def test_a_plugins_section_may_not_take_a_key_that_is_ours(parse):
    plugin = Plugin()
    plugin.key = "data"
    with pytest.raises(ConfigError, match="config section `data`"):
        parse("", registry=build_registry([PluginInfo("soil", plugin)]))


def test_a_nested_list_of_blocks_keeps_its_lines(tmp_path):
    path = tmp_path / "c.yaml"
    path.write_text("a: 1\nb:\n  c:\n    d: 2\n")
    file = read_config_file(path)
    assert file.place("b.c.d") == f"{path}:4"
    assert file.place("b.c.unknown") == f"{path}:3"
    assert file.place("nothing") == str(path)


def test_resolving_and_relating_paths_are_inverse(tmp_path):
    values = {"data": {"path": "a/b.csv", "latitude": 3}, "ensemble": {"sites": [{"path": "../c.csv"}]}, "ckpt_path": "best"}
    resolved = resolve_paths(values, tmp_path / "configs")
    assert resolved["data"] == {"path": str(tmp_path / "configs/a/b.csv"), "latitude": 3}
    assert relate_paths(resolved, tmp_path / "configs") == values


def test_the_nearest_key_may_stand_in_another_block():
    known = ["inversion.lr", "inversion.max_iters", "trainer.max_steps"]
    assert suggest_key("inversion.max_iter", known) == " Did you mean `inversion.max_iters`?"
    assert suggest_key("inversion.max_steps", known) == " Did you mean `trainer.max_steps`?"


@pytest.mark.parametrize("name", ["fr_hes", "us_ar1"])
def test_shipped_fit_configs_parse_and_name_files_that_exist(name, registry):
    config = parse_fit(["--config", str(CONFIGS / f"{name}.yaml")], registry)
    assert Path(config.parameters).is_file()
    assert Path(config.data.path).is_file()


@pytest.mark.parametrize("name", ["train_tiny", "train_simcycle"])
def test_shipped_training_configs_parse_and_name_files_that_exist(name):
    settings = parse_train(["--config", str(CONFIGS / f"{name}.yaml")])
    assert Path(settings.ensemble.parameters).is_file()
    assert all(Path(site.path).is_file() for site in settings.ensemble.sites)
    assert Path(settings.output).is_absolute()


def test_training_configs_have_the_same_errors(tmp_path):
    path = tmp_path / "train.yaml"
    values = yaml.safe_load((CONFIGS / "train_tiny.yaml").read_text())
    path.write_text(yaml.safe_dump({**values, "bach_size": 3}))
    with pytest.raises(ConfigError, match=re.escape("unknown key `bach_size`. Did you mean `batch_size`?")):
        parse_train(["--config", str(path)])
    path.write_text(yaml.safe_dump({**values, "lr": "fast"}))
    with pytest.raises(ConfigError, match="`lr`: expected a number, found 'fast'"):
        parse_train(["--config", str(path)])


def test_the_documented_config_parses(tmp_path, registry):
    page = (CONFIGS.parent / "docs" / "config.md").read_text()
    (tmp_path / "config.yaml").write_text(re.search(r"```yaml\n(.+?)```", page, re.DOTALL)[1])
    config = parse_fit(["--config", str(tmp_path / "config.yaml")], registry)
    assert [term.name for term in config.loss_terms] == ["boundary", "misfit"]
