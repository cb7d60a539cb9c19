"""From a spec and its weights to a frozen surrogate, without running anybody's code unasked.

A spec names a loader; the loader builds the network from the file beside the spec:

* `lstm`: this project's :class:`~lit_invert.surrogates.lstm.LSTMSurrogate`, weights in safetensors;
* `import`: any `nn.Module` by its class path, weights as safetensors or as a state dict of tensors;
* `torchscript`: an archive of `torch.jit`, which can execute code and must be trusted;
* `export`: an archive of `torch.export`, tied to one length. It is trusted by the user too: opening
  one unpickles its constants and evaluates its symbolic shapes.

Where the spec states a hash, the file is compared with it before anything opens it. Every network
then simulates a few days of average weather, so that one that does not fit its spec fails here.
"""

from __future__ import annotations

import warnings
import zipfile
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path, PureWindowsPath
from typing import Any, ClassVar

import safetensors.torch
import torch
from torch import Tensor, nn

from ..errors import LitInvertError, SurrogateError, suggest
from ..trust import Trust
from .base import FrozenSurrogate, SurrogateSpec, file_hash
from .lstm import LSTMSurrogate

#: Days of the dry run of a network that is not tied to a length.
_DRY_DAYS = 30


class SurrogateLoader(ABC):
    """Builds a network from a spec; a plugin returns its own from `register_surrogate_loaders`."""

    name: ClassVar[str]
    """What a spec says as `loader` to choose it."""

    @abstractmethod
    def load(self, spec: SurrogateSpec, weights: Path | None, trust: Trust) -> nn.Module:
        """Build the network, weights included.

        Args:
            spec: The surrogate's spec.
            weights: The file that the spec names, if it names one; its hash was checked.
            trust: What the user allowed; a loader that can execute code must ask it first.

        Returns:
            A module `(static (B, P), forcing (B, T, F)) -> simulated (B, T, V)`.

        Raises:
            SurrogateError: If the file is damaged or does not fit the spec.
            TrustError: If the user did not allow what loading would execute.
        """


class LSTMLoader(SurrogateLoader):
    """This project's LSTM; `architecture` holds its arguments."""

    name = "lstm"

    def load(self, spec: SurrogateSpec, weights: Path | None, trust: Trust) -> nn.Module:
        """Build the LSTM and fill it with its tensors."""
        path = _needed(weights, spec)
        network = _build(LSTMSurrogate, spec.architecture, spec)
        return _fill(network, read_tensors(path), path)


class ImportLoader(SurrogateLoader):
    """Any module by class path; `architecture` holds `class_path` and `init_args`."""

    name = "import"

    def load(self, spec: SurrogateSpec, weights: Path | None, trust: Trust) -> nn.Module:
        """Import the class under the policy, build it, and fill in its tensors if it has any."""
        where, known = f"surrogate spec {spec.name!r}, `architecture`", ("class_path", "init_args")
        for key in spec.architecture:
            if key not in known:
                raise SurrogateError(f"{where}: unknown key {key!r}.{suggest(key, known)}")
        class_path = spec.architecture.get("class_path")
        if not isinstance(class_path, str):
            raise SurrogateError(f"{where}: `class_path` is {class_path!r}, expected a full path, e.g. 'models.Net'.")
        built = trust.import_class(class_path, nn.Module, where)
        network = _build(built, spec.architecture.get("init_args", {}), spec)
        return network if weights is None else _fill(network, read_tensors(weights), weights)


class TorchScriptLoader(SurrogateLoader):
    """An archive of `torch.jit`."""

    name = "torchscript"

    def load(self, spec: SurrogateSpec, weights: Path | None, trust: Trust) -> nn.Module:
        """Open the archive, if the user trusts it."""
        path = _needed(weights, spec)
        trust.check_file(path, "a TorchScript archive")
        _check_archive(path)
        try:
            with warnings.catch_warnings():
                # torch steers users towards `torch.export`; the archives that exist stay readable.
                warnings.simplefilter("ignore", DeprecationWarning)
                return ArchivedNetwork(torch.jit.load(path, map_location="cpu").eval())
        except Exception as error:
            raise _damaged(path, "a TorchScript archive", error) from error


