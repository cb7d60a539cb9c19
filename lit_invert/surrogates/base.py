"""What a surrogate is: a frozen network and the spec that says what goes in and what comes out.

A network maps `(static, forcing) -> simulated`, batched: static (B, P), forcing (B, T, F), or a dict of such tensors for windowed
models, and simulated (B, T, V). The :class:`SurrogateSpec` beside its weights names every input and output with unit and scaling;
:class:`FrozenSurrogate` joins both, keeps the weights as they are, and speaks physical units on the outside: gC m-2 d-1.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from ..atomic import write_text
from ..errors import ShapeError, SurrogateError, suggest
from ..observations import FLUX_UNITS
from ..transforms import Scaler
from .windows import MOST_DAYS, WindowedNetwork, Windows, widest_layer

#: Forcing of a network: one tensor (B, T, F), or named tensors for windowed models.
Forcing: TypeAlias = Tensor | dict[str, Tensor]


@dataclass(frozen=True)
class Variable:
    """One input or output of a surrogate, with its scaling: scaled = (x - mean) / std, of log x where `log` is true."""

    name: str
    unit: str = ""
    mean: float = 0.0
    std: float = 1.0
    log: bool = False
    minimum: float | None = None
    """Smallest value in training [physical unit]."""
    maximum: float | None = None
    """Largest value in training [physical unit]."""


@dataclass(frozen=True)
class SurrogateSpec:
    """Everything about a surrogate that its weights do not say; stored as JSON beside them."""

    name: str
    statics: tuple[Variable, ...]
    """Static parameters in input order."""
    drivers: tuple[Variable, ...]
    """Drivers in input order."""
    outputs: tuple[Variable, ...]
    """Outputs in order, e.g. gpp, npp, nep, rh."""
    loader: str = "lstm"
    """Name of the loader that builds the network: lstm, import, torchscript, export, or a plugin's."""
    weights: str | None = None
    """File with the weights, beside the spec."""
    sha256: str | None = None
    """Hash of that file; checked before it is opened."""
    architecture: dict[str, Any] = field(default_factory=dict)
    """What the loader needs to build the network."""
    static_scaled: bool = True
    """Whether the network takes scaled static parameters."""
    forcing_scaled: bool = True
    """Whether the network takes scaled forcing."""
    outputs_scaled: bool = False
    """Whether the network returns scaled outputs."""
    warmup_days: int = 0
    """Days at the start of a run that no loss and no score may use; the context of its windows where it has some."""
    fixed_length: int | None = None
    """Number of days that the network is tied to, if it is."""
    windows: Windows | None = None
    """How the network cuts time, if it simulates a window at a time; a run may then have any length from one window up."""
    accuracy: dict[str, float] = field(default_factory=dict)
    """RMSE of each output against the process model on held-out members [gC m-2 d-1]."""
    description: str = ""

    def __post_init__(self) -> None:
        """Count the first context of a windowed network, which it cannot simulate, as warm-up."""
        if self.windows is not None and self.warmup_days == 0:
            object.__setattr__(self, "warmup_days", self.windows.context_days)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], where: str = "surrogate spec") -> SurrogateSpec:
        """Build a spec from plain values.

        Raises:
            SurrogateError: If a key is unknown or missing, or a value has the wrong type.
        """
        known = [f.name for f in fields(cls)]
        for key in values:
            if key not in known:
                raise SurrogateError(f"{where}: unknown key {key!r}.{suggest(key, known)}")
        for key in ("name", "statics", "drivers", "outputs"):
            if key not in values:
                raise SurrogateError(f"{where}: key {key!r} is missing; a spec needs name, statics, drivers and outputs.")
        _check_kind("warmup_days", values.get("warmup_days", 0), "a whole number", where)  # windows may replace it below
        lists = {key: _variables(values[key], key, where) for key in ("statics", "drivers", "outputs")}
        spec = cls(**{**values, **lists, "windows": Windows.from_dict(values.get("windows"), where)})
        _check_spec(spec, where)
        return spec

    @classmethod
    def load(cls, path: Path) -> SurrogateSpec:
        """Read a spec from a JSON file.

        Raises:
            SurrogateError: If the file is missing, not JSON, or malformed.
        """
        if not path.exists():
            raise SurrogateError(f"{path}: surrogate spec not found. Check `surrogate.spec` in the config.")
        return cls.from_dict(read_object(path), str(path))

    def save(self, path: Path) -> None:
        """Write the spec as JSON."""
        write_text(path, json.dumps(asdict(self), indent=1) + "\n")

    def static_scaler(self) -> Scaler:
        """Return the scaling of the static parameters."""
        return _scaler(self.statics)

    @property
    def shortest_run(self) -> int:
        """Fewest days that can be simulated."""
        return self.fixed_length or (1 if self.windows is None else self.windows.days)

    @property
    def output_names(self) -> tuple[str, ...]:
        """Names of the outputs in order."""
        return tuple(v.name for v in self.outputs)


