"""Ray runs the same fits, whatever becomes of its workers."""

from __future__ import annotations

import importlib.util
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from lightning.pytorch.callbacks import Callback

from lit_invert.config import parse_fit
from lit_invert.errors import ConfigError, ParameterTableError
from lit_invert.losses import LossTerm
from lit_invert.many import fit_sites
from lit_invert.many.chunk import Chunk
from lit_invert.many.ray_engine import RayEngine, connected, load_ray
from lit_invert.plugins import build_registry
from lit_invert.settings import ScaleSettings
from tests.many.cases import run_sites, write_toy_sites

pytestmark = pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="needs Ray")
SITES = 12
LENGTHS = [120 + 3 * number for number in range(SITES)]
ON_RAY = ("--scale.engine", "ray", "--scale.batch_sites", "2", "--scale.retries", "1")


@pytest.fixture(scope="module")
def two_workers():
    scale = ScaleSettings(engine="ray", workers=2, retries=1)
    with connected(load_ray(scale), scale, threads=1):
        yield


@pytest.fixture
def config_path(tmp_path):
    return write_toy_sites(tmp_path, LENGTHS)


def run_on_ray(config_path, *overrides, **changes):
    registry = build_registry()
    config = parse_fit(["--config", str(config_path), *ON_RAY, *overrides], registry)
    return fit_sites(replace(config, **{"checks": "skip", **changes}), registry)


def values(folder, table):
    return pd.read_csv(folder / f"{table}.csv")


class CountFits(Callback):
    """Writes a line for every fit that comes to its end: how many sites it had."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def on_fit_end(self, trainer, pl_module):
        with self.path.open("a") as lines:
            lines.write(f"{len(pl_module.theta)}\n")

    @property
    def sites(self) -> int:
        return sum(map(int, self.path.read_text().split())) if self.path.exists() else 0


class LosesItsWorker(LossTerm):
    """Kills the process that it is computed in, where a record has so many days, and only so many times."""

    name = "loses"

    def __init__(self, folder: Path, days: int, times: int) -> None:
        super().__init__()
        self.folder, self.days, self.times = folder, days, times

    def forward(self, evaluation):
        deaths = len(list(self.folder.glob("died_*")))
        if deaths < self.times and bool((evaluation.days.sum(-1) == self.days).any()):
            (self.folder / f"died_{os.getpid()}").touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return 0.0 * evaluation.scaled.sum(-1)


def test_ray_finds_what_this_process_finds(two_workers, config_path):
    here = run_sites(config_path, "--scale.batch_sites", "2")
    there = run_on_ray(config_path, checks="required")
    for table, key in (("sites", ["site"]), ("parameters", ["site", "name"]), ("metrics", ["site", "flux", "role", "run"])):
        expected, found = (
            values(folder, table).set_index(key).drop(columns="seconds", errors="ignore") for folder in (here.folder, there.folder)
        )
        pd.testing.assert_frame_equal(found, expected, rtol=1e-6, atol=1e-9)


def test_a_lost_worker_costs_no_site_and_no_site_is_fitted_twice(two_workers, config_path, tmp_path):
    counter = CountFits(tmp_path / "fits.txt")
    trainer = {"accelerator": "cpu", "enable_progress_bar": False, "callbacks": [counter]}
    outcome = run_on_ray(config_path, trainer=trainer, loss_terms=[LosesItsWorker(tmp_path, days=LENGTHS[4], times=1)])
    assert len(list(tmp_path.glob("died_*"))) == 1
    assert list(outcome.sites["site"]) == [f"s{i:03d}" for i in range(SITES)]
    assert len(outcome.failed) == 0
    assert counter.sites == SITES
    assert not values(outcome.folder, "parameters").duplicated(["site", "name"]).any()


def test_a_chunk_that_loses_every_worker_fails_alone_and_is_all_that_a_resumed_run_fits(two_workers, config_path, tmp_path):
    lost = LosesItsWorker(tmp_path, days=LENGTHS[4], times=99)
    first = run_on_ray(config_path, "--scale.retries", "0", loss_terms=[lost])
    assert list(first.failed["site"]) == ["s004", "s005"]
    assert first.failed["message"].str.contains("its worker was lost, also in 0 retries").all()
    assert len(list(tmp_path.glob("died_*"))) == 1
    counter = CountFits(tmp_path / "fits.txt")
    trainer = {"accelerator": "cpu", "enable_progress_bar": False, "callbacks": [counter]}
    again = run_on_ray(config_path, "--ckpt_path", "last", trainer=trainer)
    assert again.folder == first.folder
    assert counter.sites == 2
    assert len(again.failed) == 0
    assert sorted(again.sites["site"]) == [f"s{i:03d}" for i in range(SITES)]


def test_a_fault_that_all_sites_share_ends_the_run(two_workers, config_path, tmp_path):
    registry = build_registry()
    config = parse_fit(["--config", str(config_path), *ON_RAY], registry)
    broken = replace(config, parameters=str(tmp_path / "gone.csv"))
    (tmp_path / "run").mkdir()
    with pytest.raises(ParameterTableError, match=r"gone\.csv"):
        list(RayEngine(broken, tmp_path / "run").run([Chunk(0, ())]))


def test_what_no_machine_has_is_said_at_once(two_workers, config_path):
    with pytest.raises(ConfigError, match="needs 1 CPU and 1 GPU on one machine"):
        run_on_ray(config_path, trainer={"accelerator": "gpu"})
    with pytest.raises(ConfigError, match="needs 99 CPU"):
        run_on_ray(config_path, "--inversion.kernel_threads", "99")


def test_a_config_that_cannot_be_sent_is_one_line(config_path, tmp_path):
    with (tmp_path / "open.txt").open("w") as handle, pytest.raises(ConfigError, match="no worker can be sent"):
        run_on_ray(config_path, trainer={"callbacks": [handle]})


@pytest.mark.parametrize("address", ["127.0.0.1:1", "ray://127.0.0.1:1", "no-such-host.invalid:6379"])
def test_a_bad_address_is_one_line(config_path, address):
    with pytest.raises(
        ConfigError, match=rf"`scale\.ray_address`: no Ray cluster answers at '{address}' \(.+\)\. Start one"
    ) as caught:
        run_on_ray(config_path, "--scale.ray_address", address)
    assert "\n" not in str(caught.value)


@pytest.mark.slow
def test_the_command_line_starts_a_ray_of_its_own_and_says_nothing_beside_the_results(config_path):
    command = [sys.executable, "-m", "lit_invert", "fit", "--config", str(config_path), "--engine", "ray", "--scale.workers", "2"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, env=environment)
    assert done.returncode == 0
    assert done.stderr == ""
    assert f"{SITES} of {SITES} sites fitted" in done.stdout
