r"""The days of one LSTM layer, in Python that numba compiles: forwards, backwards, and with tangents.

A layer takes D days of B members. Its gates are known up to the share of its own state,

.. math::
    (i, f, g, o)_t = (\sigma, \sigma, \tanh, \sigma)(drive_t + offset + h_{t-1} W), \quad
    c_t = f_t c_{t-1} + i_t g_t, \quad h_t = o_t \tanh c_t

and what does not run from day to day, the shares of the layer below and the head, is left to PyTorch. The four gates stand in
planes, (4, B, H): loops run over contiguous numbers, and the product of one gate with W is small enough for BLAS not to repack it.
Subscripts are written out and each loop writes to one array, because that is what the compiler turns into vector instructions.
The one liberty it is given is to contract to fused multiply-adds, so NaN stays NaN.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar, cast

import numpy as np
from numba import njit
from numpy.typing import NDArray

Array = NDArray[np.float32]
_Function = TypeVar("_Function", bound=Callable[..., object])

_ZERO, _HALF, _ONE = np.float32(0.0), np.float32(0.5), np.float32(1.0)
_FAR = np.float32(7.99881172180175781)  # tanh rounds to 1 from here on
_P1, _P3, _P5, _P7 = map(np.float32, (4.89352455891786e-03, 6.37261928875436e-04, 1.48572235717979e-05, 5.12229709037114e-08))
_P9, _P11, _P13 = map(np.float32, (-8.60467152213735e-11, 2.00018790482477e-13, -2.76076847742355e-16))
_Q0, _Q2, _Q4, _Q6 = map(np.float32, (4.89352518554385e-03, 2.26843463243900e-03, 1.18534705686654e-04, 1.19825839466702e-06))


def _compiled(function: _Function) -> _Function:
    """Compile at the first call and keep the code: beside this file, else in the user's cache, or where NUMBA_CACHE_DIR says."""
    compiled = njit(nogil=True, error_model="numpy", fastmath={"contract"})(function)
    with suppress(RuntimeError):  # no such folder can be written: each process compiles again
        compiled.enable_caching()
    return cast(_Function, compiled)


@_compiled
def _tanh(x: np.float32) -> np.float32:
    """Return the hyperbolic tangent to 3e-7, by a ratio of polynomials: unlike the library's, it vectorises.

    Source:
        Eigen 3.4, Eigen/src/Core/MathFunctionsImpl.h, `generic_fast_tanh_float`.
    """
    x = _FAR if x > _FAR else x
    x = -_FAR if x < -_FAR else x
    s = x * x
    odd = (((((_P13 * s + _P11) * s + _P9) * s + _P7) * s + _P5) * s + _P3) * s + _P1
    even = ((_Q6 * s + _Q4) * s + _Q2) * s + _Q0
    return x * odd / even


@_compiled
def forward_days(weights: Array, drive: Array, offset: Array, gates: Array, cells: Array, hiddens: Array) -> None:
    """Run a layer over D days.

    Args:
        weights: Of the layer's own state, transposed, (4, H, H).
        drive: What is known of the gates in each day, (D, 4, 1 or B, H).
        offset: What is known of them in every day, (4, B, H).
        gates: Returned gates after their nonlinearities, (D, 4, B, H).
        cells: Cell states, (D + 1, B, H): the first is given, the others are returned.
        hiddens: Hidden states, in the same way.
    """
    for t in range(len(gates)):
        for g in range(4):
            np.dot(hiddens[t], weights[g], gates[t, g])
        _open_gates(gates[t], drive[t], offset)
        _update_state(gates[t], cells[t], cells[t + 1], hiddens[t + 1])


@_compiled
def _open_gates(gates: Array, drive: Array, offset: Array) -> None:
    for g in range(4):
        shift, scale = (_ZERO, _ONE) if g == 2 else (_HALF, _HALF)  # a sigmoid is (1 + tanh(x / 2)) / 2
        for m in range(gates.shape[1]):
            own = m % drive.shape[1]
            for j in range(gates.shape[2]):
                gates[g, m, j] = shift + scale * _tanh(scale * (gates[g, m, j] + drive[g, own, j] + offset[g, m, j]))


@_compiled
def _update_state(gates: Array, before: Array, after: Array, hidden: Array) -> None:
    for m in range(gates.shape[1]):
        for j in range(gates.shape[2]):
            after[m, j] = gates[1, m, j] * before[m, j] + gates[0, m, j] * gates[2, m, j]
        for j in range(gates.shape[2]):
            hidden[m, j] = gates[3, m, j] * _tanh(after[m, j])


