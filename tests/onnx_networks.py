"""Small networks that emulate the toy process, trained in a second, and their export to ONNX by either of torch's exporters."""

from __future__ import annotations

import warnings
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn

from lit_invert.testing import ToyNetwork

N_STATIC, N_FORCING, N_OUTPUT = 3, 3, 4


def beside(static, forcing):
    """Put the static parameters beside the forcing of every day."""
    return torch.cat([static[:, None].expand(-1, forcing.shape[1], -1), forcing], dim=-1)


class LSTM(nn.Module):
    """Two layers, an embedding of the static parameters, a layer norm."""

    def __init__(self, hidden=12):
        super().__init__()
        self.embedding = nn.Linear(N_STATIC, 4)
        self.rnn = nn.LSTM(N_FORCING + 4, hidden, 2, batch_first=True)
        self.norm = nn.LayerNorm(hidden)
        self.head = nn.Linear(hidden, N_OUTPUT)

    def forward(self, static, forcing):
        return self.head(self.norm(self.rnn(beside(torch.tanh(self.embedding(static)), forcing))[0]))


class GRU(nn.Module):
    """The static parameters make the state before the first day, and the fluxes keep their budget."""

    def __init__(self, hidden=12):
        super().__init__()
        self.initial = nn.Linear(N_STATIC, hidden)
        self.rnn = nn.GRU(N_STATIC + N_FORCING, hidden, batch_first=True)
        self.head = nn.Linear(hidden, 3)

    def forward(self, static, forcing):
        hidden, _ = self.rnn(beside(static, forcing), torch.tanh(self.initial(static))[None])
        gpp, share, rh = self.head(hidden).unbind(-1)
        gpp, rh = F.softplus(gpp), F.softplus(rh)
        npp = gpp * torch.sigmoid(share)
        return torch.stack([gpp, npp, npp - rh, rh], dim=-1)


class MLP(nn.Sequential):
    """The same small network for every day."""

    def __init__(self, hidden=24):
        super().__init__(
            *(nn.Linear(N_STATIC + N_FORCING, hidden), nn.GELU(), nn.Linear(hidden, hidden), nn.SiLU(), nn.Dropout(0.1)),
            *(nn.Linear(hidden, hidden), nn.LeakyReLU(), nn.Linear(hidden, N_OUTPUT)),
        )

    def forward(self, static, forcing):
        return super().forward(beside(static, forcing))


class Attention(nn.Module):
    """A causal attention block with two heads."""

    def __init__(self, width=16):
        super().__init__()
        self.into = nn.Linear(N_STATIC + N_FORCING, width)
        self.heads = nn.Linear(width, 3 * width)
        self.mix = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, N_OUTPUT))

    def forward(self, static, forcing):
        batch, days, _ = forcing.shape
        x = self.into(beside(static, forcing))
        parts = [part.reshape(batch, days, 2, -1).transpose(1, 2) for part in self.heads(x).chunk(3, dim=-1)]
        seen = F.scaled_dot_product_attention(*parts, is_causal=True)
        return self.mix(x + seen.transpose(1, 2).reshape(batch, days, -1))


class Convolution(nn.Module):
    """Two causal convolutions with batch norms."""

    def __init__(self, width=16):
        super().__init__()
        self.first, self.norm = nn.Conv1d(N_STATIC + N_FORCING, width, 3), nn.BatchNorm1d(width)
        self.second, self.head = nn.Conv1d(width, width, 3, dilation=2, groups=2), nn.Conv1d(width, N_OUTPUT, 1)

    def forward(self, static, forcing):
        x = beside(static, forcing).transpose(1, 2)
        x = F.silu(self.norm(self.first(F.pad(x, (2, 0)))))
        x = torch.tanh(self.second(F.pad(x, (4, 0))))
        return self.head(x).transpose(1, 2)


NETWORKS = {"lstm": LSTM, "gru": GRU, "mlp": MLP, "attention": Attention, "convolution": Convolution}


def trained(name, steps=150):
    """Return a network that has learnt the toy process from random members and weather."""
    torch.manual_seed(11)
    network, truth = NETWORKS[name](), ToyNetwork().requires_grad_(False)
    optimiser = torch.optim.Adam(network.parameters(), lr=1e-2)
    for _ in range(steps):
        static, forcing = torch.randn(16, N_STATIC), 0.7 * torch.randn(16, 20, N_FORCING)
        loss = F.mse_loss(network(static, forcing), truth(static, forcing))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return network.eval().requires_grad_(False)


def export(network, path: Path, dynamo=False, opset=18):
    """Write a network as ONNX, with any batch and any number of days."""
    inputs = torch.randn(3, N_STATIC), torch.randn(3, 20, N_FORCING)
    names = {"input_names": ["static", "forcing"], "output_names": ["flux"], "opset_version": opset}
    batch_and_days = {0: "batch", 1: "days"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if not dynamo:
            axes = {"static": {0: "batch"}, "forcing": batch_and_days, "flux": batch_and_days}
            torch.onnx.export(network, inputs, path, dynamo=False, dynamic_axes=axes, **names)
            return path
        batch, days = torch.export.Dim("batch", min=1, max=4096), torch.export.Dim("days", min=2, max=100000)
        shapes = ({0: batch}, {0: batch, 1: days})
        torch.onnx.export(network, inputs, path, dynamo=True, dynamic_shapes=shapes, external_data=False, verbose=False, **names)
    return path
