"""Sites that share parameters: one fit of all, and what sharing costs and is worth."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import torch

from lit_invert.catalogue import SiteEntry
from lit_invert.errors import ConfigError
from lit_invert.many.together import attribute_table
from lit_invert.sites import DataSettings
from lit_invert.testing import toy_forcing, toy_surrogate
from tests.many.cases import run_sites, write_toy_sites

LENGTHS = [120, 150, 300, 130, 121, 200]
#: Truth of s1 everywhere, of s2 by plant type (grass, forest), and of s3 by site.
S1, S2 = 2.5, (1.6, 2.7)


def truth(number):
    return torch.tensor([S1, S2[number % 2], 1.5 + 0.2 * number], dtype=torch.float64)


@pytest.fixture
def config_path(tmp_path):
    """Towers whose truths are shared as the names of S1 and S2 say."""
    config = write_toy_sites(tmp_path, LENGTHS)
    surrogate = toy_surrogate()
    for number, days in enumerate(LENGTHS):
        forcing = toy_forcing(days)
        fluxes = surrogate(surrogate.static_scaler.to_scaled(truth(number).float())[None], surrogate.prepare(forcing))
        path = tmp_path / f"tower_{number:03d}.csv"
        pd.read_csv(path).assign(nep=fluxes[0, :, 2].numpy()).to_csv(path, index=False)
    config.write_text(config.read_text().replace("lambda_prior: 0.001", "lambda_prior: 1.0e-6"))
    return config


def table(outcome, name):
    return pd.read_csv(outcome.folder / f"{name}.csv")


def test_shared_values_are_found_and_cost_nothing_where_they_are_shared_indeed(config_path):
    outcome = run_sites(config_path, "--sharing.parameters", "{s1: global, s2: group}")
    shared = table(outcome, "shared").set_index(["parameter", "group"], drop=False)
    assert list(shared["kind"]) == ["global", "group", "group"]
    assert shared["value"].to_numpy() == pytest.approx([S1, S2[1], S2[0]], abs=2e-3)
    assert shared["sites"].tolist() == [6, 3, 3]
    parameters = table(outcome, "parameters").pivot_table(index="site", columns="name", values="optimum")
    for number in range(len(LENGTHS)):
        assert parameters.loc[f"s{number:03d}"].to_numpy() == pytest.approx(truth(number).numpy(), abs=5e-3)
    skill = table(outcome, "skill")
    assert set(skill["role"]) == {"fit", "select", "test"}
    assert skill["loss"].abs().max() < 2e-3
    assert (skill["together"] < 0.05 * skill["prior"]).all()


def test_sharing_what_differs_costs_skill_and_says_so(config_path):
    skill = table(run_sites(config_path, "--sharing.default", "global"), "skill")
    test = skill[skill["role"] == "test"]
    assert (test["loss"] > 0.01).all()
    np.testing.assert_allclose(test["loss"], test["together"] - test["alone"], atol=1e-8)


def test_an_unseen_site_has_what_the_others_lend_it(config_path):
    outcome = run_sites(config_path, "--sharing.default", "group", "--sharing.leave_one_out", "true", "--sharing.compare", "false")
    unseen = table(outcome, "unseen").set_index("site")
    assert list(unseen.index) == [f"s{i:03d}" for i in range(len(LENGTHS))]
    assert (unseen["seen"] <= unseen["unseen"] + 1e-4).all()
    assert (unseen["unseen"] < unseen["prior"]).sum() >= 4
    assert not (outcome.folder / "skill.csv").exists()


def test_hierarchical_parameters_have_a_mean_and_a_spread(config_path):
    outcome = run_sites(config_path, "--sharing.parameters", "{s1: hierarchical, s3: hierarchical}")
    shared = table(outcome, "shared").set_index(["parameter", "group"])
    assert (shared["kind"] == "hierarchical").all()
    assert shared.loc[("s1", "grass"), "value"] == pytest.approx(S1, abs=0.02)
    assert shared.loc[("s3", "grass"), "value"] == pytest.approx(np.mean([1.5, 1.9, 2.3]), abs=0.05)
    assert shared.loc[("s1", "grass"), "spread"] < 0.1 * shared.loc[("s3", "grass"), "spread"]
    assert (outcome.sites["rmse_change_percent"] < -90).all()


def test_a_network_of_attributes_says_what_it_did_not_see(config_path):
    outcome = run_sites(
        config_path, "--attributes.columns", "[latitude, plant_type]", "--attributes.epochs", "60", "--sharing.compare", "false"
    )
    unseen = table(outcome, "unseen")
    assert len(unseen) == 1
    held = outcome.sites.set_index("site").loc[unseen["site"].iloc[0], "message"]
    assert "held out: its parameters follow from its attributes alone" in held
    assert outcome.sites["rmse_optimum"].median() < 0.6 * outcome.sites["rmse_prior"].median()


def test_a_site_that_cannot_be_read_is_a_row_here_too(config_path):
    (config_path.parent / "tower_002.csv").unlink()
    outcome = run_sites(config_path, "--sharing.default", "group", "--sharing.compare", "false")
    assert list(outcome.failed["site"]) == ["s002"]
    assert table(outcome, "shared")["sites"].tolist() == [3, 2, 3, 2, 3, 2]


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["--sharing.parameters", "{s9: global}"], "`sharing.parameters`: 's9' is not a static parameter"),
        (["--sharing.default", "group", "--sharing.group_by", "biome"], "no 'biome' for site 's000'"),
        (["--sharing.default", "global", "--scale.engine", "ray"], "one fit. Use `trainer.strategy: ddp`"),
        (["--sharing.default", "global", "--attributes.columns", "[latitude]"], "Keep one"),
        (["--attributes.columns", "[mat]"], "found '' for site 's000', and such for 6 in all"),
        (["--sharing.default", "shared"], "sharing.default"),
    ],
)
def test_what_does_not_go_together_is_one_line(config_path, overrides, message):
    with pytest.raises(ConfigError, match=message.replace(".", r"\.")):
        run_sites(config_path, *overrides)


def test_two_processes_find_what_one_does(config_path):
    command = [sys.executable, "-m", "lit_invert", "fit", "--config", str(config_path), "--sharing.default", "group"]
    command += ["--sharing.leave_one_out", "true", "--inversion.max_iters", "30", "--logger", "true"]
    two = ["--trainer.strategy", "ddp", "--trainer.devices", "2", "--name", "two"]
    for extra in ([], two):
        done = subprocess.run([*command, *extra], capture_output=True, text=True, timeout=300, check=False)
        assert done.returncode == 0, done.stderr
    one, both = (pd.read_csv(config_path.parent / "logs" / name / "version_0" / "parameters.csv") for name in ("toy", "two"))
    assert both["optimum"].to_numpy() == pytest.approx(one["optimum"].to_numpy(), abs=1e-5)
    for name in ("skill", "unseen"):
        one, both = (pd.read_csv(config_path.parent / "logs" / run / "version_0" / f"{name}.csv") for run in ("toy", "two"))
        numbers = one.select_dtypes("number").columns
        assert both[numbers].to_numpy() == pytest.approx(one[numbers].to_numpy(), abs=1e-4, nan_ok=True)
    assert not (config_path.parent / "logs" / "two" / "version_1").exists()


def test_words_become_a_column_each():
    entries = [
        SiteEntry("a", DataSettings(), 3.0, "oak", attributes={"mat": "9"}),
        SiteEntry("b", DataSettings(), 4.0, "fir", attributes={"mat": "11.5"}),
    ]
    found = attribute_table(entries, ["longitude", "plant_type", "mat"])
    assert found.to_numpy().tolist() == [[3.0, 0.0, 1.0, 9.0], [4.0, 1.0, 0.0, 11.5]]


def test_one_bad_number_among_attributes_is_named():
    entries = [SiteEntry(name, DataSettings(), attributes={"mat": mat}) for name, mat in (("a", "9"), ("b", "n/a"), ("c", "7"))]
    with pytest.raises(ConfigError, match="expected a number in 'mat' for every site, found 'n/a' for site 'b', and such for 1"):
        attribute_table(entries, ["mat"])
    longitudes = [SiteEntry("a", DataSettings(), 3.0), SiteEntry("b", DataSettings())]
    with pytest.raises(ConfigError, match="for site 'b', and such for 1"):
        attribute_table(longitudes, ["longitude"])


def test_a_shared_value_is_what_its_sites_have_where_bounds_name_parameters(config_path):
    table_path = config_path.parent / "table.csv"
    table_path.write_text(table_path.read_text().replace("s1,-,first,2.0,0.5,0.5,3.5", "s1,-,first,1.2,0.5,0.5,s2"))
    outcome = run_sites(
        config_path, "--sharing.default", "global", "--sharing.compare", "false", "--constraints.transform", "sigmoid"
    )
    shared = table(outcome, "shared").set_index("parameter")["value"]
    first = table(outcome, "parameters").query("site == 's000'").set_index("name")["optimum"]
    assert shared.to_numpy() == pytest.approx(first.to_numpy(), rel=1e-6)


def test_a_shared_value_cannot_have_bounds_that_differ(config_path):
    table_path = config_path.parent / "table.csv"
    text = table_path.read_text().replace("s1,-,first,2.0,0.5,0.5,3.5", "s1,-,first,1.2,0.5,0.5,s2")
    table_path.write_text(text.replace("s2,-,second,2.0,0.5,0.5,3.5,lin,false", "s2,-,second,2.0,0.5,0.5,3.5,lin,true"))
    (config_path.parent / "priors.csv").write_text("prior,s2\ngrass,1.8\nforest,3.0\n")
    overrides = ["--data.priors", str(config_path.parent / "priors.csv"), "--sharing.parameters", "{s1: global}"]
    with pytest.raises(ConfigError, match="'s1' is shared, but its bound 's2' is fixed at values that differ"):
        run_sites(config_path, *overrides, "--constraints.transform", "sigmoid")


def test_what_took_longest_is_kept_when_one_site_fails_after_the_fit(config_path, monkeypatch):
    from lit_invert.many import chunk

    original = chunk.tabulate_site

    def fail_at_one(config, registry, inputs, result):
        if inputs.site.name == "s002":
            raise OSError("no space")
        return original(config, registry, inputs, result)

    monkeypatch.setattr(chunk, "tabulate_site", fail_at_one)
    outcome = run_sites(config_path, "--sharing.default", "group")
    assert list(outcome.failed["site"]) == ["s002"]
    assert len(table(outcome, "shared")) == 6
    assert set(table(outcome, "skill")["site"]) == {"s000", "s001", "s003", "s004", "s005"}


def test_a_refused_command_leaves_the_run_before_as_it_was(config_path):
    outcome = run_sites(config_path, "--sharing.default", "group", "--sharing.compare", "false")
    before = (outcome.folder / "status.json").read_text()
    for wrong in (["--ckpt_path", "last"], ["--scale.engine", "ray"]):
        with pytest.raises(ConfigError):
            run_sites(config_path, "--sharing.default", "group", *wrong)
    assert (outcome.folder / "status.json").read_text() == before
    assert [path.name for path in outcome.folder.parent.iterdir()] == ["version_0"]
