"""Folders that describe themselves: as the Hugging Face hub keeps networks, whole and in shards."""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import asdict
from pathlib import Path

import pandas as pd
import pytest
import safetensors.torch
import torch

from lit_invert.config import parse_fit
from lit_invert.errors import SurrogateError
from lit_invert.fit import fit
from lit_invert.plugins import build_registry
from lit_invert.surrogates.base import SurrogateSpec
from lit_invert.surrogates.folders import spec_file
from lit_invert.surrogates.loaders import LOADERS, SurrogateLoader, load_surrogate
from lit_invert.surrogates.lstm import LSTMSurrogate
from lit_invert.testing import toy_forcing, toy_surrogate
from lit_invert.trust import Trust
from tests.toy_fit import CONFIG, TABLE

KNOWN = {loader.name: loader for loader in LOADERS}
ARCHITECTURE = {"n_static": 3, "n_forcing": 3, "n_output": 4, "hidden_size": 16, "head": "linear", "climatology": False}
HUB = {"_name_or_path": "someone/net", "architectures": ["LSTMSurrogate"], "model_type": "lstm", "transformers_version": "5.0"}
INDEX = "model.safetensors.index.json"


@pytest.fixture(scope="module")
def network():
    """An LSTM that has learned the toy surrogate for a second."""
    torch.manual_seed(1)
    toy, network = toy_surrogate(), LSTMSurrogate(**ARCHITECTURE)
    forcing = toy.prepare(toy_forcing(120))
    optimizer = torch.optim.Adam(network.parameters(), lr=0.01)
    for _ in range(150):
        static = torch.randn(16, 3)
        loss = (network(static, forcing) - toy(static, forcing)).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss < 0.5
    return network


def write(folder, network, **changes) -> Path:
    """Write a folder as the hub has it: weights, config.json, and our spec without weights and architecture."""
    spec = asdict(toy_surrogate().spec) | {"loader": "lstm"} | changes
    stated = {key: spec[key] for key in ("name", "statics", "drivers", "outputs", "loader", *changes)}
    (folder / "spec.json").write_text(json.dumps(stated))
    (folder / "config.json").write_text(json.dumps(HUB | ARCHITECTURE))
    safetensors.torch.save_file(network.state_dict(), folder / "model.safetensors")
    return folder


def shard(folder, parts=3):
    """Cut the weights of a folder into shards, and return their index."""
    tensors = safetensors.torch.load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    names = sorted(tensors)
    places = {name: f"model-{i % parts + 1:05d}-of-{parts:05d}.safetensors" for i, name in enumerate(names)}
    for place in set(places.values()):
        safetensors.torch.save_file({name: tensors[name] for name in names if places[name] == place}, folder / place)
    (folder / INDEX).write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": places}))
    return folder / INDEX


def change_index(index, **changes):
    content = json.loads(index.read_text())
    content["weight_map"] |= changes
    index.write_text(json.dumps(content))


def load(path):
    return load_surrogate(path, KNOWN, Trust())


@pytest.mark.parametrize("is_sharded", [False, True])
def test_a_hub_folder_is_the_network_that_was_saved(tmp_path, network, is_sharded):
    folder = write(tmp_path, network)
    if is_sharded:
        shard(folder)
    surrogate = load(folder)
    assert surrogate.spec.weights == (INDEX if is_sharded else "model.safetensors")
    assert surrogate.spec.architecture == ARCHITECTURE
    static, forcing = torch.randn(2, 3), surrogate.prepare(toy_forcing(40))
    with torch.no_grad():
        assert torch.equal(surrogate(static, forcing), network(static, forcing))


def test_the_hash_of_shards_is_that_of_their_bytes_in_order(tmp_path, network):
    folder = write(tmp_path, network)
    shard(folder)
    expected = hashlib.sha256(b"".join(path.read_bytes() for path in sorted(folder.glob("model-*.safetensors")))).hexdigest()
    assert load(folder).sha256 == expected
    stated = json.loads((folder / "spec.json").read_text())
    (folder / "spec.json").write_text(json.dumps(stated | {"sha256": "0" * 64}))
    with pytest.raises(SurrogateError, match=f"sha256 is {expected}, but spec 'toy' expects 0000"):
        load(folder)


def test_what_the_spec_states_goes_before_the_usual_places(tmp_path, network):
    folder = write(tmp_path, network, architecture=ARCHITECTURE, weights="best.safetensors")
    (folder / "model.safetensors").rename(folder / "best.safetensors")
    (folder / "config.json").write_text('{"hidden_size": 3}')
    assert load(folder).spec.weights == "best.safetensors"


def test_an_architecture_that_is_stated_as_empty_stays_empty(tmp_path, network):
    folder = write(tmp_path, network, architecture={})
    with pytest.raises(SurrogateError, match="LSTMSurrogate cannot be built from `architecture`"):
        load(folder)


def test_the_spec_s_own_path_takes_nothing_from_its_folder(tmp_path, network):
    folder = write(tmp_path, network)
    with pytest.raises(SurrogateError, match="loader 'lstm' needs `weights`"):
        load(folder / "spec.json")


