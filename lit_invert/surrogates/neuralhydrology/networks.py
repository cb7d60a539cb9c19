"""The networks of neuralhydrology as ours: one LSTM, a GRU, and what may stand before and behind them.

Three of the package's models are one LSTM whose tensors go by other names. The EA-LSTM, whose input gate sees the static attributes
alone and whose other gates see everything else, is an LSTM too: one with zeros in its place for what a gate does not see. All of
them are therefore our :class:`~lit_invert.surrogates.lstm.LSTMSurrogate`, and run in its kernels unless inputs are embedded.

Source:
    Kratzert et al. (2019), doi:10.5194/hess-23-5089-2019, for the EA-LSTM.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ...errors import SurrogateError, suggest
from ..lstm import LinearHead, LSTMSurrogate
from ..weights import damaged

_MODELS = ("cudalstm", "customlstm", "lstm", "embcudalstm", "ealstm", "gru")
_ACTIVATIONS: Mapping[str, type[nn.Module]] = {
    "linear": nn.Identity,
    "relu": nn.ReLU,
    "sigmoid": nn.Sigmoid,
    "softplus": nn.Softplus,
    "tanh": nn.Tanh,
}
_OUTPUT_ACTIVATIONS = ("linear", "relu", "softplus")
_EMBEDDING_ACTIVATIONS = ("linear", "relu", "sigmoid", "tanh")

#: How tensors of the package begin, and how ours do. Earlier versions have one embedding of dynamic inputs and no list.
_PREFIXES: Mapping[str, str] = {
    "embedding_net.statics_embedding.net.": "statics.",
    "embedding_net.dynamics_embedding.net.": "dynamics.",
    "embedding_net.dynamics_embeddings.0.net.": "dynamics.",
    "head.net.0.": "network.head.output.",
    "lstm.": "network.lstm.",
    "gru.": "network.gru.",
    "cell.w_ih": "network.lstm.weight_ih_l0",
    "cell.w_hh": "network.lstm.weight_hh_l0",
    "cell.b_ih": "network.lstm.bias_ih_l0",
    "cell.b_hh": "network.lstm.bias_hh_l0",
}


@dataclass(frozen=True)
class Embedding:
    """A fully connected network before the recurrent one; its last layer is linear."""

    hiddens: tuple[int, ...]
    activation: str = "tanh"

    @property
    def size(self) -> int:
        """Number of values that it returns."""
        return self.hiddens[-1]


@dataclass(frozen=True)
class Architecture:
    """What a config of neuralhydrology says about the network."""

    model: str
    hidden_size: int
    output_activation: str = "linear"
    statics_embedding: Embedding | None = None
    dynamics_embedding: Embedding | None = None

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], where: str) -> Architecture:
        """Build it from the plain values in a spec.

        Raises:
            SurrogateError: If a key is unknown, or names what is not supported here.
        """
        known = tuple(cls.__dataclass_fields__)
        for key in values:
            if key not in known:
                raise SurrogateError(f"{where}: unknown key {key!r}.{suggest(key, known)}")
        model = str(values.get("model")).lower()
        _check_choice("model", model, _MODELS, where)
        activation = str(values.get("output_activation", "linear")).lower()
        _check_choice("output_activation", activation, _OUTPUT_ACTIVATIONS, where)
        hidden_size = values.get("hidden_size")
        if not isinstance(hidden_size, int) or hidden_size < 1:
            raise SurrogateError(f"{where}: `hidden_size` is {hidden_size!r:.60}, expected a whole number, 1 or more.")
        embeddings = {key: _parse_embedding(key, values.get(key), where) for key in ("statics_embedding", "dynamics_embedding")}
        return cls(model, hidden_size, activation, **embeddings)


def _parse_embedding(key: str, values: Any, where: str) -> Embedding | None:
    if values is None:
        return None
    hiddens = values.get("hiddens") if isinstance(values, dict) else None
    if not isinstance(hiddens, list) or not hiddens or not all(isinstance(size, int) and size > 0 for size in hiddens):
        raise SurrogateError(f"{where}: `{key}` is {values!r:.60}, expected `hiddens`, a list of sizes, and `activation`.")
    activation = str(values.get("activation", "tanh")).lower()
    _check_choice(f"{key}.activation", activation, _EMBEDDING_ACTIVATIONS, where)
    return Embedding(tuple(hiddens), activation)


def _check_choice(key: str, value: str, known: tuple[str, ...], where: str) -> None:
    if value not in known:
        raise SurrogateError(f"{where}: `{key}` is {value!r:.60}, which is not supported.{suggest(value, known)}")


class GRUNetwork(nn.Module):
    """A GRU over each day's forcing with the static parameters beside it.

    Args:
        n_static: Number of static parameters.
        n_forcing: Number of drivers.
        n_output: Number of outputs.
        hidden_size: Size of the hidden state.
    """

    def __init__(self, n_static: int, n_forcing: int, n_output: int, hidden_size: int) -> None:
        super().__init__()
        self.gru = nn.GRU(n_forcing + n_static, hidden_size, batch_first=True)
        self.head = LinearHead(hidden_size, n_output)

    def forward(self, static: Tensor, forcing: Tensor) -> Tensor:
        """Simulate: static (B, P) and forcing (B or 1, T, F), both scaled, to outputs (B, T, V)."""
        days = forcing.shape[1]
        daily = torch.cat([forcing.expand(len(static), -1, -1), static[:, None].expand(-1, days, -1)], dim=-1)
        hidden, _ = self.gru(daily)
        simulated: Tensor = self.head(hidden, daily, static)
        return simulated


class EmbeddedNetwork(nn.Module):
    """A recurrent network between embeddings of its inputs and an activation of its outputs.

    Args:
        statics: Embedding of the static parameters.
        dynamics: Embedding of each day's forcing.
        network: The recurrent network.
        activation: Activation of the outputs.
    """

    def __init__(self, statics: nn.Module, dynamics: nn.Module, network: nn.Module, activation: nn.Module) -> None:
        super().__init__()
        self.statics, self.dynamics, self.network, self.activation = statics, dynamics, network, activation

    @property
    def is_plain(self) -> bool:
        """Whether the recurrent network alone does the same."""
        return all(isinstance(part, nn.Identity) for part in (self.statics, self.dynamics, self.activation))

    def forward(self, static: Tensor, forcing: Tensor) -> Tensor:
        """Simulate: static (B, P) and forcing (B or 1, T, F), both scaled, to outputs (B, T, V)."""
        simulated: Tensor = self.activation(self.network(self.statics(static), self.dynamics(forcing)))
        return simulated


def build_network(architecture: Architecture, n_static: int, n_forcing: int, n_output: int) -> EmbeddedNetwork:
    """Build the network of a run, without its weights.

    Args:
        architecture: What the config says of it.
        n_static: Number of static parameters.
        n_forcing: Number of drivers.
        n_output: Number of outputs.

    Example:
        >>> network = build_network(Architecture("ealstm", hidden_size=8, statics_embedding=Embedding((5, 2))), 3, 4, 1)
        >>> network(torch.zeros(6, 3), torch.zeros(1, 10, 4)).shape
        torch.Size([6, 10, 1])
        >>> network.is_plain
        False
    """
    statics, n_static = _embed(architecture.statics_embedding, n_static)
    dynamics, n_forcing = _embed(architecture.dynamics_embedding, n_forcing)
    sizes = {"n_static": n_static, "n_forcing": n_forcing, "n_output": n_output, "hidden_size": architecture.hidden_size}
    network: nn.Module = (
        GRUNetwork(**sizes)
        if architecture.model == "gru"
        else LSTMSurrogate(**sizes, conditioning="concat", head="linear", climatology=False)
    )
    return EmbeddedNetwork(statics, dynamics, network, _ACTIVATIONS[architecture.output_activation]())


def _embed(embedding: Embedding | None, size: int) -> tuple[nn.Module, int]:
    """Return an embedding and its size; the places of its layers are the package's, dropout included."""
    if embedding is None:
        return nn.Identity(), size
    layers: list[nn.Module] = []
    for before, after in zip((size, *embedding.hiddens[:-1]), embedding.hiddens, strict=True):
        layers += [nn.Linear(before, after), _ACTIVATIONS[embedding.activation](), nn.Dropout()]
    return nn.Sequential(*layers[:-2]), embedding.size


