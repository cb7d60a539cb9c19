"""numba's kernel gives the network's numbers, and says so when numba is missing."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from lit_invert.errors import KernelError
from lit_invert.kernels import jit, passes
from lit_invert.kernels.jit import NumbaKernel
from tests.kernels import cases
from tests.kernels.cases import Case, Frozen, off, pull


def test_it_is_the_same_with_and_without_a_tape_and_in_smaller_groups(monkeypatch):
    frozen, weights = Frozen(Case(layers=2, batch=7, own_forcing=True), NumbaKernel), torch.randn(7, 40, 4)
    taped = pull(frozen.folded, frozen.static, weights)
    monkeypatch.setattr(jit, "_TAPE_BYTES", 0)
    assert torch.equal(pull(frozen.folded, frozen.static, weights), taped)
    monkeypatch.setattr(jit, "_GROUP", 3)
    monkeypatch.setattr(jit, "_TANGENT_ROWS", 20)
    assert off(pull(frozen.folded, frozen.static, weights), taped) < 1e-6
    cases.check_push(frozen)


def test_tanh_is_within_three_roundings_of_one():
    x = torch.linspace(-12.0, 12.0, 4001)
    found = torch.tensor([passes._tanh(value) for value in x.numpy()])
    assert (found.double() - torch.tanh(x.double())).abs().max() < 3e-7
    assert passes._tanh(x.numpy()[-1] * 1e30) == 1.0


def test_without_numba_it_says_what_to_install(monkeypatch):
    network = Frozen(Case(), NumbaKernel).folded.kernel.network
    monkeypatch.setitem(sys.modules, "scipy.linalg.cython_blas", None)
    jit._passes.cache_clear()
    with pytest.raises(KernelError, match=r"numba is not installed; pip install 'lit-invert\[numba\]'"):
        NumbaKernel(network)


def test_importing_the_package_does_not_import_numba():
    code = "import sys, lit_invert, lit_invert.cli, lit_invert.simulators; sys.exit('numba' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_code_that_cannot_be_cached_is_compiled_all_the_same():
    nowhere = eval("lambda x: 2 * x")  # numba keeps code beside a function's file, and this one has none
    assert passes._compiled(nowhere)(4) == 8
