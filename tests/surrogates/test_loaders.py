from __future__ import annotations

import hashlib
import pickle
import sys
import warnings
from dataclasses import replace
from pathlib import Path

import pytest
import safetensors.torch
import torch
from torch import nn

from lit_invert.errors import ShapeError, SurrogateError, TrustError
from lit_invert.surrogates.base import SurrogateSpec, Variable
from lit_invert.surrogates.loaders import LOADERS, SurrogateLoader, load_surrogate
from lit_invert.surrogates.lstm import LSTMSurrogate
from lit_invert.testing import ToyNetwork, toy_surrogate
from lit_invert.trust import Trust

KNOWN = {loader.name: loader for loader in LOADERS}
ARCHITECTURE = {"n_static": 2, "n_forcing": 3, "n_output": 4, "hidden_size": 5}
SPEC = SurrogateSpec(
    name="small",
    statics=(Variable("a", mean=1.0, std=2.0), Variable("b")),
    drivers=(Variable("tmp_2m", "K", 280.0, 8.0), Variable("prate", "kg m-2 s-1", std=1e-4), Variable("dswrf")),
    outputs=tuple(Variable(name, "gC m-2 d-1") for name in ("gpp", "npp", "nep", "rh")),
)


class Recurrent(nn.Module):
    """A recurrent network outside this package, as a user would bring one."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.GRU(5, 4, batch_first=True)

    def forward(self, static, forcing):
        beside = static[:, None].expand(-1, forcing.shape[1], -1)
        return self.rnn(torch.cat([beside, forcing], -1))[0]


@pytest.fixture
def network():
    torch.manual_seed(3)
    return LSTMSurrogate(**ARCHITECTURE)


@pytest.fixture
def lstm(tmp_path, network):
    """The spec's path of an LSTM on disk."""
    safetensors.torch.save_file(network.state_dict(), tmp_path / "net.safetensors")
    return write(tmp_path, loader="lstm", weights="net.safetensors", architecture=ARCHITECTURE)


def write(folder: Path, **changes) -> Path:
    replace(SPEC, **changes).save(folder / "spec.json")
    return folder / "spec.json"


def load(spec_path, trust=Trust()):  # noqa: B008
    return load_surrogate(spec_path, KNOWN, trust)


def test_the_names_of_our_loaders_are_unique():
    assert sorted(KNOWN) == ["export", "import", "lstm", "torchscript"]
    assert len(KNOWN) == len(LOADERS)


def test_lstm_comes_back_bit_for_bit(lstm, network):
    surrogate = load(lstm)
    assert all(torch.equal(value, network.state_dict()[name]) for name, value in surrogate.network.state_dict().items())
    static, forcing = torch.randn(3, 2), torch.randn(1, 7, 3)
    torch.testing.assert_close(surrogate(static, forcing), network(static, forcing.expand(3, -1, -1)), rtol=0, atol=1e-6)
    assert surrogate.sha256 == hashlib.sha256((lstm.parent / "net.safetensors").read_bytes()).hexdigest()
    assert not any(parameter.requires_grad for parameter in surrogate.parameters())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"hidden_size": 6}, r"tensor '.*' has shape \(.*\), the architecture expects \(.*\)"),
        ({"num_layers": 2}, r"tensor 'lstm.weight_ih_l1' of LSTMSurrogate is missing"),
        ({"conditioning": "concat"}, r"tensor 'initial.*' has no place in LSTMSurrogate"),
        ({"hiden_size": 5}, r"LSTMSurrogate cannot be built from `architecture` \(.*hiden_size"),
        ({"conditioning": "magic"}, r"conditioning 'magic' is unknown"),
    ],
)
def test_weights_that_do_not_fit_the_architecture(lstm, change, message):
    write(lstm.parent, loader="lstm", weights="net.safetensors", architecture={**ARCHITECTURE, **change})
    with pytest.raises(SurrogateError, match=message):
        load(lstm)


