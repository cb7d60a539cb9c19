"""Start a network of another size from a trained one, so that it already knows most of it.

A wider student copies units: the copies hear the same, and what they pass on is shared out between them at random, so that the
function stays and training tells them apart. A narrower student keeps some of the units. A further LSTM layer starts close to the
identity: its gates let each day's input through and forget the day before.

Source:
    Chen, Goodfellow and Shlens (2016), Net2Net, arXiv:1511.05641.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from lit_invert.surrogates.lstm import CarbonHead, LSTMSurrogate

#: Weight of a passing layer's input: small enough for the hyperbolic tangents to be linear.
PASS_WEIGHT = 0.5
#: Bias that holds a gate open, or shut when negative.
PASS_GATE = 3.0
#: What a passing layer makes of a small input.
PASS_GAIN = PASS_WEIGHT / (1.0 + math.exp(-PASS_GATE)) ** 2


@torch.no_grad()
def grow(student: LSTMSurrogate, teacher: LSTMSurrogate) -> None:
    """Fill a student of any hidden size and number of layers from a one-layer teacher with a carbon head.

    Args:
        student: The network to fill, alike in everything else.
        teacher: The trained network.
    """
    units = torch.arange(student.hidden_size) % teacher.hidden_size
    student.embedding.load_state_dict(teacher.embedding.state_dict())
    _grow_lstm(student.lstm, teacher.lstm, units)
    _grow_initial(student, teacher, units)
    assert isinstance(student.head, CarbonHead)
    assert isinstance(teacher.head, CarbonHead)
    _grow_head(student.head, teacher.head, units)
    student.head.from_hidden.weight /= PASS_GAIN ** (student.num_layers - 1)


def _grow_lstm(student: nn.LSTM, teacher: nn.LSTM, units: Tensor) -> None:
    """Fill the first layer from the teacher's, and let the others pass on what they get."""
    old, new = teacher.state_dict(), student.state_dict()
    for name, weight in old.items():
        heard = _rows(weight, units, 4)
        new[name].copy_(_columns(heard, units) if name == "weight_hh_l0" else heard)
    for name in new.keys() - old.keys():
        new[name].zero_()
    for layer in range(1, student.num_layers):
        _, _, cell_input, _ = new[f"weight_ih_l{layer}"].chunk(4)
        cell_input.fill_diagonal_(PASS_WEIGHT)
        for gate, bias in zip(new[f"bias_ih_l{layer}"].chunk(4), (PASS_GATE, -PASS_GATE, 0.0, PASS_GATE), strict=True):
            gate.fill_(bias)


def _grow_initial(student: LSTMSurrogate, teacher: LSTMSurrogate, units: Tensor) -> None:
    """Fill the network of the initial state; further layers start at zero."""
    student.initial[0].load_state_dict(teacher.initial[0].state_dict())
    for name in ("weight", "bias"):
        old, new = getattr(teacher.initial[2], name), getattr(student.initial[2], name)
        new.zero_()
        by_layer = new.view(2, student.num_layers, len(units), *new.shape[1:])
        by_layer[:, 0] = _rows(old, units, 2).view(2, len(units), *new.shape[1:])


def _grow_head(student: CarbonHead, teacher: CarbonHead, units: Tensor) -> None:
    """Fill the head, whose features are twice as many as the hidden units."""
    features = torch.arange(2 * len(units)) % teacher.flux.in_features
    student.from_hidden.weight.copy_(_columns(teacher.from_hidden.weight[features], units))
    student.from_hidden.bias.copy_(teacher.from_hidden.bias[features])
    student.from_daily.weight.copy_(teacher.from_daily.weight[features])
    student.flux.weight.copy_(_columns(teacher.flux.weight, features))
    student.flux.bias.copy_(teacher.flux.bias)
    student.gain.load_state_dict(teacher.gain.state_dict())
    student.flux_scale.copy_(teacher.flux_scale)


def _rows(weight: Tensor, units: Tensor, blocks: int) -> Tensor:
    """Copy what each unit hears, in each of several blocks of units (the gates)."""
    by_block = weight.view(blocks, -1, *weight.shape[1:])
    return by_block[:, units].flatten(0, 1)


def _columns(weight: Tensor, units: Tensor) -> Tensor:
    """Copy what each unit passes on, shared out at random between the copies of a unit."""
    share = 0.5 + torch.rand(len(weight), len(units))
    total = torch.zeros(len(weight), max(weight.shape[1], len(units))).index_add_(1, units, share)
    return weight[:, units] * share / total[:, units]
