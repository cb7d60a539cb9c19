"""Each kernel gives the network's numbers and keeps a kernel's promises."""

from __future__ import annotations

import pytest

from lit_invert.kernels.jit import NumbaKernel
from lit_invert.kernels.native import NativeKernel
from lit_invert.kernels.plain import PlainKernel
from tests.kernels import cases
from tests.kernels.cases import Frozen, every_case


@pytest.fixture(params=[NativeKernel, NumbaKernel, PlainKernel], ids=lambda kernel: kernel.name)
def kernel(request):
    if request.param is NativeKernel:
        request.getfixturevalue("compiler")
    return request.param


@every_case
def test_it_simulates_as_the_network_does(case, kernel):
    cases.check_simulation(Frozen(case, kernel))


@every_case
def test_it_pulls_gradients_back_as_autograd_does(case, kernel):
    cases.check_pull(Frozen(case, kernel))


@every_case
def test_it_pushes_tangents_forward(case, kernel):
    cases.check_push(Frozen(case, kernel))


@every_case
def test_pushing_is_the_transpose_of_pulling(case, kernel):
    cases.check_push_is_the_transpose_of_pull(Frozen(case, kernel))


@pytest.mark.parametrize(
    "check",
    [
        cases.check_some_members,
        cases.check_what_was_kept,
        cases.check_inputs_stay,
        cases.check_first_days,
        cases.check_nan_stays_with_its_member,
        cases.check_saturated_gates,
    ],
)
def test_it_keeps_the_promises_of_a_kernel(check, kernel):
    check(kernel)
