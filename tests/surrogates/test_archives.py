"""Networks recorded by `torch.export` and `torch.jit`, trained for a second and inverted from the command line."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd
import pytest
import torch
from torch import Tensor, nn

from lit_invert.cli import main
from lit_invert.surrogates.base import file_hash
from lit_invert.surrogates.windows import WindowedNetwork, Windows
from lit_invert.testing import toy_forcing, toy_surrogate, toy_truth
from tests.toy_fit import write_toy_fit

DAYS, WINDOWS = 120, Windows(context_days=20, horizon_days=15)


class Convolution(nn.Module):
    """A network of the kind that users bring: weather and parameters of the last five days, convolved twice."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv1d(6, 32, 3)
        self.second = nn.Conv1d(32, 32, 3)
        self.fluxes = nn.Linear(32, 4)

    def forward(self, static: Tensor, forcing: Tensor) -> Tensor:
        beside = static.unsqueeze(1).expand(-1, forcing.shape[1], -1)
        daily = nn.functional.pad(torch.cat([beside, forcing], -1).transpose(1, 2), (4, 0))
        features = torch.tanh(self.second(torch.tanh(self.first(daily))))
        return self.fluxes(features.transpose(1, 2))


class Split(nn.Module):
    """The same network over a context and a horizon that come apart, for the horizon alone."""

    def __init__(self, whole: nn.Module) -> None:
        super().__init__()
        self.whole = whole

    def forward(self, static: Tensor, context: Tensor, horizon: Tensor) -> Tensor:
        return self.whole(static, torch.cat([context, horizon], 1))[:, -horizon.shape[1] :]


@dataclass(frozen=True)
class Archive:
    """A way to record a network, and what its spec says."""

    loader: str
    name: str
    save: Callable[[nn.Module, Path], None]
    fixed_length: int | None = None
    windows: Windows | None = None

    @property
    def days(self) -> int:
        """Days of the forcing that the network is recorded with."""
        return DAYS if self.windows is None else self.windows.days


def export(days: int) -> Callable[[nn.Module, Path], None]:
    def save(network: nn.Module, path: Path) -> None:
        batch = torch.export.Dim("batch")
        examples = (torch.zeros(2, 3), torch.zeros(2, days, 3))
        torch.export.save(torch.export.export(network, examples, dynamic_shapes=({0: batch}, {0: batch})), path)

    return save


def script(network: nn.Module, path: Path) -> None:
    torch.jit.script(network).save(path)


def script_split(network: nn.Module, path: Path) -> None:
    torch.jit.script(Split(network)).save(path)


def trace(network: nn.Module, path: Path) -> None:
    torch.jit.trace(network, (torch.zeros(2, 3), torch.zeros(2, 7, 3))).save(path)


ARCHIVES = [
    Archive("export", "whole.pt2", export(DAYS), fixed_length=DAYS),
    Archive("torchscript", "scripted.pt", script),
    Archive("torchscript", "traced.pt", trace),
    Archive("export", "windows.pt2", export(WINDOWS.days), windows=WINDOWS),
    Archive("torchscript", "split.pt", script_split, windows=replace(WINDOWS, inputs="split")),
]


@pytest.fixture(scope="module")
def network() -> Convolution:
    """Trained on the toy surrogate until its errors are a tenth of the variance, which takes a second."""
    torch.manual_seed(2)
    network, toy, forcing = Convolution(), toy_surrogate(), toy_forcing(DAYS)
    optimizer = torch.optim.Adam(network.parameters(), 0.02)
    for _ in range(120):
        static = torch.empty(16, 3).uniform_(-2, 2)
        target = toy(static, toy.prepare(forcing))
        loss = (network(static, toy.prepare(forcing).expand(16, -1, -1)) - target).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss < 0.1 * target.var()
    return network.eval()


def write_fit(folder: Path, archive: Archive, network: Convolution) -> Path:
    """Write a fit whose tower is the network itself at the toy's truth, and return its config."""
    config = write_toy_fit(folder, DAYS)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch steers users away from `torch.jit`
        archive.save(network, folder / archive.name)
    spec = replace(
        toy_surrogate().spec,
        loader=archive.loader,
        weights=archive.name,
        sha256=file_hash(folder / archive.name),
        fixed_length=archive.fixed_length,
        windows=archive.windows,
    )
    spec.save(folder / "spec.json")
    whole = network if archive.windows is None else WindowedNetwork(network, replace(archive.windows, inputs="joined"))
    toy = toy_surrogate()
    truth = toy.static_scaler.to_scaled(toy_truth().float())[None]
    with torch.no_grad():
        nep = whole(truth, toy.prepare(toy_forcing(DAYS)))[0, :, 2]
    pd.read_csv(folder / "tower.csv").assign(nep=nep.numpy()).to_csv(folder / "tower.csv", index=False)
    return config


@pytest.mark.parametrize("archive", ARCHIVES, ids=lambda archive: archive.name)
def test_an_archive_is_inverted_once_it_is_trusted(tmp_path, capsys, network, archive):
    config = write_fit(tmp_path, archive, network)
    arguments = ["fit", "--config", str(config), "--inversion.solver", "levenberg_marquardt", "--inversion.lambda_prior", "0.001"]

    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert f"can execute code when opened. If you trust its author, add `--trust {tmp_path / archive.name}`." in error
    assert error.count("\n") == 1
    assert not (tmp_path / "logs").exists()

    assert main([*arguments, "--trust", str(tmp_path / archive.name)]) == 0
    metrics = json.loads((tmp_path / "logs/toy/version_0/metrics.json").read_text())
    assert metrics["roles"]["test"]["nep"]["n"] == 20
    assert all(metrics["roles"][role]["nep"]["rmse_change_percent"] < -80 for role in ("fit", "select", "test"))


def test_an_export_with_a_batch_of_its_own_does_not_bear_windows(tmp_path, capsys, network):
    def save(network: nn.Module, path: Path) -> None:
        torch.export.save(torch.export.export(network, (torch.zeros(1, 3), torch.zeros(1, WINDOWS.days, 3))), path)

    config = write_fit(tmp_path, Archive("export", "one.pt2", save, windows=WINDOWS), network)
    assert main(["fit", "--config", str(config), "--trust", str(tmp_path / "one.pt2")]) == 2
    error = capsys.readouterr().err
    assert "surrogate 'toy' cannot take 3 statics, 3 drivers and 64 days as its spec says" in error
    assert error.count("\n") == 1


def test_a_tower_shorter_than_a_window_is_one_line(tmp_path, capsys, network):
    config = write_fit(tmp_path, ARCHIVES[4], network)
    pd.read_csv(tmp_path / "tower.csv").head(34).to_csv(tmp_path / "tower.csv", index=False)
    arguments = ["--trust", str(tmp_path / ARCHIVES[4].name), "--data.split.method", "none", "--data.split.select", "[]"]
    assert main(["fit", "--config", str(config), *arguments, "--data.split.test", "[]"]) == 2
    error = capsys.readouterr().err
    assert "forcing has 34 days but a window has 35: 20 of context and 15 of horizon" in error
    assert error.count("\n") == 1