class ExportLoader(SurrogateLoader):
    """An archive of `torch.export`; its graph holds one length, device and precision."""

    name = "export"

    def load(self, spec: SurrogateSpec, weights: Path | None, trust: Trust) -> nn.Module:
        """Open the archive, if the user trusts it."""
        path = _needed(weights, spec)
        if spec.fixed_length is None:
            raise SurrogateError(
                f"surrogate spec {spec.name!r}: `fixed_length` is missing; a graph of "
                "`torch.export` is tied to the number of days that it was exported with. State it."
            )
        trust.check_file(path, "an archive of `torch.export`")
        _check_archive(path)
        try:
            return ArchivedNetwork(torch.export.load(path).module())
        except Exception as error:
            raise _damaged(path, "an archive of `torch.export`", error) from error


class ArchivedNetwork(nn.Module):
    """A network whose graph was recorded in evaluation mode and cannot change mode any more.

    Its recurrent layers, if any, have that mode written into the graph, and cuDNN computes no
    gradient of a recurrent layer in evaluation mode; the plain kernels do.

    Args:
        archive: The module that was loaded.
    """

    def __init__(self, archive: nn.Module) -> None:
        super().__init__()
        self.archive = archive

    def train(self, mode: bool = True) -> ArchivedNetwork:
        """Stay as recorded; an exported graph raises when told to train."""
        return self

    def forward(self, static: Tensor, forcing: Tensor) -> Tensor:
        """Run the recorded graph."""
        with torch.backends.cudnn.flags(enabled=False):
            simulated: Tensor = self.archive(static, forcing)
        return simulated


#: The loaders of this package.
LOADERS: list[SurrogateLoader] = [LSTMLoader(), ImportLoader(), TorchScriptLoader(), ExportLoader()]


