"""The recurrent network that stands in for a process model.

An LSTM reads the forcing day by day; its hidden state plays the part of the model's pools. Static parameters enter in two
places, because they act in two ways: beside every day's forcing (`concat`), as rates do, and in the state before the first
day (`initial_state`), as the pools left by a spin-up do. The spin-up also depends on the climate, so the initial state may
be told a summary of the first year's forcing (`climatology`).
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..errors import ShapeError, SurrogateError, suggest

Conditioning = Literal["concat", "initial_state", "both"]
Head = Literal["linear", "carbon"]

YEAR = 365
CONDITIONINGS = ("concat", "initial_state", "both")


class LinearHead(nn.Module):
    """Any outputs, one linear map of the hidden state each.

    Args:
        hidden_size: Size of the hidden state.
        n_output: Number of outputs.
    """

    def __init__(self, hidden_size: int, n_output: int) -> None:
        super().__init__()
        self.output = nn.Linear(hidden_size, n_output)

    def forward(self, hidden: Tensor, daily: Tensor, member: Tensor) -> Tensor:
        """Map the hidden state; the day's inputs and the member's embedding are not used."""
        simulated: Tensor = self.output(hidden)
        return simulated


class CarbonHead(nn.Module):
    r"""Gross production, plant and soil respiration; net fluxes follow, so the carbon balance holds by construction.

    .. math::
        (GPP, R_a, R_h)_i = s_i\, e^{g_i}\, \mathrm{softplus}(w_i^\top z_t + b_i), \quad
        NPP = GPP - R_a, \quad NEP = NPP - R_h

    The features :math:`z_t = \mathrm{silu}(A h_t + D x_t)` see the day's inputs beside the hidden state, so the recurrence is free
    to remember and need not pass on today's weather. The gain :math:`g` is linear in the member's embedding: capacities and
    pool sizes multiply fluxes.

    Args:
        hidden_size: Size of the hidden state.
        daily_size: Size of a day's inputs.
        member_size: Size of the member's embedding.
    """

    flux_scale: Tensor

    def __init__(self, hidden_size: int, daily_size: int, member_size: int) -> None:
        super().__init__()
        self.from_hidden = nn.Linear(hidden_size, 2 * hidden_size)
        self.from_daily = nn.Linear(daily_size, 2 * hidden_size, bias=False)
        self.flux = nn.Linear(2 * hidden_size, 3)
        self.gain = nn.Linear(member_size, 3)
        nn.init.zeros_(self.gain.weight)
        nn.init.zeros_(self.gain.bias)
        self.register_buffer("flux_scale", torch.ones(3))

    def forward(self, hidden: Tensor, daily: Tensor, member: Tensor) -> Tensor:
        """Return GPP, NPP, NEP and Rh [gC m-2 d-1] in that order."""
        features = functional.silu(self.from_hidden(hidden) + self.from_daily(daily))
        return self.fluxes(self.flux(features), self.gain(member))

    def fluxes(self, z: Tensor, gain: Tensor) -> Tensor:
        """Return the fluxes from the last linear map (B, T, 3) and the logarithmic gains (B, 3)."""
        return self.balance((self.flux_scale * torch.exp(gain))[:, None] * functional.softplus(z))

    @staticmethod
    def balance(gross: Tensor) -> Tensor:
        """Return GPP, NPP, NEP and Rh from GPP, Ra and Rh (..., 3)."""
        gpp, autotrophic, heterotrophic = gross.unbind(-1)
        npp = gpp - autotrophic
        return torch.stack([gpp, npp, npp - heterotrophic, heterotrophic], dim=-1)


class LSTMSurrogate(nn.Module):
    """An LSTM over the forcing, conditioned on static parameters.

    Args:
        n_static: Number of static parameters.
        n_forcing: Number of drivers.
        n_output: Number of outputs; the carbon head has 4.
        hidden_size: Size of the hidden state.
        num_layers: Stacked LSTM layers.
        conditioning: Where the static parameters enter: beside each day's forcing, in the initial state, or both.
        dropout: Dropout between stacked layers while training.
        head: `linear` for any outputs, `carbon` for GPP, NPP, NEP and Rh whose balance closes.
        climatology: Whether the initial state also sees mean and spread of the first year's forcing.
        static_embedding: Size of a learned embedding of the static parameters; 0 uses them as they are.

    Raises:
        SurrogateError: If the conditioning or head is unknown, or the carbon head is asked for other than 4 outputs.

    Example:
        >>> network = LSTMSurrogate(n_static=3, n_forcing=2, hidden_size=8)
        >>> network(torch.zeros(5, 3), torch.zeros(1, 10, 2)).shape
        torch.Size([5, 10, 4])

    Source:
        Kratzert et al. (2019), doi:10.5194/hess-23-5089-2019, for static inputs in an LSTM.
    """

    def __init__(
        self,
        n_static: int,
        n_forcing: int,
        n_output: int = 4,
        hidden_size: int = 96,
        num_layers: int = 1,
        conditioning: Conditioning = "both",
        dropout: float = 0.0,
        head: Head = "carbon",
        climatology: bool = True,
        static_embedding: int = 0,
    ) -> None:
        super().__init__()
        _check_choices(conditioning, head, n_output)
        self.conditioning = conditioning
        self.climatology = climatology
        self.n_static, self.hidden_size, self.num_layers = n_static, hidden_size, num_layers
        member_size = static_embedding or n_static
        self.embedding: nn.Module = (
            nn.Sequential(nn.Linear(n_static, 2 * member_size), nn.SiLU(), nn.Linear(2 * member_size, member_size))
            if static_embedding
            else nn.Identity()
        )
        self.beside = conditioning != "initial_state"
        daily_size = n_forcing + (member_size if self.beside else 0)
        self.lstm = nn.LSTM(
            daily_size,
            hidden_size,
            num_layers,
            batch_first=True,
            dropout=dropout if num_layers > 1 else 0.0,
        )
        if conditioning != "concat":
            self.initial = nn.Sequential(
                nn.Linear(member_size + (2 * n_forcing if climatology else 0), 128),
                nn.SiLU(),
                nn.Linear(128, 2 * num_layers * hidden_size),
            )
        self.head: nn.Module = (
            CarbonHead(hidden_size, daily_size, member_size) if head == "carbon" else LinearHead(hidden_size, n_output)
        )

    def forward(self, static: Tensor, forcing: Tensor, climate: Tensor | None = None) -> Tensor:
        """Simulate.

        Args:
            static: Scaled static parameters, a `batch x n_static` tensor.
            forcing: Scaled forcing, a `batch x time x n_forcing` tensor; batch may be 1.
            climate: What `climate` returns, where it is not that of this forcing's own first year.

        Returns:
            A `batch x time x n_output` tensor.

        Raises:
            ShapeError: If the batches of both do not match.
        """
        batch = static.shape[0]
        if forcing.shape[0] not in (1, batch):
            raise ShapeError(
                f"forcing has batch {forcing.shape[0]} but static parameters have batch {batch}; expected 1 or {batch}."
            )
        member = self.embedding(static)
        if self.climatology and climate is None:
            climate = self.climate(forcing)
        state = None if self.conditioning == "concat" else self.initial_state(member, climate)
        daily = forcing.expand(batch, -1, -1)
        if self.beside:
            daily = torch.cat([daily, member[:, None].expand(-1, forcing.shape[1], -1)], dim=-1)
        hidden, _ = self.lstm(daily, state)
        simulated: Tensor = self.head(hidden, daily, member)
        return simulated

    def climate(self, forcing: Tensor) -> Tensor:
        """Return mean and spread of the first year's scaled forcing, (1 or B, 2 F)."""
        first_year = forcing[:, :YEAR]
        return torch.cat([first_year.mean(1), first_year.std(1, correction=0)], dim=-1)

    def known(self, member: Tensor, climate: Tensor | None) -> Tensor:
        """Return what the state before the first day depends on: the member, and the climate where it is told."""
        return member if climate is None else torch.cat([member, climate.expand(member.shape[0], -1)], dim=-1)

    def initial_state(self, member: Tensor, climate: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return hidden and cell state before the first day, each (L, B, H)."""
        state = self.initial(self.known(member, climate)).reshape(member.shape[0], 2, self.num_layers, self.hidden_size)
        hidden, cell = state.permute(1, 2, 0, 3).contiguous().unbind(0)
        return torch.tanh(hidden), cell


def _check_choices(conditioning: str, head: str, n_output: int) -> None:
    if conditioning not in CONDITIONINGS:
        raise SurrogateError(f"LSTM conditioning {conditioning!r} is unknown.{suggest(conditioning, CONDITIONINGS)}")
    if head not in ("linear", "carbon"):
        raise SurrogateError(f"LSTM head {head!r} is unknown.{suggest(head, ('linear', 'carbon'))}")
    if head == "carbon" and n_output != 4:
        raise SurrogateError(f"the carbon head has 4 outputs (gpp, npp, nep, rh), found n_output = {n_output}. Use head: linear.")