_KINDS: Mapping[str, tuple[type, ...]] = {
    "text": (str,),
    "text or null": (str, type(None)),
    "true or false": (bool,),
    "a whole number": (int,),
    "a whole number or null": (int, type(None)),
    "a number": (int, float),
    "a number or null": (int, float, type(None)),
    "an object": (dict,),
}
_SPEC_KINDS: Mapping[str, str] = {
    "name": "text",
    "loader": "text",
    "weights": "text or null",
    "sha256": "text or null",
    "architecture": "an object",
    "static_scaled": "true or false",
    "forcing_scaled": "true or false",
    "outputs_scaled": "true or false",
    "warmup_days": "a whole number",
    "fixed_length": "a whole number or null",
    "accuracy": "an object",
    "description": "text",
}
_VARIABLE_KINDS: Mapping[str, str] = {
    "name": "text",
    "unit": "text",
    "mean": "a number",
    "std": "a number",
    "log": "true or false",
    "minimum": "a number or null",
    "maximum": "a number or null",
}


def _variables(values: Any, key: str, where: str) -> tuple[Variable, ...]:
    if not isinstance(values, (list, tuple)) or not values:
        raise SurrogateError(f"{where}: {key!r} must be a list with at least one variable, found {values!r:.60}.")
    known = [f.name for f in fields(Variable)]
    variables = []
    for number, value in enumerate(values, start=1):
        if isinstance(value, Variable):
            variables.append(value)
            continue
        if not isinstance(value, dict) or "name" not in value:
            raise SurrogateError(f"{where}: {key} number {number} must be an object with a 'name', found {value!r:.60}.")
        for name in value:
            if name not in known:
                raise SurrogateError(f"{where}: {key} {value['name']!r} has unknown key {name!r}.{suggest(name, known)}")
        variables.append(Variable(**value))
    return tuple(variables)


def _check_spec(spec: SurrogateSpec, where: str) -> None:
    _check_kinds(spec, _SPEC_KINDS, where)
    for key in ("statics", "drivers", "outputs"):
        variables: tuple[Variable, ...] = getattr(spec, key)
        names = [v.name for v in variables]
        for variable in variables:
            if names.count(variable.name) > 1:
                raise SurrogateError(f"{where}: {key} names {variable.name!r} twice; names must be unique.")
            _check_variable(variable, f"{where}: {key} {variable.name!r}")
    for variable in spec.outputs:
        if variable.unit and variable.unit not in FLUX_UNITS:
            raise SurrogateError(
                f"{where}: unit {variable.unit!r} of output {variable.name!r} is not a flux unit."
                f"{suggest(variable.unit, FLUX_UNITS)}"
            )
    _check_accuracy(spec, where)
    _check_days(spec, where)
    if spec.windows is not None:
        _check_windowed(spec, spec.windows, where)


def _check_accuracy(spec: SurrogateSpec, where: str) -> None:
    for name, error in spec.accuracy.items():
        if name not in spec.output_names:
            raise SurrogateError(f"{where}: 'accuracy' names {name!r}, which is no output.{suggest(name, spec.output_names)}")
        if isinstance(error, bool) or not isinstance(error, (int, float)) or not _is_finite(error):
            raise SurrogateError(f"{where}: 'accuracy' of {name!r} is {error!r:.60}, expected a finite number.")


def _check_days(spec: SurrogateSpec, where: str) -> None:
    for key, fewest in (("warmup_days", 0), ("fixed_length", 1)):
        days = getattr(spec, key)
        if days is not None and not fewest <= days <= MOST_DAYS:
            raise SurrogateError(
                f"{where}: {key!r} is {days!r:.60}, expected a whole number of days, {fewest} or more, at most {MOST_DAYS}."
            )


def _check_windowed(spec: SurrogateSpec, windows: Windows, where: str) -> None:
    if spec.fixed_length is not None:
        raise SurrogateError(f"{where}: has 'fixed_length' and 'windows'. Windows state the network's length; leave the first out.")
    if spec.warmup_days < windows.context_days:
        raise SurrogateError(
            f"{where}: 'warmup_days' is {spec.warmup_days}, expected {windows.context_days} or more: a network of windows "
            "simulates nothing in its first context. Mend it, or leave it out."
        )