def test_lstm_without_weights_is_no_surrogate(tmp_path):
    with pytest.raises(SurrogateError, match="loader 'lstm' needs `weights`"):
        load(write(tmp_path, architecture=ARCHITECTURE))


def test_unknown_loader_names_the_nearest(tmp_path):
    with pytest.raises(SurrogateError, match=r"loader 'lsmt' is unknown\. Did you mean 'lstm'"):
        load(write(tmp_path, loader="lsmt"))


def test_the_hash_is_checked_before_the_file_is_opened(tmp_path):
    class MustNotOpen(SurrogateLoader):
        name = "tattle"

        def load(self, spec, weights, trust):
            raise AssertionError("the file was opened")

    (tmp_path / "net.bin").write_bytes(b"abc")
    path = write(tmp_path, loader="tattle", weights="net.bin", sha256="0" * 64)
    with pytest.raises(SurrogateError, match=r"net\.bin: sha256 is ba7816bf.*, but spec 'small' expects 0000"):
        load_surrogate(path, {"tattle": MustNotOpen()}, Trust())


def test_the_right_hash_is_accepted_in_either_case(lstm):
    found = hashlib.sha256((lstm.parent / "net.safetensors").read_bytes()).hexdigest()
    for sha256 in (found, found.upper()):
        write(lstm.parent, weights="net.safetensors", architecture=ARCHITECTURE, sha256=sha256)
        assert load(lstm).sha256 == found


@pytest.mark.parametrize("name", ["../net.bin", "sub/../../net.bin", "/etc/hostname", "..\\net.bin", "C:\\net.bin", "link.bin"])
def test_weights_never_leave_the_spec_s_folder(tmp_path, name):
    folder = tmp_path / "surrogate"
    folder.mkdir()
    (tmp_path / "net.bin").write_bytes(b"secret")
    (folder / "link.bin").symlink_to(tmp_path / "net.bin")
    with pytest.raises(SurrogateError, match="leaves the spec's folder"):
        load(write(folder, weights=name, architecture=ARCHITECTURE))


@pytest.mark.parametrize("name", ["net\0.bin", "n" * 5000, "loop.bin"])
def test_names_of_weights_that_are_no_file_are_one_line(tmp_path, name):
    (tmp_path / "loop.bin").symlink_to(tmp_path / "loop.bin")
    with pytest.raises(SurrogateError, match=r"spec\.json: `weights` is '(net|nnn|loop).*, which is no file") as caught:
        load(write(tmp_path, weights=name, architecture=ARCHITECTURE))
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400


def test_weights_in_a_linked_folder_are_beside_their_spec(lstm, tmp_path_factory):
    link = tmp_path_factory.mktemp("elsewhere") / "link"
    link.symlink_to(lstm.parent)
    assert load(link / "spec.json").spec.name == "small"


def test_missing_weights(tmp_path):
    with pytest.raises(SurrogateError, match=r"weights 'none\.safetensors' not found beside the spec"):
        load(write(tmp_path, weights="none.safetensors"))