def rename_tensors(tensors: Mapping[str, Tensor], architecture: Architecture, path: Path) -> dict[str, Tensor]:
    """Return the package's tensors under the names of :func:`build_network`.

    Args:
        tensors: Tensors by the package's names.
        architecture: The architecture that they are for.
        path: The file that they are from, for the error.

    Raises:
        SurrogateError: If tensors of an EA-LSTM are missing or do not fit together.
    """
    own = {
        name: value for name, value in tensors.items() if not name.startswith("cudalstm.")
    }  # embcudalstm names all of them twice
    if architecture.model == "ealstm":
        try:
            own = _as_lstm(own)
        except (KeyError, IndexError, RuntimeError, ValueError) as error:
            raise damaged(path, "an EA-LSTM of neuralhydrology", error) from error
    return {_rename(name): value for name, value in own.items()}


def _rename(name: str) -> str:
    return next((name.replace(old, new, 1) for old, new in _PREFIXES.items() if name.startswith(old)), name)


def _as_lstm(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    r"""Turn the gates of an EA-LSTM into those of an LSTM over days :math:`(x_t, s)`.

    .. math::
        W_i = (0, A), \quad W_k = (B_k, 0), \quad U_i = 0 \qquad k = f, g, o

    for an input gate :math:`i = \sigma(A s + b)` and other gates of :math:`B_k x_t + U_k h_{t-1} + b_k`.
    """
    rest = dict(tensors)
    statics, bias = rest.pop("input_gate.weight"), rest.pop("input_gate.bias")
    forget, output, cell = rest.pop("dynamic_gates.weight_ih").t().chunk(3)
    of_forget, of_output, of_cell = rest.pop("dynamic_gates.weight_hh").t().chunk(3)
    forget_bias, output_bias, cell_bias = rest.pop("dynamic_gates.bias").chunk(3)
    dynamics = torch.cat([torch.zeros_like(forget), forget, cell, output])
    beside = torch.cat([statics, statics.new_zeros(3 * len(statics), statics.shape[1])])
    biases = torch.cat([bias, forget_bias, cell_bias, output_bias])
    return {
        **rest,
        "lstm.weight_ih_l0": torch.cat([dynamics, beside], dim=1),
        "lstm.weight_hh_l0": torch.cat([torch.zeros_like(of_forget), of_forget, of_cell, of_output]),
        "lstm.bias_ih_l0": biases,
        "lstm.bias_hh_l0": torch.zeros_like(biases),
    }
