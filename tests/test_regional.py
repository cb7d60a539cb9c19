"""Two processes with sites of their own against one with all of them."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from lightning.pytorch import Trainer

from lit_invert.callbacks import KeepBest, RecordHistory, StopOnDivergence, StopWhenFinished
from lit_invert.datamodule import InversionData
from lit_invert.driving import fitting
from lit_invert.errors import ConfigError
from lit_invert.sharing import fit_shared
from tests.sharing.six_sites import GROUPS, KINDS, SHARES, STEPS, fit_six, module_of
from tests.sharing.towers import plan_of

ALL = list(range(6))


@pytest.fixture(scope="module")
def pair():
    """What each of two processes found, by solver."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "NODE_RANK": "0", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-W", "ignore", "-m", "tests.sharing.six_sites"]
    root = Path(__file__).parents[1]
    both = [
        subprocess.Popen(
            command, cwd=root, env={**os.environ, **place, "LOCAL_RANK": rank},
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for rank in "01"
    ]  # fmt: skip
    ends = [process.communicate(timeout=120) for process in both]
    assert [process.returncode for process in both] == [0, 0], ends
    return [json.loads(out.splitlines()[-1]) for out, _ in ends]


@pytest.mark.parametrize("solver", STEPS)
def test_two_processes_find_what_one_finds(pair, solver):
    one = fit_six(solver, ALL, devices=1)
    for rank, sites in enumerate(SHARES):
        found = pair[rank][solver]
        torch.testing.assert_close(torch.tensor(found["shared"]), torch.tensor(one["shared"]), rtol=0, atol=1e-7)
        assert found["score"] == pytest.approx(one["score"], rel=1e-9)
        for site in map(str, sites):
            torch.testing.assert_close(torch.tensor(found["theta"][site]), torch.tensor(one["theta"][site]), rtol=0, atol=1e-6)


def test_a_trainer_finds_what_the_bare_solver_finds():
    alone = fit_shared(module_of("levenberg_marquardt", ALL).problem, plan_of(KINDS, GROUPS))
    found = fit_six("levenberg_marquardt", ALL, devices=1)
    torch.testing.assert_close(torch.tensor(found["shared"]).double(), alone.gamma, rtol=0, atol=1e-6)


def test_callbacks_see_one_member_and_its_whole_loss():
    module = module_of("levenberg_marquardt", ALL)
    best, history, finished = KeepBest("loss"), RecordHistory(), StopWhenFinished()
    trainer = Trainer(
        accelerator="cpu", devices=1, max_steps=30, limit_train_batches=30, num_sanity_val_steps=0, logger=False,
        enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
        callbacks=[best, history, finished, StopOnDivergence()],
    )  # fmt: skip
    with fitting(cpu_threads=1):
        trainer.fit(module, InversionData(30))
    assert finished.converged
    assert torch.equal(best.theta, module.theta)
    losses = module.problem(module.sites_theta()).total
    assert best.value.item() == pytest.approx(losses.sum().item(), rel=1e-12)
    assert history.frame()["loss/total"].is_monotonic_decreasing


def test_a_checkpoint_of_other_shared_values_is_refused():
    module = module_of("adam", ALL)
    checkpoint = {"state_dict": module.state_dict()}
    module.on_save_checkpoint(checkpoint)
    module.on_load_checkpoint(checkpoint)
    with pytest.raises(ConfigError, match=r"shared values \['s2'\], this run has \['s1', 's2\[oak\]', 's2\[pine\]'\]"):
        module.on_load_checkpoint({**checkpoint, "shared": ["s2"]})
