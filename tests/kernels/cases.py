"""Networks of every make, and what any kernel must give for them: the numbers of the network itself in float64.

What may be left is rounding, over the days that a network remembers and relative to the largest number. One rounding of float32 is
6e-8; what two bfloat16 numbers leave of one in float32 is 2^-16 = 1.5e-5; bfloat16 itself keeps 8 bits, 2^-8 = 0.4 %.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass

import pytest
import torch

from lit_invert.surrogates.folded import FoldedLSTM
from lit_invert.surrogates.lstm import LSTMSurrogate

STATICS, DRIVERS = 5, 3
TOLERANCES = {"float32": 1e-5, "split": 5e-5, "bfloat16": 3e-2}
TOLERANCE = TOLERANCES["float32"]


@dataclass(frozen=True)
class Case:
    layers: int = 1
    hidden: int = 20
    days: int = 40
    batch: int = 3
    conditioning: str = "both"
    head: str = "carbon"
    climatology: bool = True
    own_forcing: bool = False
    embedding: int = 0

    def __str__(self) -> str:
        shape = f"{self.layers}x{self.hidden} T{self.days} B{self.batch} {self.conditioning} {self.head}"
        extras = ("climatology", "own_forcing", "embedding")
        return " ".join([shape, *(name for name in extras if getattr(self, name))])

    def network(self) -> LSTMSurrogate:
        torch.manual_seed(1)
        network = LSTMSurrogate(
            STATICS,
            DRIVERS,
            hidden_size=self.hidden,
            num_layers=self.layers,
            conditioning=self.conditioning,
            head=self.head,
            climatology=self.climatology,
            static_embedding=self.embedding,
        )
        if self.head == "carbon":
            torch.nn.init.normal_(network.head.gain.weight, std=0.3)
            network.head.flux_scale.copy_(torch.tensor([3.0, 2.0, 1.0]))
        return network.requires_grad_(False)

    def inputs(self):
        torch.manual_seed(2)
        static = torch.randn(self.batch, STATICS)
        return static, torch.randn(self.batch if self.own_forcing else 1, self.days, DRIVERS)


SIZES = [
    Case(hidden=8, days=1, batch=1),
    Case(hidden=32, days=31, batch=50, own_forcing=True),
    Case(hidden=96, days=70, batch=3),
    Case(hidden=128, days=32, batch=1),
    Case(layers=2, hidden=20, days=33, batch=50),
    Case(layers=2, hidden=128, days=33, batch=3, own_forcing=True),
    Case(layers=3, hidden=8, days=70, batch=3),
    Case(layers=3, hidden=32, days=1, batch=3, own_forcing=True),
]
MAKES = [
    Case(conditioning="concat", head="linear", climatology=False),
    Case(conditioning="concat", layers=2, own_forcing=True),
    Case(conditioning="initial_state", climatology=False),
    Case(conditioning="initial_state", head="linear", layers=3, own_forcing=True),
    Case(conditioning="both", head="linear", layers=2),
    Case(conditioning="both", climatology=False, own_forcing=True, embedding=4),
    Case(conditioning="both", embedding=4, layers=2),
]
CASES = SIZES + MAKES
every_case = pytest.mark.parametrize("case", CASES, ids=str)


class Frozen:
    """One case through a kernel, beside the network itself in float64."""

    def __init__(self, case: Case, build):
        self.network, (self.static, self.forcing) = case.network(), case.inputs()
        self.folded = FoldedLSTM(self.network, self.forcing, build)
        self.exact = copy.deepcopy(self.network).double()

    def simulate_exactly(self, static, rows=None):
        forcing = self.forcing.double()
        return self.exact(static.double(), forcing if rows is None or len(forcing) == 1 else forcing[rows])


def off(found, expected):
    """Largest difference, relative to the largest number."""
    assert found.shape == expected.shape
    return ((found - expected).abs().max() / expected.abs().max().clamp_min(1e-6)).item()


def pull(simulate, static, weights, **kwargs):
    static = static.detach().clone().requires_grad_()
    (weights * simulate(static, **kwargs)).sum().backward()
    return static.grad


def check_simulation(frozen, rows=None, tolerance=TOLERANCE):
    static = frozen.static if rows is None else frozen.static[rows]
    assert off(frozen.folded(static, rows), frozen.simulate_exactly(static, rows)) < tolerance


def check_pull(frozen, rows=None, tolerance=TOLERANCE):
    static = frozen.static if rows is None else frozen.static[rows]
    weights = torch.randn(frozen.folded(static, rows).shape)
    expected = pull(frozen.simulate_exactly, static.double(), weights.double(), rows=rows)
    assert off(pull(frozen.folded, static, weights, rows=rows), expected) < tolerance


def check_push(frozen, rows=None, tolerance=TOLERANCE):
    """Tangents against central differences, whose own error in float64 is near 1e-9, along the axes and askew."""
    static = frozen.static if rows is None else frozen.static[rows]
    directions = torch.cat([torch.eye(STATICS), torch.randn(2, STATICS)]).repeat(len(static), 1, 1)
    directions[:, -1] = torch.randn(len(static), STATICS)
    simulated, tangents = frozen.folded.push(static, directions, rows)
    assert off(simulated, frozen.simulate_exactly(static, rows)) < max(tolerance, TOLERANCE)
    nudges = 1e-6 * directions.double().transpose(0, 1)
    expected = torch.stack(
        [
            (frozen.simulate_exactly(static + nudge, rows) - frozen.simulate_exactly(static - nudge, rows)) / 2e-6
            for nudge in nudges
        ],
        dim=-1,
    )
    assert off(tangents, expected) < tolerance


def check_push_is_the_transpose_of_pull(frozen):
    """The same linear map both ways: (J v) w and v (J' w)."""
    weights = torch.randn(frozen.folded(frozen.static).shape)
    _, tangents = frozen.folded.push(frozen.static, torch.eye(STATICS).repeat(len(frozen.static), 1, 1))
    assert off(torch.einsum("btvk,btv->bk", tangents, weights), pull(frozen.folded, frozen.static, weights)) < TOLERANCE


def check_some_members(build):
    """A subset, out of order and repeated, meets its own forcing, and each member's numbers are its own."""
    frozen, rows = Frozen(Case(layers=2, batch=6, own_forcing=True), build), torch.tensor([4, 1, 1, 5])
    check_simulation(frozen, rows)
    check_pull(frozen, rows)
    check_push(frozen, rows)


def check_what_was_kept(build):
    """Tangents where one has just simulated are those found afresh."""
    frozen = Frozen(Case(layers=2, batch=3), build)
    directions = torch.randn(3, 4, STATICS)
    fresh = frozen.folded.push(frozen.static, directions)
    frozen.folded(frozen.static)
    for found, expected in zip(frozen.folded.push(frozen.static, directions), fresh, strict=True):
        assert off(found, expected) < 1e-6


def check_inputs_stay(build):
    """A pass leaves what it is given as it was."""
    frozen = Frozen(Case(layers=1), build)
    kernel, entry = frozen.folded.kernel, frozen.folded._enter(frozen.static, None)
    tangent = frozen.folded._push_entry(entry, frozen.static, torch.randn(3, 4, STATICS), None)
    given = [*entry.member, *tangent.member, cotangent := torch.randn(3, 40, 3)]
    before = [part.clone() for part in given]
    _, kept = kernel.simulate(entry.member, None)
    kernel.pull(entry.member, None, kept, cotangent)
    kernel.push(entry.member, None, tangent.member, kept)
    assert all(map(torch.equal, given, before))


def check_first_days(build):
    """The first days of a kernel are those of a kernel for shorter forcing, up to the order of additions."""
    frozen = Frozen(Case(layers=2, climatology=False, days=70), build)
    shorter, short = frozen.folded.first(33), FoldedLSTM(frozen.network, frozen.forcing[:, :33], build)
    weights, directions = torch.randn(3, 33, 4), torch.randn(3, 4, STATICS)
    assert off(shorter(frozen.static), short(frozen.static)) < 1e-6
    assert off(pull(shorter, frozen.static, weights), pull(short, frozen.static, weights)) < 1e-6
    assert off(shorter.push(frozen.static, directions)[1], short.push(frozen.static, directions)[1]) < 1e-6


def check_nan_stays_with_its_member(build):
    frozen = Frozen(Case(layers=2), build)
    clean = frozen.folded(frozen.static)
    frozen.static[1, 0] = torch.nan
    simulated, tangents = frozen.folded.push(frozen.static, torch.eye(STATICS).repeat(3, 1, 1))
    assert simulated[1].isnan().all()
    assert tangents[1].isnan().all()
    assert pull(frozen.folded, frozen.static, torch.ones_like(clean))[1].isnan().all()
    assert off(frozen.folded(frozen.static)[[0, 2]], clean[[0, 2]]) < 1e-6
    assert frozen.folded(frozen.static)[1].isnan().all()


def check_saturated_gates(build):
    """Gates of several hundred neither overflow nor lose the exact zeros and ones that they have."""
    frozen = Frozen(Case(head="linear", conditioning="concat"), build)
    frozen.static *= 1e4
    gates = frozen.static @ frozen.network.lstm.weight_ih_l0[:, DRIVERS:].T
    assert gates.abs().median() > 100.0
    check_simulation(frozen)
    simulated, tangents = frozen.folded.push(frozen.static, torch.eye(STATICS).repeat(3, 1, 1))
    assert simulated.isfinite().all()
    assert tangents.isfinite().all()