@pytest.mark.parametrize("place", ["../out.safetensors", "/etc/out.safetensors", "..\\out.safetensors", "link.safetensors"])
def test_shards_never_leave_the_folder(tmp_path, network, place):
    folder = tmp_path / "net"
    folder.mkdir()
    index = shard(write(folder, network))
    shutil.copy(folder / "model-00001-of-00003.safetensors", tmp_path / "out.safetensors")
    (folder / "link.safetensors").symlink_to(tmp_path / "out.safetensors")
    change_index(index, **{"head.output.bias": place})
    with pytest.raises(SurrogateError, match=r"index\.json: shard is .*, which leaves the spec's folder"):
        load(folder)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"head.output.bias": "model-00009.safetensors"}, "weights 'model-00009.safetensors' not found"),
        ({"head.output.bias": "spec.json"}, "shard 'spec.json' is not a file of safetensors"),
        ({"head.gain": "model-00001-of-00003.safetensors"}, "tensor 'head.gain' is missing from 'model-00001"),
        ({"head.output.bias": "model-00003-of-00003.safetensors"}, "tensor 'head.output.bias' is not expected in 'model-00001"),
        ({"head.output.bias": 3}, "expected `weight_map`"),
    ],
)
def test_an_index_and_its_shards_belong_together(tmp_path, network, changes, message):
    index = shard(write(tmp_path, network))
    change_index(index, **changes)
    with pytest.raises(SurrogateError, match=message) as caught:
        load(tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"weight_map": {}}'])
def test_a_damaged_index_is_one_line(tmp_path, network, text):
    shard(write(tmp_path, network)).write_text(text)
    with pytest.raises(SurrogateError, match=r"index\.json: ") as caught:
        load(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_damaged_config_or_spec_is_named(tmp_path, network):
    write(tmp_path, network)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(SurrogateError, match=r"config\.json: is not a JSON file"):
        load(tmp_path)
    (tmp_path / "spec.json").write_text("[]")
    with pytest.raises(SurrogateError, match=r"spec\.json: expected a JSON object, found list"):
        load(tmp_path)


def test_a_folder_that_describes_nothing(tmp_path):
    with pytest.raises(SurrogateError, match=r"is a folder without spec\.json\. Put a spec into it"):
        load(tmp_path)


def test_a_plugin_s_folder_is_recognised_by_its_file(tmp_path, network):
    class Own(SurrogateLoader):
        name, described_by = "own", "own.txt"

        def describe(self, folder):
            return SurrogateSpec(**(vars(toy_surrogate().spec) | {"loader": "own", "weights": "model.safetensors"}))

        def load(self, spec, weights, trust):
            return network

    write(tmp_path, network)
    (tmp_path / "spec.json").unlink()
    loaders = {"own": Own(), **KNOWN}
    with pytest.raises(SurrogateError, match=r"is a folder without spec\.json or own\.txt"):
        load_surrogate(tmp_path, loaders, Trust())
    (tmp_path / "own.txt").touch()
    assert load_surrogate(tmp_path, loaders, Trust()).spec.loader == "own"
    assert spec_file(tmp_path, loaders) == tmp_path / "own.txt"
    (tmp_path / "spec.json").write_text('{"warmup_days": 7}')
    assert load_surrogate(tmp_path, loaders, Trust()).spec.warmup_days == 7
    assert spec_file(tmp_path, loaders) == spec_file(tmp_path / "spec.json", loaders) == tmp_path / "spec.json"


def test_a_sharded_folder_is_inverted(tmp_path, network):
    folder = tmp_path / "net"
    folder.mkdir()
    shard(write(folder, network))
    surrogate, days, truth = load(folder), 150, torch.tensor([[1.6, 2.5, 1.3]])
    weather = toy_forcing(days)
    with torch.no_grad():
        nep = surrogate(surrogate.static_scaler.to_scaled(truth), surrogate.prepare(weather))[0, :, 2]
    frame = pd.DataFrame(weather[0].numpy(), columns=[v.name for v in surrogate.spec.drivers])
    frame.insert(0, "date", pd.date_range("2016-01-01", periods=days).strftime("%Y-%m-%d"))
    frame.assign(nep=nep.numpy(), n_good=48).to_csv(tmp_path / "tower.csv", index=False)
    (tmp_path / "table.csv").write_text(TABLE)
    (tmp_path / "config.yaml").write_text(CONFIG.replace("spec: spec.json", "spec: net"))
    registry = build_registry()
    overrides = ["--inversion.solver", "levenberg_marquardt", "--inversion.lambda_prior", "0"]
    outcome = fit(parse_fit(["--config", str(tmp_path / "config.yaml"), *overrides], registry), registry)
    assert outcome.metrics["roles"]["test"]["nep"]["rmse_change_percent"] < -95
    assert outcome.result.optimum.numpy() == pytest.approx(truth[0].numpy(), abs=0.02)
    sha256 = json.loads((outcome.folder / "provenance.json").read_text())["sha256"]
    assert sha256["surrogate_spec"] == hashlib.sha256((folder / "spec.json").read_bytes()).hexdigest()