def _check_variable(variable: Variable, where: str) -> None:
    _check_kinds(variable, _VARIABLE_KINDS, where)
    for key in ("mean", "std", "minimum", "maximum"):
        value = getattr(variable, key)
        if value is not None and not _is_finite(value):
            raise SurrogateError(f"{where}: {key!r} is {value!r:.60}, expected a finite number.")
    if variable.std <= 0:
        raise SurrogateError(f"{where}: 'std' is {variable.std!r}, expected it above zero.")
    if variable.minimum is not None and variable.maximum is not None and variable.minimum > variable.maximum:
        raise SurrogateError(f"{where}: 'minimum' {variable.minimum!r} is above 'maximum' {variable.maximum!r}.")


def _check_kinds(values: SurrogateSpec | Variable, kinds: Mapping[str, str], where: str) -> None:
    for key, kind in kinds.items():
        _check_kind(key, getattr(values, key), kind, where)


def _check_kind(key: str, value: object, kind: str, where: str) -> None:
    allowed = _KINDS[kind]
    # To Python `true` is an int, but it is nobody's number of days.
    if not isinstance(value, allowed) or (isinstance(value, bool) and bool not in allowed):
        raise SurrogateError(f"{where}: {key!r} is {value!r:.60}, expected {kind}.")


def _is_finite(number: float) -> bool:
    """Whether a number fits a float; JSON has whole numbers of any length."""
    try:
        return math.isfinite(number)
    except OverflowError:
        return False


def _scaler(variables: tuple[Variable, ...]) -> Scaler:
    return Scaler(
        torch.tensor([v.mean for v in variables], dtype=torch.float64),
        torch.tensor([v.std for v in variables], dtype=torch.float64),
        torch.tensor([v.log for v in variables]),
    )