@pytest.mark.parametrize("suffix", ["safetensors", "pt"])
@pytest.mark.parametrize("damage", [lambda whole: whole[: len(whole) // 2], lambda whole: b"", lambda whole: b"garbage\n" * 9])
def test_damaged_tensors_are_one_line(tmp_path, suffix, damage):
    path = tmp_path / f"net.{suffix}"
    (safetensors.torch.save_file if suffix == "safetensors" else torch.save)(ToyNetwork().state_dict(), path)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(SurrogateError, match=rf"net\.{suffix}: cannot be read as tensors \(") as caught:
        load(write(tmp_path, loader="import", weights=path.name, architecture={"class_path": "lit_invert.testing.ToyNetwork"}))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("suffix", ["safetensors", "pt"])
def test_import_loads_a_class_of_ours_with_its_tensors(tmp_path, suffix):
    state = {"gain": torch.tensor(0.25)}
    if suffix == "pt":
        torch.save(state, tmp_path / "net.pt")
    else:
        safetensors.torch.save_file(state, tmp_path / "net.safetensors")
    architecture = {"class_path": "lit_invert.testing.ToyNetwork"}
    surrogate = load(write(tmp_path, loader="import", weights=f"net.{suffix}", architecture=architecture))
    assert surrogate.network.gain.item() == 0.25


def test_import_of_a_users_package_needs_the_users_word(tmp_path, monkeypatch):
    (tmp_path / "my_emulators.py").write_text(
        "import torch\n"
        "class Scaled(torch.nn.Module):\n"
        "    def __init__(self, factor):\n"
        "        super().__init__()\n"
        "        self.factor = factor\n"
        "    def forward(self, static, forcing):\n"
        "        return self.factor * static[:, None, :1] + torch.zeros(len(static), forcing.shape[1], 4)\n",
        encoding="utf-8",
    )
    monkeypatch.syspath_prepend(tmp_path)
    architecture = {"class_path": "my_emulators.Scaled", "init_args": {"factor": 3.0}}
    path = write(tmp_path, loader="import", architecture=architecture)
    with pytest.raises(TrustError, match="`--allow-import my_emulators`"):
        load(path)
    assert "my_emulators" not in sys.modules
    surrogate = load(path, Trust(imports=frozenset({"my_emulators"})))
    assert surrogate(torch.full((1, 2), 2.0), torch.zeros(1, 1, 3)).flatten().tolist() == [6.0] * 4
    sys.modules.pop("my_emulators")


@pytest.mark.parametrize(
    ("architecture", "error", "message"),
    [
        ({}, SurrogateError, "`class_path` is None, expected a full path"),
        ({"class_path": 3}, SurrogateError, "`class_path` is 3"),
        ({"clas_path": "torch.nn.GRU"}, SurrogateError, "unknown key 'clas_path'. Did you mean 'class_path'"),
        ({"class_path": "torch.nn.Linear", "init_args": [1]}, SurrogateError, "expected named arguments"),
        ({"class_path": "torch.nn.Linear", "init_args": {"size": 1}}, SurrogateError, "Linear cannot be built"),
        ({"class_path": "torch.hub.load"}, TrustError, "can run other code"),
        ({"class_path": "torch.jit.ScriptModule"}, TrustError, "can run other code"),
        ({"class_path": "subprocess.Popen"}, TrustError, "is not allowed"),
        ({"class_path": "torch.optim.Adam"}, TrustError, "is not a subclass of torch.nn.modules.module.Module"),
    ],
)
def test_import_checks_what_the_spec_says(tmp_path, architecture, error, message):
    with pytest.raises(error, match=message):
        load(write(tmp_path, loader="import", architecture=architecture))


class Payload:
    """Unpickling this creates a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return (Path.touch, (self.path,))


def test_a_pickle_with_code_does_not_run(tmp_path):
    torch.save({"gain": Payload(tmp_path / "ran")}, tmp_path / "net.pt")
    path = write(tmp_path, loader="import", weights="net.pt", architecture={"class_path": "lit_invert.testing.ToyNetwork"})
    with pytest.raises(SurrogateError, match=r"net\.pt: cannot be read as tensors"):
        load(path)
    assert not (tmp_path / "ran").exists()
    with (tmp_path / "net.pt").open("wb") as stream:
        pickle.dump(Payload(tmp_path / "ran"), stream)
    with pytest.raises(SurrogateError, match=r"net\.pt: cannot be read as tensors"):
        load(path)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("saved", "message"),
    [
        ([torch.ones(1)], "found a value of type list"),
        ({"epoch": 3, "gain": torch.ones(())}, "found a value of type int under 'epoch'"),
        ({0: torch.ones(())}, "found a value of type Tensor under 0"),
    ],
)
def test_a_file_that_is_no_state_dict(tmp_path, saved, message):
    torch.save(saved, tmp_path / "net.pt")
    architecture = {"class_path": "lit_invert.testing.ToyNetwork"}
    with pytest.raises(SurrogateError, match=f"expected a state dict of named tensors, {message}"):
        load(write(tmp_path, loader="import", weights="net.pt", architecture=architecture))


@pytest.mark.parametrize(
    ("convert", "message"),
    [
        (lambda x: (100 * x).to(torch.int8), "holds torch.int8; the architecture expects plain torch.float32"),
        (lambda x: x > 0, "holds torch.bool; the architecture"),
        (lambda x: x.to(torch.complex64), "holds torch.complex64; the architecture"),
        (lambda x: x.to_sparse(), "holds torch.float32, torch.sparse_coo, not plain; the architecture"),
        (lambda x: x.to("meta"), "holds torch.float32 without values; the architecture"),
    ],
)
def test_weights_that_are_no_plain_numbers_are_not_converted_in_silence(tmp_path, network, convert, message):
    torch.save({name: convert(value) for name, value in network.state_dict().items()}, tmp_path / "net.pt")
    with pytest.raises(SurrogateError, match=rf"net\.pt: tensor 'lstm\.weight_ih_l0' {message}") as caught:
        load(write(tmp_path, weights="net.pt", architecture=ARCHITECTURE))
    assert "\n" not in str(caught.value)


def test_weights_of_another_width_are_converted(tmp_path, network):
    torch.save({name: value.double() for name, value in network.state_dict().items()}, tmp_path / "net.pt")
    loaded = load(write(tmp_path, weights="net.pt", architecture=ARCHITECTURE)).network.state_dict()
    assert all(torch.equal(value, network.state_dict()[name]) for name, value in loaded.items())


@pytest.fixture(scope="module")
def archives(tmp_path_factory):
    """A recurrent network saved three ways; the export holds 20 days and any batch."""
    folder = tmp_path_factory.mktemp("archives")
    torch.manual_seed(5)
    network = Recurrent().eval()
    static, forcing = torch.zeros(2, 2), torch.zeros(2, 20, 3)
    batch = torch.export.Dim("batch")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.script(network).save(folder / "scripted.pt")
        program = torch.export.export(network, (static, forcing), dynamic_shapes=({0: batch}, {0: batch}))
        torch.export.save(program, folder / "net.pt2")
    return folder, network


LOADED = [("torchscript", "scripted.pt", None), ("export", "net.pt2", 20)]


@pytest.mark.parametrize(("loader", "name", "length"), LOADED)
def test_archives_need_trust_and_agree_with_their_network(archives, loader, name, length):
    folder, network = archives
    path = write(folder, loader=loader, weights=name, fixed_length=length)
    with pytest.raises(TrustError, match=f"which can execute code when opened.*`--trust .*{name}`"):
        load(path)
    surrogate = load(path, Trust(files=frozenset({folder / name})))
    surrogate.train()  # as a Trainer does
    static, forcing = torch.randn(3, 2, requires_grad=True), torch.randn(1, 20, 3)
    ours = surrogate(static, forcing)
    theirs = network(static, forcing.expand(3, -1, -1))
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-6)
    torch.testing.assert_close(*(torch.autograd.grad(y.sum(), static)[0] for y in (ours, theirs)), rtol=0, atol=1e-5)
    assert not any(parameter.requires_grad for parameter in surrogate.parameters())


@pytest.mark.parametrize(("loader", "name", "length"), LOADED)
@pytest.mark.parametrize("damage", [lambda whole: whole[: len(whole) // 2], lambda whole: b"", lambda whole: b"garbage"])
def test_damaged_archives_are_one_line(archives, tmp_path, loader, name, length, damage):
    (tmp_path / name).write_bytes(damage((archives[0] / name).read_bytes()))
    path = write(tmp_path, loader=loader, weights=name, fixed_length=length)
    with pytest.raises(SurrogateError, match="is not a whole archive of torch") as caught:
        load(path, Trust(files=frozenset({tmp_path / name})))
    assert "\n" not in str(caught.value)


def test_an_archive_of_another_kind(tmp_path):
    torch.save(ToyNetwork().state_dict(), tmp_path / "net.pt")
    path = write(tmp_path, loader="torchscript", weights="net.pt")
    with pytest.raises(SurrogateError, match=r"net\.pt: cannot be read as a TorchScript archive") as caught:
        load(path, Trust(files=frozenset({tmp_path / "net.pt"})))
    assert "\n" not in str(caught.value)


def test_an_export_says_its_length(archives):
    folder, _ = archives
    trust = Trust(files=frozenset({folder / "net.pt2"}))
    with pytest.raises(SurrogateError, match="`fixed_length` is missing"):
        load(write(folder, loader="export", weights="net.pt2"), trust)
    with pytest.raises(SurrogateError, match="cannot take 2 statics, 3 drivers and 21 days"):
        load(write(folder, loader="export", weights="net.pt2", fixed_length=21), trust)


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"statics": SPEC.statics[:1]}, SurrogateError, "cannot take 1 statics, 3 drivers and 30 days"),
        ({"drivers": SPEC.drivers[:2]}, SurrogateError, "cannot take 2 statics, 2 drivers and 30 days"),
        ({"outputs": SPEC.outputs[:3]}, ShapeError, r"returned shape \(1, 30, 4\), expected \(1, 30, 3\)"),
    ],
)
def test_a_network_that_does_not_fit_its_spec_fails_when_loaded(lstm, changes, error, message):
    write(lstm.parent, weights="net.safetensors", architecture=ARCHITECTURE, **changes)
    with pytest.raises(error, match=message) as caught:
        load(lstm)
    assert "\n" not in str(caught.value)


def test_the_dry_run_sees_weights_that_are_not_finite(tmp_path):
    torch.save({"gain": torch.tensor(float("nan"))}, tmp_path / "net.pt")
    architecture = {"class_path": "lit_invert.testing.ToyNetwork"}
    with pytest.raises(SurrogateError, match="values that are not finite"):
        load(write(tmp_path, loader="import", weights="net.pt", architecture=architecture))


@pytest.mark.parametrize(
    ("value", "what"),
    [
        ({"mean": 1e300}, "has mean 1e\\+300, std 1 and log False"),
        ({"std": 1e-60}, "has mean 0, std 1e-60 and log False"),
        ({"mean": 200, "log": True}, "has mean 200, std 1 and log True"),
    ],
)
@pytest.mark.parametrize(("key", "kind"), [("statics", "static parameter"), ("drivers", "driver")])
def test_scaling_that_the_precision_cannot_hold(lstm, key, kind, value, what):
    first, *others = getattr(SPEC, key)
    variables = (replace(first, **{"mean": 0, "std": 1, **value}), *others)
    with pytest.raises(SurrogateError, match=f"surrogate 'small': {kind} '{first.name}' {what}: torch.float32 cannot hold"):
        load(write(lstm.parent, weights="net.safetensors", architecture=ARCHITECTURE, **{key: variables}))


class FirstMember(nn.Module):
    """Gives the first member's fluxes to all, as a graph does that was recorded with a batch of one."""

    def forward(self, static, forcing):
        return static[:1, None, :1] + forcing[..., :1].expand(-1, -1, 4)


class OneMember(nn.Module):
    """Takes one member only."""

    def forward(self, static, forcing):
        return static.reshape(1, 1, 2)[..., :1] + forcing[..., :1].expand(-1, -1, 4)


class Unmoved(nn.Module):
    """Knows its forcing alone."""

    def forward(self, static, forcing):
        return forcing[..., :1].expand(len(static), -1, 4)


class Contrast(nn.Module):
    """Depends on the difference of two static parameters, and in average weather on nothing."""

    def forward(self, static, forcing):
        return torch.relu((static[:, None, :1] - static[:, None, 1:]) * forcing[..., :1]).expand(-1, -1, 4)


def load_network(folder, network):
    class Plugin(SurrogateLoader):
        name = "mine"

        def load(self, spec, weights, trust):
            return network

    return load_surrogate(write(folder, loader="mine"), {"mine": Plugin()}, Trust())


@pytest.mark.parametrize(
    ("network", "message"),
    [
        (FirstMember(), r"simulates a member differently beside others\. Export it with a dynamic batch axis"),
        (OneMember(), r"simulates one member but not 2 at once \(shape .*\)\. Export it with a dynamic batch axis"),
        (Unmoved(), "its fluxes do not depend on its static parameters"),
    ],
)
def test_members_that_meet_and_fluxes_that_ignore_them_fail_when_loaded(tmp_path, network, message):
    with pytest.raises(SurrogateError, match=f"surrogate 'small':? {message}") as caught:
        load_network(tmp_path, network)
    assert "\n" not in str(caught.value)


def test_a_network_that_is_silent_in_average_weather_is_no_constant(tmp_path):
    assert load_network(tmp_path, Contrast())(torch.ones(1, 2), torch.ones(1, 5, 3)).count_nonzero() == 0


def test_an_export_of_one_member_is_refused(tmp_path):
    torch.manual_seed(5)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.export.save(torch.export.export(Recurrent().eval(), (torch.zeros(1, 2), torch.zeros(1, 20, 3))), tmp_path / "net.pt2")
    path = write(tmp_path, loader="export", weights="net.pt2", fixed_length=20)
    with pytest.raises(SurrogateError, match=r"simulates one member but not 2 at once \(.*\)\. Export it with a dynamic"):
        load(path, Trust(files=frozenset({tmp_path / "net.pt2"})))


def test_the_dry_run_uses_average_weather_in_physical_units(tmp_path):
    # A network that wants unscaled temperature must not be tried at 0 K.
    seen = []

    class Plugin(SurrogateLoader):
        name = "physical"

        def load(self, spec, weights, trust):
            network = ToyNetwork()
            network.register_forward_pre_hook(lambda module, inputs: seen.append(inputs))
            return network

    path = write(tmp_path, loader="physical", static_scaled=False, forcing_scaled=False)
    load_surrogate(path, {"physical": Plugin()}, Trust())
    static, forcing = seen[0]
    assert static.tolist() == [[1.0, 0.0]]
    assert forcing[0, 0].tolist() == [280.0, 0.0, 0.0]
    assert forcing.shape == (1, 30, 3)


def test_a_loaded_surrogate_answers_as_the_one_in_memory(tmp_path):
    surrogate = toy_surrogate(3)
    architecture = {"class_path": "lit_invert.testing.ToyNetwork"}
    spec = replace(surrogate.spec, loader="import", weights="net.safetensors", architecture=architecture)
    safetensors.torch.save_file(surrogate.network.state_dict(), tmp_path / "net.safetensors")
    spec.save(tmp_path / "spec.json")
    static, forcing = torch.randn(2, 3), torch.randn(1, 9, 3)
    assert torch.equal(load(tmp_path / "spec.json")(static, forcing), surrogate(static, forcing))


def test_the_example_of_the_documentation_makes_a_surrogate(tmp_path, monkeypatch):
    text = (Path(__file__).parents[2] / "docs" / "surrogates.md").read_text(encoding="utf-8")
    example = text.split("```python\n")[1].split("```")[0]
    monkeypatch.chdir(tmp_path)
    exec(compile(example, "docs/surrogates.md", "exec"), {})
    surrogate = load(tmp_path / "my_surrogate" / "spec.json")
    assert surrogate(torch.zeros(2, 1), torch.zeros(1, 5, 2)).shape == (2, 5, 1)
