from __future__ import annotations

import sys
from pathlib import Path

import pytest
from torch import nn

from lit_invert.errors import TrustError
from lit_invert.trust import ALLOWED, DENIED, Trust


@pytest.mark.parametrize(
    "dotted",
    [
        "torch.nn.GRU",
        "torchmetrics.MeanSquaredError",
        "lightning.pytorch.callbacks.EarlyStopping",
        "lit_invert.losses.Prior",
        "torch.distributions.Normal",  # only begins like the denied `torch.distributed`
    ],
)
def test_usual_imports_are_allowed(dotted):
    assert Trust().is_import_allowed(dotted)


@pytest.mark.parametrize(
    "dotted",
    [
        "os.system",
        "subprocess.Popen",
        "torchvision.models.resnet18",  # another package that only begins with an allowed name
        "torch.hub.load",
        "torch.serialization.load",
        "torch.load",
        "torch.utils.data.DataLoader",
        "torch.utils.cpp_extension.load",
        "torch.package.PackageImporter",
        "torch.jit.ScriptModule",
        "torch.distributed.launcher.api.elastic_launch",
        "torch.distributed.run.main",
        "torch._dynamo.optimize",
        "torch.nn.Module.__init__",
        "lightning.pytorch.cli.LightningCLI",
        "torch..nn.GRU",
        "torch.nn.GRU()",
        "",
    ],
)
def test_dangerous_and_foreign_imports_are_refused(dotted):
    assert not Trust().is_import_allowed(dotted)


def test_the_user_opens_a_package_but_never_what_is_denied():
    trust = Trust(imports=frozenset({"os", "my.models", *DENIED}))
    assert trust.is_import_allowed("os.PathLike")
    assert trust.is_import_allowed("my.models.Net")
    assert not trust.is_import_allowed("my.other.Net")
    assert not any(trust.is_import_allowed(f"{name}.thing") for name in DENIED)


def test_refusal_names_the_place_and_the_flag():
    with pytest.raises(
        TrustError,
        match=r"^spec\.json, 'x': importing 'models\.Net' is not allowed.*--allow-import models",
    ):
        Trust().check_import("models.Net", "spec.json, 'x'")
    with pytest.raises(TrustError, match=r"'torch\.hub\.load' is private or can run other code"):
        Trust().check_import("torch.hub.load", "spec.json")


def test_packages_cover_the_policy_and_the_user():
    assert {*ALLOWED, "mine"} <= set(Trust(imports=frozenset({"mine"})).packages)


def test_import_class_returns_the_class():
    assert Trust().import_class("torch.nn.GRU", nn.Module, "here") is nn.GRU


@pytest.mark.parametrize(
    ("dotted", "message"),
    [
        ("torch.nn.functional.relu", "is not a subclass of torch.nn.modules.module.Module"),
        ("torch.nn.Parameter", "is not a subclass"),
        ("torch.nn.Gru", "cannot be imported"),
        ("torch.nm.GRU", "cannot be imported"),
        ("torch.nn.Module.forward", "cannot be imported"),
        ("torch", "cannot be imported"),
    ],
)
def test_import_class_refuses_what_is_no_class_of_the_base(dotted, message):
    with pytest.raises(TrustError, match=message):
        Trust().import_class(dotted, nn.Module, "spec.json")


def test_import_class_looks_where_the_class_is_defined(tmp_path, monkeypatch):
    (tmp_path / "innocent_facade.py").write_text(
        "from torch.jit import ScriptModule\nfrom hidden_network import Net\n", encoding="utf-8"
    )
    (tmp_path / "hidden_network.py").write_text("from torch import nn\nclass Net(nn.Module): ...\n", encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    trust = Trust(imports=frozenset({"innocent_facade"}))
    for name in ("ScriptModule", "Net"):
        with pytest.raises(TrustError, match=r"is defined in .* which is not allowed"):
            trust.import_class(f"innocent_facade.{name}", nn.Module, "spec.json")
    for module in ("innocent_facade", "hidden_network"):
        sys.modules.pop(module)


def test_a_refused_package_is_not_even_imported(tmp_path, monkeypatch):
    (tmp_path / "would_run.py").write_text("raise SystemExit('code ran')\n", encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(TrustError):
        Trust().import_class("would_run.Net", nn.Module, "spec.json")
    assert "would_run" not in sys.modules


def test_file_trust_follows_the_file_not_its_spelling(tmp_path, monkeypatch):
    (tmp_path / "net.pt").write_bytes(b"")
    (tmp_path / "other.pt").write_bytes(b"")
    monkeypatch.chdir(tmp_path)
    trust = Trust(files=frozenset({Path("net.pt")}))
    assert trust.is_file_trusted(tmp_path / "net.pt")
    trust.check_file(tmp_path / "." / "net.pt", "a TorchScript archive")
    with pytest.raises(TrustError, match=r"other\.pt: is a TorchScript archive, .*`--trust .*other\.pt`"):
        trust.check_file(tmp_path / "other.pt", "a TorchScript archive")