class FrozenSurrogate(nn.Module):
    """A trained network that is never trained again, in physical units on the outside.

    Its weights take no gradient, dropout stays off and batch statistics stay fixed even when a Trainer calls `.train()`; recurrent
    layers alone stay in training mode with dropout 0, because cuDNN refuses the backward pass of an RNN in evaluation mode.

    Args:
        network: The trained module `(static, forcing) -> simulated`.
        spec: What its inputs and outputs mean.
        sha256: Hash of the weights as loaded; computed from the tensors when omitted.

    Example:
        >>> spec = SurrogateSpec("toy", (Variable("a"),), (Variable("rain"),), (Variable("nep", "MgC ha-1 d-1"),))
        >>> class Sum(nn.Module):
        ...     def forward(self, static, forcing):
        ...         return static[:, None, :1] + forcing
        >>> surrogate = FrozenSurrogate(Sum(), spec)
        >>> surrogate(torch.ones(1, 1), surrogate.prepare(torch.zeros(1, 2, 1))).flatten().tolist()
        [100.0, 100.0]
    """

    _output_mean: Tensor
    _output_std: Tensor
    _unit_factor: Tensor

    def __init__(self, network: nn.Module, spec: SurrogateSpec, sha256: str | None = None) -> None:
        super().__init__()
        network.requires_grad_(False)
        self.network = network if spec.windows is None else WindowedNetwork(network, spec.windows)
        self.spec = spec
        self.static_scaler = spec.static_scaler().to(torch.get_default_dtype())
        self.forcing_scaler = _scaler(spec.drivers).to(torch.get_default_dtype())
        dtype = torch.get_default_dtype()
        for name, values in (
            ("_output_mean", [v.mean for v in spec.outputs]),
            ("_output_std", [v.std for v in spec.outputs]),
            ("_unit_factor", [FLUX_UNITS.get(v.unit, 1.0) for v in spec.outputs]),
        ):
            self.register_buffer(name, torch.tensor(values, dtype=dtype), persistent=False)
        self.sha256 = sha256 or weights_hash(network)
        self.train(False)

    def train(self, mode: bool = True) -> FrozenSurrogate:
        """Stay frozen whatever the mode: only recurrent layers are told that they train, with dropout 0."""
        super().train(False)
        for module in self.network.modules():
            if isinstance(module, nn.RNNBase):
                module.dropout = 0.0
                module.training = True
        return self

    def prepare(self, forcing: Forcing) -> Forcing:
        """Scale physical forcing (B, T, F) as the network wants it; done once, since forcing never changes.

        Raises:
            ShapeError: If the number of drivers or the length does not fit the spec.
        """
        if isinstance(forcing, dict):
            return forcing
        if forcing.shape[-1] != len(self.spec.drivers):
            names = ", ".join(v.name for v in self.spec.drivers)
            raise ShapeError(
                f"forcing has {forcing.shape[-1]} drivers but surrogate {self.spec.name!r} expects "
                f"{len(self.spec.drivers)}: {names}."
            )
        length = self.spec.fixed_length
        if length is not None and forcing.shape[-2] != length:
            raise ShapeError(
                f"forcing has {forcing.shape[-2]} days but surrogate {self.spec.name!r} was exported for exactly {length}. "
                "Choose a period of that length, or export the surrogate again."
            )
        return self.forcing_scaler.to_scaled(forcing) if self.spec.forcing_scaled else forcing

    def forward(self, static: Tensor, forcing: Forcing) -> Tensor:
        """Simulate the fluxes.

        Args:
            static: Scaled static parameters, a (B, P)-dim tensor.
            forcing: What `prepare` returned, batch B or 1.

        Returns:
            A (B, T, V)-dim tensor in the order of `spec.outputs` [gC m-2 d-1].

        Raises:
            SurrogateError: If the network returns anything but one tensor.
            ShapeError: If that is not of shape (batch, time, outputs of the spec).
        """
        if not self.spec.static_scaled:
            static = self.static_scaler.to_physical(static)
        simulated: Tensor = self.network(static, _expand(forcing, static.shape[0]))
        self._check_simulated(simulated, static, forcing)
        return self.to_fluxes(simulated)

    def to_fluxes(self, simulated: Tensor) -> Tensor:
        """Return what the network gives in gC m-2 d-1."""
        if self.spec.outputs_scaled:
            simulated = simulated * self._output_std + self._output_mean
        return simulated * self._unit_factor

    @property
    def flux_factor(self) -> Tensor:
        """Change of the fluxes with the network's outputs, (V,)."""
        return self._output_std * self._unit_factor if self.spec.outputs_scaled else self._unit_factor

    @property
    def width(self) -> int:
        """Widest layer of the network, for rough counts of memory; 64 where nothing tells."""
        return widest_layer(self.network)

    def _check_simulated(self, simulated: object, static: Tensor, forcing: Forcing) -> None:
        if not isinstance(simulated, Tensor):
            raise SurrogateError(
                f"surrogate {self.spec.name!r} returned a {type(simulated).__name__}, expected one tensor "
                "(batch, time, outputs). Wrap the network so that it returns the fluxes alone."
            )
        # The length of a windowed simulation is known to the network alone.
        time = "time" if isinstance(forcing, dict) else forcing.shape[-2]
        expected = (static.shape[0], time, len(self.spec.outputs))
        shape = tuple(simulated.shape)
        if len(shape) != 3 or any(a != b for a, b in zip(shape, expected, strict=True) if b != "time"):
            raise ShapeError(
                f"surrogate {self.spec.name!r} returned shape {shape}, expected {expected} as (batch, time, outputs) "
                f"for outputs {', '.join(self.spec.output_names)}. Mend its spec, or the network."
            )


def _expand(forcing: Forcing, batch: int) -> Forcing:
    """Give forcing of batch 1 the batch of the static parameters, without copying."""
    if isinstance(forcing, dict):
        return {name: _expand_tensor(value, batch) for name, value in forcing.items()}
    return _expand_tensor(forcing, batch)


def _expand_tensor(value: Tensor, batch: int) -> Tensor:
    return value if value.shape[0] == batch else value.expand(batch, *value.shape[1:])


def weights_hash(network: nn.Module) -> str:
    """Return the SHA-256 of a network's weights, names included, whatever the device."""
    digest = hashlib.sha256()
    for name, value in sorted(network.state_dict().items()):
        digest.update(name.encode())
        if isinstance(value, Tensor):
            digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def file_hash(path: Path) -> str:
    """Return the SHA-256 of a file."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def read_object(path: Path) -> dict[str, Any]:
    """Read a JSON file that holds one object.

    Raises:
        SurrogateError: If it cannot be read, or holds anything else.
    """
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise SurrogateError(f"{path}: is not a JSON file ({error}).") from error
    if not isinstance(values, dict):
        raise SurrogateError(f"{path}: expected a JSON object, found {type(values).__name__}.")
    return values
