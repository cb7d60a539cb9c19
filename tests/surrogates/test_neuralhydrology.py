"""Runs of neuralhydrology against the package's own predictions (tools/make_neuralhydrology_run.py), and inverted."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import yaml

from lit_invert.config import parse_fit
from lit_invert.errors import SurrogateError
from lit_invert.fit import fit
from lit_invert.plugins import build_registry
from lit_invert.simulators import Simulator
from lit_invert.surrogates.loaders import load_surrogate
from lit_invert.surrogates.lstm import LSTMSurrogate
from lit_invert.testing import toy_forcing
from lit_invert.trust import Trust
from tests.toy_fit import CONFIG, TABLE

GOLDEN = Path(__file__).parent / "golden" / "neuralhydrology"
RUNS = ["cudalstm", "customlstm", "ealstm", "embcudalstm", "embedded", "gru"]
SITES = ["site00", "site01"]
REGISTRY = build_registry()


def load(folder):
    return load_surrogate(folder, REGISTRY.surrogate_loaders, Trust())


def inputs_of(surrogate, site):
    """Return a site's scaled static parameters (1, P) and physical weather (1, T, F), in the surrogate's order."""
    weather = pd.read_csv(GOLDEN / "weather.csv").query("site == @site")[[v.name for v in surrogate.spec.drivers]]
    attributes = pd.read_csv(GOLDEN / "attributes.csv", index_col="site").loc[site, [v.name for v in surrogate.spec.statics]]
    static = torch.tensor(attributes.to_numpy(np.float32))[None]
    return surrogate.static_scaler.to_scaled(static), torch.tensor(weather.to_numpy(np.float32))[None]


def predicted(run, site):
    """Return what the package itself predicted, (days, outputs)."""
    return torch.tensor(pd.read_csv(GOLDEN / run / "predictions.csv").query("site == @site")[["nep", "gpp"]].to_numpy(np.float32))


def simulated(surrogate, site):
    static, weather = inputs_of(surrogate, site)
    with torch.no_grad():
        return surrogate(static, surrogate.prepare(weather))[0]


def assert_close(ours, theirs):
    assert theirs.std() > 0.05  # a network that says the same every day would prove nothing
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5 * theirs.abs().max().item())


@pytest.fixture
def run(tmp_path):
    """A run folder that a test may change."""
    return shutil.copytree(GOLDEN / "cudalstm", tmp_path / "cudalstm")


def change_config(run, **changes):
    values = yaml.safe_load((run / "config.yml").read_text()) | changes
    (run / "config.yml").write_text(yaml.safe_dump(values))


@pytest.mark.parametrize("site", SITES)
@pytest.mark.parametrize("name", RUNS)
def test_a_window_that_ends_with_a_day_is_what_the_package_predicts(name, site):
    surrogate = load(GOLDEN / name)
    static, weather = inputs_of(surrogate, site)
    windows = surrogate.prepare(weather)[0].unfold(0, surrogate.spec.warmup_days + 1, 1).transpose(1, 2)
    with torch.no_grad():
        last = surrogate(static.expand(len(windows), -1), windows)[:, -1]
    assert_close(last, predicted(name, site))


@pytest.mark.parametrize("name", RUNS)
def test_one_long_run_is_the_same_on_its_first_day_after_warm_up_and_close_later(name):
    surrogate = load(GOLDEN / name)
    ours, theirs = simulated(surrogate, "site01")[surrogate.spec.warmup_days :], predicted(name, "site01")
    torch.testing.assert_close(ours[0], theirs[0], rtol=1e-5, atol=0)
    assert (ours - theirs).abs().max() < 0.06 * theirs.abs().max()


@pytest.mark.parametrize("name", ["ealstm", "gru"])
def test_windows_in_a_spec_give_the_package_s_numbers_on_every_day(tmp_path, name):
    run = shutil.copytree(GOLDEN / name, tmp_path / name)
    (run / "spec.json").write_text(json.dumps({"windows": {"context_days": 59, "horizon_days": 1}}))
    surrogate = load(run)
    assert_close(simulated(surrogate, "site00")[surrogate.spec.warmup_days :], predicted(name, "site00"))


def test_the_spec_says_what_the_folder_says():
    spec = load(GOLDEN / "cudalstm").spec
    assert [v.name for v in spec.statics] == ["s1", "s2", "s3"]  # the config says s3, s1, s2: the package sorts
    assert [v.name for v in spec.drivers] == ["tmp_2m", "dswrf"]
    assert spec.output_names == ("nep", "gpp")
    assert (spec.loader, spec.weights, spec.warmup_days) == ("neuralhydrology", "model_epoch012.pt", 59)
    scaler = yaml.safe_load((GOLDEN / "cudalstm" / "train_data" / "train_data_scaler.yml").read_text())
    assert spec.statics[2].std == scaler["attribute_stds"]["s3"]
    assert spec.drivers[0].mean == scaler["xarray_feature_center"]["data_vars"]["tmp_2m"]["data"]
    assert spec.outputs[1].std == scaler["xarray_feature_scale"]["data_vars"]["gpp"]["data"]


@pytest.mark.parametrize("name", ["cudalstm", "customlstm", "ealstm"])
def test_without_embeddings_it_is_our_lstm_and_runs_in_its_kernels(name):
    surrogate = load(GOLDEN / name)
    static, weather = inputs_of(surrogate, "site00")
    assert isinstance(surrogate.network, LSTMSurrogate)
    simulator = Simulator(surrogate, weather, "numba")
    torch.testing.assert_close(simulator(static)[0], simulated(surrogate, "site00"), rtol=1e-5, atol=1e-5)


def test_a_spec_beside_the_run_states_units_and_weights(run):
    shutil.copy(run / "model_epoch012.pt", run / "model_epoch003.pt")
    stated = {"weights": "model_epoch003.pt", "outputs": [{"name": "nep", "unit": "MgC ha-1 d-1"}]}
    (run / "spec.json").write_text(json.dumps(stated))
    surrogate, plain = load(run), load(GOLDEN / "cudalstm")
    assert surrogate.spec.weights == "model_epoch003.pt"
    expected = simulated(plain, "site00") * torch.tensor([100.0, 1.0])
    torch.testing.assert_close(simulated(surrogate, "site00"), expected)
    (run / "spec.json").write_text(json.dumps({"outputs": [{"name": "nepp"}]}))
    with pytest.raises(SurrogateError, match=r"spec\.json: outputs: 'nepp' is no variable.*Did you mean 'nep'"):
        load(run)


def test_the_newest_epoch_is_the_largest_number(run):
    for epoch in ("099", "1000", "_at_night"):
        shutil.copy(run / "model_epoch012.pt", run / f"model_epoch{epoch}.pt")
    assert load(run).spec.weights == "model_epoch1000.pt"


def test_embeddings_of_earlier_versions_go_by_another_name(tmp_path):
    run = shutil.copytree(GOLDEN / "embedded", tmp_path / "embedded")
    tensors = torch.load(run / "model_epoch002.pt", weights_only=True)
    renamed = {name.replace("dynamics_embeddings.0.", "dynamics_embedding."): value for name, value in tensors.items()}
    assert renamed.keys() != tensors.keys()
    torch.save(renamed, run / "model_epoch002.pt")
    assert torch.equal(simulated(load(run), "site00"), simulated(load(GOLDEN / "embedded"), "site00"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": "transformer"}, "`model` is 'transformer', which is not supported"),
        ({"model": None}, "`model` is 'none', which is not supported"),
        ({"head": "gmm"}, "`head` is 'gmm', expected 'regression'"),
        ({"output_activation": "tanh"}, "`output_activation` is 'tanh', which is not supported"),
        ({"use_basin_id_encoding": True}, "`use_basin_id_encoding` is 'true', which is not supported"),
        ({"hydroatlas_attributes": ["ele_mt_sav"]}, r"`hydroatlas_attributes` is \['ele_mt_sav'\]"),
        ({"clip_targets_to_zero": ["gpp"]}, r"`clip_targets_to_zero` is \['gpp'\]"),
        ({"use_frequencies": ["1h", "1D"]}, "`use_frequencies` is"),
        ({"static_attributes": []}, "`static_attributes` is None, expected a list of names"),
        ({"dynamic_inputs": {"1D": ["tmp_2m"]}}, "`dynamic_inputs` is .*expected a list of names"),
        ({"dynamic_inputs": [["tmp_2m"], ["dswrf"]]}, "`dynamic_inputs` is .*expected a list of names"),
        ({"dynamic_inputs": ["tmp_2m", "prate"]}, "scaling of 'prate' is None, expected a number"),
        ({"seq_length": "9" * 5000}, "`seq_length` is '999.*, expected a whole number, 1 or more, below a million"),
        ({"hidden_size": 10**12}, "`hidden_size` is '1000000000000', expected a whole number"),
        ({"hidden_size": 999_999}, r"has shape \(64, 5\), the architecture expects \(3999996, 5\)"),
        ({"statics_embedding": {"hiddens": ["9" * 5000]}}, "`statics_embedding` is .*a list of sizes"),
        ({"seq_length": "long"}, "`seq_length` is 'long', expected a whole number"),
        ({"hidden_size": 8}, r"tensor 'network\.lstm\.weight_ih_l0' has shape \(64, 5\), the architecture expects \(32, 5\)"),
        ({"model": "ealstm"}, "cannot be read as an EA-LSTM of neuralhydrology"),
        ({"model": "gru"}, r"tensor 'network\.gru\.weight_ih_l0' of EmbeddedNetwork is missing"),
        ({"statics_embedding": True}, "`statics_embedding` is 'true', expected type fc"),
        ({"statics_embedding": {"type": "cnn", "hiddens": [3]}}, "`statics_embedding` is .*expected type fc"),
        ({"statics_embedding": {"hiddens": ["x"]}}, "`statics_embedding` is .*a list of sizes"),
        ({"dynamics_embedding": {"hiddens": [3], "activation": "gelu"}}, "`dynamics_embedding.activation` is 'gelu'"),
    ],
)
def test_what_is_not_supported_is_one_line(run, changes, message):
    change_config(run, **changes)
    with pytest.raises(SurrogateError, match=message) as caught:
        load(run)
    assert "\n" not in str(caught.value)


def test_keys_that_are_false_or_empty_are_not_refused(run):
    change_config(run, use_basin_id_encoding=False, mass_inputs=[], nan_handling_method=None, evolving_attributes="")
    assert torch.equal(simulated(load(run), "site00"), simulated(load(GOLDEN / "cudalstm"), "site00"))


def test_tags_in_yaml_run_nothing(run):
    target = run / "ran"
    tag = f"!!python/object/apply:pathlib.Path.touch [!!python/object/apply:pathlib.PosixPath [{target}]]"
    text = (run / "config.yml").read_text()
    (run / "config.yml").write_text(text + f"finished_date: 01/02/2003\nextra_dir: {tag}\n")
    assert load(run).spec.warmup_days == 59
    assert not target.exists()


def test_numbers_and_names_that_yaml_takes_for_something_else(run):
    for name in ("config.yml", "train_data/train_data_scaler.yml"):
        path = run / name
        path.write_text(path.read_text().replace("dswrf", "no").replace("40.15460968017578", "1e-05"))
    driver = load(run).spec.drivers[1]
    assert (driver.name, driver.std) == ("no", 1e-5)


def test_a_pickled_scaler_is_not_opened(run):
    (run / "train_data" / "train_data_scaler.yml").rename(run / "train_data" / "train_data_scaler.p")
    with pytest.raises(SurrogateError, match=r"train_data_scaler\.p: is a pickle, which can execute code"):
        load(run)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("train_data/train_data_scaler.yml", None, r"train_data_scaler\.yml: scaler not found"),
        ("train_data/train_data_scaler.yml", "attribute_means: {s1: 1}", "`attribute_stds` is missing"),
        (
            "train_data/train_data_scaler.yml",
            "{attribute_means: {s1: 1, s2: 1, s3: 1}, attribute_stds: {s1: 1, s2: 1, s3: 1}, xarray_feature_center: {}}",
            "`xarray_feature_center.data_vars` is missing",
        ),
        ("train_data/train_data_scaler.yml", "[1, 2", "cannot be read as YAML"),
        ("config.yml", "[" * 20_000, r"config\.yml: cannot be read as YAML"),
        ("config.yml", "a: &a [x]\nb: &b [*a, *a]\nhead: [*b, *b]", r"config\.yml: has aliases"),
        ("config.yml", "- 1", r"config\.yml: expected keys and values, found list"),
        ("config.yml", None, r"is a folder without spec\.json or config\.yml"),
        ("model_epoch012.pt", None, r"expected weights model_epoch\*\.pt, found none"),
        ("model_epoch012.pt", "garbage", r"model_epoch012\.pt: cannot be read as tensors"),
    ],
)
def test_an_incomplete_or_damaged_run_is_one_line(run, name, text, message):
    (run / name).unlink()
    if text is not None:
        (run / name).write_text(text)
    with pytest.raises(SurrogateError, match=message) as caught:
        load(run)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("ealstm", lambda value: value.flatten(), "cannot be read as an EA-LSTM of neuralhydrology"),
        ("ealstm", lambda value: value[None], "cannot be read as an EA-LSTM of neuralhydrology"),
        ("gru", lambda value: value.flatten()[0], r"tensor 'network\.gru\.weight_ih_l0' has shape \(\)"),
    ],
)
def test_tensors_of_other_dimensions_are_one_line(tmp_path, name, change, message):
    run = shutil.copytree(GOLDEN / name, tmp_path / name)
    (path,) = run.glob("*.pt")
    torch.save({name: change(value) for name, value in torch.load(path, weights_only=True).items()}, path)
    with pytest.raises(SurrogateError, match=message) as caught:
        load(run)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("stated", "days"), [({}, 400), ({"warmup_days": 500}, 500), ({"windows": {"context_days": 8, "horizon_days": 1}}, 59)]
)
def test_the_warm_up_lasts_as_long_as_the_context_that_a_spec_adds(run, stated, days):
    (run / "spec.json").write_text(json.dumps({"windows": {"context_days": 400, "horizon_days": 1}} | stated))
    assert load(run).spec.warmup_days == days


def test_a_config_alone_is_no_run(tmp_path):
    (tmp_path / "config.yml").write_text("model: cudalstm\n")
    with pytest.raises(SurrogateError, match=r"config\.yml is there, but no loader knows this kind of folder"):
        load(tmp_path)


@pytest.mark.parametrize("name", ["cudalstm", "ealstm", "gru", "embedded"])
def test_a_run_is_inverted_from_its_folder(tmp_path, name):
    surrogate, days = load(GOLDEN / name), 150
    truth = torch.tensor([[1.6, 2.5, 1.3]])
    weather = toy_forcing(days)[..., [0, 2]]
    with torch.no_grad():
        nep = surrogate(surrogate.static_scaler.to_scaled(truth), surrogate.prepare(weather))[0, :, 0]
    frame = pd.DataFrame(weather[0].numpy(), columns=["tmp_2m", "dswrf"])
    frame.insert(0, "date", pd.date_range("2016-01-01", periods=days).strftime("%Y-%m-%d"))
    frame.assign(nep=nep.numpy(), n_good=48).to_csv(tmp_path / "tower.csv", index=False)
    (tmp_path / "table.csv").write_text(TABLE)
    text = CONFIG.replace("spec: spec.json", f"spec: {GOLDEN / name}").replace("2016-03-01, 2016-03-20", "2016-05-01, 2016-05-10")
    (tmp_path / "config.yaml").write_text(text)
    overrides = ["--inversion.solver", "levenberg_marquardt", "--inversion.lambda_prior", "0"]
    outcome = fit(parse_fit(["--config", str(tmp_path / "config.yaml"), *overrides], REGISTRY), REGISTRY)
    assert outcome.metrics["roles"]["test"]["nep"]["rmse_change_percent"] < -95
    assert outcome.result.optimum.numpy() == pytest.approx(truth[0].numpy(), abs=0.02)
    provenance = json.loads((outcome.folder / "provenance.json").read_text())
    assert provenance["sha256"]["surrogate_weights"] == surrogate.sha256