@_compiled
def _find_slopes(gates: Array, before: Array, after: Array, slopes: Array) -> None:
    """Fill (6, B, H): changes of the cell with i, f, g and the cell of the day before, of the hidden state with o and the cell."""
    for m in range(gates.shape[1]):
        for j in range(gates.shape[2]):
            slopes[0, m, j] = gates[2, m, j] * gates[0, m, j] * (_ONE - gates[0, m, j])
        for j in range(gates.shape[2]):
            slopes[1, m, j] = before[m, j] * gates[1, m, j] * (_ONE - gates[1, m, j])
        for j in range(gates.shape[2]):
            slopes[2, m, j] = gates[0, m, j] * (_ONE - gates[2, m, j] * gates[2, m, j])
        for j in range(gates.shape[2]):
            slopes[3, m, j] = gates[1, m, j]
        for j in range(gates.shape[2]):
            squashed = _tanh(after[m, j])
            slopes[4, m, j] = squashed * gates[3, m, j] * (_ONE - gates[3, m, j])
            slopes[5, m, j] = gates[3, m, j] * (_ONE - squashed * squashed)


@_compiled
def backward_days(
    weights: Array, gates: Array, cells: Array, d_above: Array, d_hidden: Array, d_cell: Array, d_gates: Array
) -> None:
    """Pull a gradient back over D days.

    Args:
        weights: Of the layer's own state, (4, H, H).
        gates: From `forward_days`.
        cells: From `forward_days`.
        d_above: Gradient of the hidden states as the layer above or the head sees them, (D, B, H).
        d_hidden: Gradient of the state after the last day, (B, H); returns that of the state before the first.
        d_cell: The same of the cell state.
        d_gates: Returned gradient of drive and offset, (D, 4, B, H).
    """
    slopes, shares = np.empty((6, *d_hidden.shape), np.float32), np.empty((4, *d_hidden.shape), np.float32)
    for t in range(len(gates) - 1, -1, -1):
        _find_slopes(gates[t], cells[t], cells[t + 1], slopes)
        _pull_state(slopes, d_above[t], d_hidden, d_cell, d_gates[t])
        for g in range(4):
            np.dot(d_gates[t, g], weights[g], shares[g])
        for m in range(d_hidden.shape[0]):
            for j in range(d_hidden.shape[1]):
                d_hidden[m, j] = shares[0, m, j] + shares[1, m, j] + shares[2, m, j] + shares[3, m, j]


@_compiled
def _pull_state(slopes: Array, d_above: Array, d_hidden: Array, d_cell: Array, d_gates: Array) -> None:
    for m in range(d_hidden.shape[0]):
        for j in range(d_hidden.shape[1]):
            d_hidden[m, j] += d_above[m, j]
        for j in range(d_hidden.shape[1]):
            d_cell[m, j] += d_hidden[m, j] * slopes[5, m, j]
        for g in range(3):
            for j in range(d_hidden.shape[1]):
                d_gates[g, m, j] = d_cell[m, j] * slopes[g, m, j]
        for j in range(d_hidden.shape[1]):
            d_gates[3, m, j] = d_hidden[m, j] * slopes[4, m, j]
        for j in range(d_hidden.shape[1]):
            d_cell[m, j] *= slopes[3, m, j]


@_compiled
def tangent_days(weights: Array, gates: Array, cells: Array, d_drive: Array, d_cell: Array, d_hiddens: Array) -> None:
    """Push K tangents of one member forward over D days.

    Args:
        weights: Of the layer's own state, transposed, (4, H, H).
        gates: From `forward_days`, (D, 4, 1, H).
        cells: From `forward_days`, (D + 1, 1, H).
        d_drive: Tangents of drive and offset, (1 or D, 4, K, H).
        d_cell: Tangents of the cell state before the first day, (K, H); returns those after the last.
        d_hiddens: Tangents of the hidden states, (D + 1, K, H): the first is given, the others are returned.
    """
    slopes, d_gates = np.empty((6, 1, d_cell.shape[1]), np.float32), np.empty((4, *d_cell.shape), np.float32)
    for t in range(len(gates)):
        _find_slopes(gates[t], cells[t], cells[t + 1], slopes)
        for g in range(4):
            np.dot(d_hiddens[t], weights[g], d_gates[g])
        _push_state(slopes, d_gates, d_drive[t % len(d_drive)], d_cell, d_hiddens[t + 1])


@_compiled
def _push_state(slopes: Array, d_gates: Array, d_drive: Array, d_cell: Array, d_hidden: Array) -> None:
    for k in range(d_cell.shape[0]):
        for j in range(d_cell.shape[1]):
            d_cell[k, j] = (
                slopes[3, 0, j] * d_cell[k, j]
                + slopes[0, 0, j] * (d_gates[0, k, j] + d_drive[0, k, j])
                + slopes[1, 0, j] * (d_gates[1, k, j] + d_drive[1, k, j])
                + slopes[2, 0, j] * (d_gates[2, k, j] + d_drive[2, k, j])
            )
        for j in range(d_cell.shape[1]):
            d_hidden[k, j] = slopes[4, 0, j] * (d_gates[3, k, j] + d_drive[3, k, j]) + slopes[5, 0, j] * d_cell[k, j]
