"""The C kernel gives the network's numbers, in each arithmetic and on any number of threads."""

from __future__ import annotations

import copy
import functools
import gc
import pickle
import weakref

import pytest
import torch

from lit_invert.errors import KernelError, ShapeError
from lit_invert.kernels import native
from lit_invert.kernels.frozen import Member
from lit_invert.kernels.native import NativeKernel, has_bfloat16
from tests.kernels import cases
from tests.kernels.cases import STATICS, TOLERANCES, Case, Frozen, pull

pytestmark = pytest.mark.usefixtures("compiler")
every_short_precision = pytest.mark.parametrize("precision", ["split", "bfloat16"])


@pytest.fixture
def bfloat16(compiler):
    if not has_bfloat16():
        pytest.skip("this processor has no bfloat16 arithmetic")


@pytest.mark.usefixtures("bfloat16")
@every_short_precision
@pytest.mark.parametrize("case", cases.SIZES, ids=str)
def test_short_numbers_are_as_near_as_they_can_be(case, precision):
    tolerance = TOLERANCES[precision]
    frozen = Frozen(case, functools.partial(NativeKernel, gradient=precision, tangents=precision))
    cases.check_simulation(frozen, tolerance=tolerance)
    cases.check_pull(frozen, tolerance=tolerance)
    cases.check_push(frozen, tolerance=tolerance)


@pytest.mark.parametrize("batch", [1, 3, 50])
def test_threads_change_no_bit(batch):
    case, weights = Case(layers=2, batch=batch), torch.randn(batch, 40, 4)
    one, two = (Frozen(case, functools.partial(NativeKernel, threads=threads)) for threads in (1, 2))
    directions = torch.randn(batch, 7, STATICS)
    assert torch.equal(two.folded(two.static), one.folded(one.static))
    assert torch.equal(pull(two.folded, two.static, weights), pull(one.folded, one.static, weights))
    assert torch.equal(two.folded.push(two.static, directions)[1], one.folded.push(one.static, directions)[1])


def test_neighbours_change_no_bit_of_a_member():
    frozen = Frozen(Case(layers=2, batch=8), NativeKernel)
    kernel, member, cotangent = frozen.folded.kernel, frozen.folded._enter(frozen.static, None).member, torch.randn(8, 40, 3)
    together, kept = kernel.simulate(member, None)
    pulled = kernel.pull(member, None, kept, cotangent)
    for m in range(8):
        alone = Member(*(part[m : m + 1] for part in member))
        simulated, kept = kernel.simulate(alone, None)
        assert torch.equal(simulated[0], together[m])
        for found, expected in zip(kernel.pull(alone, None, kept, cotangent[m : m + 1]), pulled, strict=True):
            assert torch.equal(found[0], expected[m])


def test_days_simulated_again_give_the_same_gradient_as_the_tape(monkeypatch):
    frozen, weights = Frozen(Case(layers=2, days=70), NativeKernel), torch.randn(3, 70, 4)
    taped = pull(frozen.folded, frozen.static, weights)
    monkeypatch.setattr(native, "_TAPE_BYTES", 0)
    assert torch.equal(pull(frozen.folded, frozen.static, weights), taped)


def test_copies_find_their_own_weights():
    frozen = Frozen(Case(), NativeKernel)
    expected = frozen.folded(frozen.static)
    copies = copy.deepcopy(frozen.folded), pickle.loads(pickle.dumps(frozen.folded))
    del frozen.folded  # and with it the memory that its pointers name
    for copied in copies:
        assert torch.equal(copied(frozen.static), expected)


def test_more_layers_than_it_has_room_for_are_refused():
    with pytest.raises(KernelError, match="the network has 9 layers, the compiled kernel takes 8 at most"):
        Frozen(Case(layers=9, hidden=8), NativeKernel)


@every_short_precision
def test_arithmetic_that_the_processor_lacks_is_refused(monkeypatch, precision):
    monkeypatch.setattr(native, "has_bfloat16", lambda: False)
    with pytest.raises(KernelError, match=f"no bfloat16 arithmetic, which '{precision}' needs. Use 'float32'"):
        Frozen(Case(), functools.partial(NativeKernel, tangents=precision))


def test_mixed_precision_around_it_changes_nothing():
    frozen = cases.Frozen(cases.Case(), NativeKernel)
    plain = frozen.folded(frozen.static)
    pushed = frozen.folded.push(frozen.static, torch.ones(3, 2, cases.STATICS))[1]
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(frozen.folded(frozen.static), plain)
        assert torch.equal(frozen.folded.push(frozen.static, torch.ones(3, 2, cases.STATICS))[1], pushed)


def test_another_default_type_changes_nothing():
    frozen = cases.Frozen(cases.Case(), NativeKernel)
    plain = frozen.folded(frozen.static)
    torch.set_default_dtype(torch.float64)
    try:
        assert torch.equal(frozen.folded(frozen.static), plain)
    finally:
        torch.set_default_dtype(torch.float32)


def test_sizes_that_do_not_fit_are_refused_and_empty_ones_are_empty():
    frozen = cases.Frozen(cases.Case(own_forcing=True, climatology=False), NativeKernel)
    five = torch.zeros(5, cases.STATICS)
    with pytest.raises(ShapeError, match="forcing has 3 rows for 5 members"):
        frozen.folded(five)
    shared = cases.Frozen(cases.Case(), NativeKernel).folded
    assert shared(five[:0]).shape == (0, 40, 4)
    simulated, tangents = shared.push(five, torch.zeros(5, 0, cases.STATICS))
    assert tangents.shape == (5, 40, 4, 0)
    assert torch.equal(simulated, shared(five))


def test_the_tape_goes_with_the_gradient():
    frozen = cases.Frozen(cases.Case(), NativeKernel)
    tapes, simulate = [], frozen.folded.kernel.simulate

    def watched(*args, **kwargs):
        z, kept = simulate(*args, **kwargs)
        tapes.append(weakref.ref(kept.tape))
        return z, kept

    frozen.folded.kernel.simulate = watched
    gc.disable()
    try:
        frozen.folded(frozen.static.clone().requires_grad_()).sum().backward()
        assert tapes[0]() is None
    finally:
        gc.enable()


def test_a_pickle_holds_no_packing_for_this_processor():
    kernel = cases.Frozen(cases.Case(), NativeKernel).folded.kernel
    assert not any(name.startswith("_") for name in kernel.__getstate__())
    copied = pickle.loads(pickle.dumps(kernel))
    assert copied._packed.keys() == kernel._packed.keys()