def load_surrogate(spec_path: str | Path, loaders: Mapping[str, SurrogateLoader], trust: Trust) -> FrozenSurrogate:
    """Load a surrogate: read its spec, check its weights, build it, freeze it, and try it once.

    Args:
        spec_path: The spec's JSON file; its weights lie beside it.
        loaders: Known loaders by name.
        trust: What the user allowed.

    Returns:
        The frozen surrogate.

    Raises:
        SurrogateError: If spec, weights and network are missing, damaged or do not fit together.
        TrustError: If loading would execute what the user did not allow.
    """
    spec_path = Path(spec_path)
    spec = SurrogateSpec.load(spec_path)
    if spec.loader not in loaders:
        raise SurrogateError(f"{spec_path}: loader {spec.loader!r} is unknown.{suggest(spec.loader, loaders)}")
    weights = None if spec.weights is None else _resolve(spec_path, spec.weights)
    sha256 = None if weights is None else _check_hash(weights, spec)
    network = loaders[spec.loader].load(spec, weights, trust)
    surrogate = FrozenSurrogate(network, spec, sha256)
    _check_fits(surrogate)
    return surrogate


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Read named tensors from safetensors, or from a state dict that holds nothing but tensors.

    Args:
        path: A file of safetensors if it ends so, of `torch.save` otherwise.

    Returns:
        The tensors by name, on the CPU.

    Raises:
        SurrogateError: If the file is damaged, or holds anything else.
    """
    try:
        if path.suffix == ".safetensors":
            return safetensors.torch.load_file(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise _damaged(path, "tensors", error) from error
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise SurrogateError(
            f"{path}: expected a state dict of named tensors, found {_describe(state)}. "
            "Save `network.state_dict()`, or use safetensors."
        )
    return state


def _describe(state: object) -> str:
    if not isinstance(state, dict):
        return f"a value of type {type(state).__name__}"
    odd = next(key for key, value in state.items() if not isinstance(value, Tensor))
    return f"a value of type {type(state[odd]).__name__} under {odd!r}"


def _needed(weights: Path | None, spec: SurrogateSpec) -> Path:
    if weights is None:
        raise SurrogateError(
            f"surrogate spec {spec.name!r}: loader {spec.loader!r} needs `weights`, the name of a file beside the spec."
        )
    return weights


def _resolve(spec_path: Path, name: str) -> Path:
    """Return the weights' path, which must lie in the spec's folder or below."""
    parts = PureWindowsPath(name)  # knows both kinds of slashes, and drives
    path = spec_path.parent / name
    outside = not path.resolve().is_relative_to(spec_path.parent.resolve())
    if parts.is_absolute() or parts.anchor or ".." in parts.parts or outside:
        raise SurrogateError(
            f"{spec_path}: `weights` is {name!r}, which leaves the spec's folder. "
            "Put the file beside the spec and give its name alone."
        )
    if not path.is_file():
        raise SurrogateError(f"{spec_path}: weights {name!r} not found beside the spec.")
    return path


def _check_hash(weights: Path, spec: SurrogateSpec) -> str:
    found = file_hash(weights)
    if spec.sha256 is not None and spec.sha256.lower() != found:
        raise SurrogateError(
            f"{weights}: sha256 is {found}, but spec {spec.name!r} expects {spec.sha256}. "
            "The file is damaged or another one; fetch it again, or mend the spec."
        )
    return found


def _check_archive(path: Path) -> None:
    """Refuse what is no whole zip file, as both kinds of archive are, before torch reads it."""
    if not zipfile.is_zipfile(path):
        raise SurrogateError(f"{path}: is not a whole archive of torch. Fetch or export it again.")


def _damaged(path: Path, kind: str, error: Exception) -> SurrogateError:
    return SurrogateError(f"{path}: cannot be read as {kind} ({_line(error)}). Fetch it again.")


def _line(error: Exception) -> str:
    """Return the first line of an error, short enough to stand inside another message."""
    lines = str(error).strip().splitlines()
    return f"{lines[0]:.160}" if lines else type(error).__name__


def _build(built: type[nn.Module], arguments: Any, spec: SurrogateSpec) -> nn.Module:
    where = f"surrogate spec {spec.name!r}: {built.__name__} cannot be built from `architecture`"
    if not isinstance(arguments, dict):
        raise SurrogateError(f"{where}: expected named arguments, found {arguments!r:.60}.")
    try:
        return built(**arguments)
    except LitInvertError:
        raise
    except Exception as error:
        raise SurrogateError(f"{where} ({_line(error)}). Mend its arguments.") from error


def _fill(network: nn.Module, tensors: Mapping[str, Tensor], path: Path) -> nn.Module:
    """Load the tensors, all of them and nothing else."""
    wanted = network.state_dict()
    for name, value in wanted.items():
        if name not in tensors:
            raise SurrogateError(
                f"{path}: tensor {name!r} of {type(network).__name__} is missing. "
                "Check `architecture` in the spec, or save the weights again."
            )
        if tensors[name].shape != value.shape:
            raise SurrogateError(
                f"{path}: tensor {name!r} has shape {tuple(tensors[name].shape)}, the architecture "
                f"expects {tuple(value.shape)}. Mend `architecture` in the spec."
            )
    for name in tensors:
        if name not in wanted:
            raise SurrogateError(
                f"{path}: tensor {name!r} has no place in {type(network).__name__}. Check `architecture` in the spec."
            )
    network.load_state_dict(dict(tensors))
    return network


def _check_fits(surrogate: FrozenSurrogate) -> None:
    """Simulate average weather with average parameters once."""
    spec = surrogate.spec
    days = _DRY_DAYS if spec.fixed_length is None else spec.fixed_length
    average = surrogate.forcing_scaler.to_physical(torch.zeros(1, days, len(spec.drivers)))
    try:
        with torch.no_grad():
            simulated = surrogate(torch.zeros(1, len(spec.statics)), surrogate.prepare(average))
    except LitInvertError:
        raise
    except Exception as error:
        raise SurrogateError(
            f"surrogate {spec.name!r} cannot take {len(spec.statics)} statics, "
            f"{len(spec.drivers)} drivers and {days} days as its spec says ({_line(error)}). "
            "Mend the spec, or the network."
        ) from error
    if not bool(torch.isfinite(simulated).all()):
        raise SurrogateError(
            f"surrogate {spec.name!r} simulates values that are not finite from average weather "
            "and parameters. Check its weights and the scaling in its spec."
        )
