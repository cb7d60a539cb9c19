"""The kernel of plain PyTorch gives the same numbers however it cuts its work, and keeps nothing of it."""

from __future__ import annotations

import gc
import weakref

import pytest
import torch

from lit_invert.kernels import plain
from lit_invert.kernels.plain import PlainKernel
from tests.kernels import cases
from tests.kernels.cases import STATICS, Case, Frozen, off, pull

CUTS = {"_TAPE_BYTES": 0, "_GROUP": 3, "_GROUP_BYTES": 1, "_TANGENTS": 4, "_TANGENT_ROWS": 20}


@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize("own_forcing", [True, False], ids=["own forcing", "shared forcing"])
def test_cutting_the_work_changes_nothing(monkeypatch, cut, own_forcing):
    frozen, weights = Frozen(Case(layers=2, batch=7, own_forcing=own_forcing), PlainKernel), torch.randn(7, 40, 4)
    directions = torch.randn(7, 6, STATICS)
    whole = pull(frozen.folded, frozen.static, weights), *frozen.folded.push(frozen.static, directions)
    monkeypatch.setattr(plain, cut, CUTS[cut])
    parts = pull(frozen.folded, frozen.static, weights), *frozen.folded.push(frozen.static, directions)
    for found, expected in zip(parts, whole, strict=True):
        assert off(found, expected) < 1e-6


def test_the_tape_goes_with_the_tangents(monkeypatch):
    frozen, run, runs = Frozen(Case(), PlainKernel), PlainKernel._run, []

    def watched(kernel, group):
        done = run(kernel, group)
        runs.extend(weakref.ref(part) for part in done.tapes[0])
        return done

    monkeypatch.setattr(PlainKernel, "_run", watched)
    gc.disable()
    try:
        frozen.folded.push(frozen.static, torch.randn(3, 4, STATICS))
        frozen.folded(frozen.static.clone().requires_grad_()).sum().backward()
        assert len(runs) == 6
        assert all(part() is None for part in runs)
    finally:
        gc.enable()


def test_no_members_and_no_directions_are_empty():
    folded = Frozen(Case(), PlainKernel).folded
    five = torch.zeros(5, STATICS)
    assert folded(five[:0]).shape == (0, 40, 4)
    simulated, tangents = folded.push(five, torch.zeros(5, 0, STATICS))
    assert tangents.shape == (5, 40, 4, 0)
    assert torch.equal(simulated, folded(five))


def test_weights_that_could_be_trained_change_nothing():
    frozen, directions = Frozen(Case(layers=2), PlainKernel), torch.randn(3, 4, STATICS)
    expected = frozen.folded.push(frozen.static, directions)
    trainable = Frozen(Case(layers=2), PlainKernel)
    trainable.network.requires_grad_()
    for found, known in zip(trainable.folded.push(frozen.static, directions), expected, strict=True):
        assert torch.equal(found, known)


def test_another_default_type_and_mixed_precision_change_nothing():
    frozen, directions = cases.Frozen(cases.Case(), PlainKernel), torch.ones(3, 2, STATICS)
    plainly = frozen.folded.push(frozen.static, directions)[1]
    torch.set_default_dtype(torch.float64)
    try:
        with torch.autocast("cpu", torch.bfloat16):
            assert torch.equal(frozen.folded.push(frozen.static, directions)[1], plainly)
    finally:
        torch.set_default_dtype(torch.float32)
