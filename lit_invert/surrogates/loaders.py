"""From a spec and its weights to a frozen surrogate, without running anybody's code unasked.

A spec, or the folder of a surrogate, names a loader; the loader builds the network from the file beside the spec:

* `lstm`: this project's :class:`~lit_invert.surrogates.lstm.LSTMSurrogate`, weights in safetensors;
* `import`: any `nn.Module` by its class path, weights as safetensors or as a state dict of tensors;
* `torchscript`: an archive of `torch.jit`, which can execute code and must be trusted;
* `export`: an archive of `torch.export`, tied to one length. It is trusted by the user too: opening one unpickles its constants and
  evaluates its symbolic shapes.

Where the spec states a hash, the file is compared with it before anything opens it. Every network then simulates a few days of
average weather (:mod:`~lit_invert.surrogates.dry_run`), so that one that does not fit its spec fails here.
"""

from __future__ import annotations

import warnings
import zipfile
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from ..errors import LitInvertError, SurrogateError, suggest
from ..trust import Trust
from .base import FrozenSurrogate, SurrogateSpec
from .dry_run import check_fits
from .folders import read_spec
from .lstm import LSTMSurrogate
from .weights import check_hash, damaged, fill, first_line, needed, read_tensors, resolve


class SurrogateLoader(ABC):
    """Builds a network from a spec; a plugin returns its own from `register_surrogate_loaders`."""

    name: ClassVar[str]
    """What a spec says as `loader` to choose it."""
    described_by: ClassVar[str | None] = None
    """File by which a folder of another package's is recognised, e.g. `config.yml`; None where the loader knows no such folder."""

    def describe(self, folder: Path) -> SurrogateSpec | None:
        """Describe a folder that holds the file `described_by`; None where it is not of the loader's kind after all.

        Raises:
            SurrogateError: If it is of that kind, but cannot be loaded.
        """
        return None

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
        path = needed(weights, spec)
        network = _build(LSTMSurrogate, spec.architecture, spec)
        return fill(network, read_tensors(path), path)


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
        return network if weights is None else fill(network, read_tensors(weights), weights)


class TorchScriptLoader(SurrogateLoader):
    """An archive of `torch.jit`."""

    name = "torchscript"

    def load(self, spec: SurrogateSpec, weights: Path | None, trust: Trust) -> nn.Module:
        """Open the archive, if the user trusts it."""
        path = needed(weights, spec)
        trust.check_file(path, "a TorchScript archive")
        _check_archive(path)
        try:
            with warnings.catch_warnings():
                # torch steers users towards `torch.export`; the archives that exist stay readable.
                warnings.simplefilter("ignore", DeprecationWarning)
                return ArchivedNetwork(torch.jit.load(path, map_location="cpu").eval())
        except Exception as error:
            raise damaged(path, "a TorchScript archive", error) from error


class ExportLoader(SurrogateLoader):
    """An archive of `torch.export`; its graph holds one length, device and precision."""

    name = "export"

    def load(self, spec: SurrogateSpec, weights: Path | None, trust: Trust) -> nn.Module:
        """Open the archive, if the user trusts it."""
        path = needed(weights, spec)
        if spec.fixed_length is None and spec.windows is None:
            raise SurrogateError(
                f"surrogate spec {spec.name!r}: `fixed_length` is missing; a graph of "
                "`torch.export` is tied to the number of days that it was exported with. State it."
            )
        trust.check_file(path, "an archive of `torch.export`")
        _check_archive(path)
        try:
            return ArchivedNetwork(torch.export.load(path).module())
        except Exception as error:
            raise damaged(path, "an archive of `torch.export`", error) from error


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

    def forward(self, static: Tensor, *forcing: Tensor) -> Tensor:
        """Run the recorded graph; its forcing may come in parts, the context and the horizon of windows."""
        with torch.backends.cudnn.flags(enabled=False):
            simulated: Tensor = self.archive(static, *forcing)
        return simulated


#: The loaders of this package.
LOADERS: list[SurrogateLoader] = [LSTMLoader(), ImportLoader(), TorchScriptLoader(), ExportLoader()]


def load_surrogate(path: str | Path, loaders: Mapping[str, SurrogateLoader], trust: Trust) -> FrozenSurrogate:
    """Load a surrogate: read its spec, check its weights, build it, freeze it, and try it once.

    Args:
        path: The spec's JSON file, whose weights lie beside it, or a folder that describes itself.
        loaders: Known loaders by name.
        trust: What the user allowed.

    Returns:
        The frozen surrogate.

    Raises:
        SurrogateError: If spec, weights and network are missing, damaged or do not fit together.
        TrustError: If loading would execute what the user did not allow.
    """
    path = Path(path)
    spec = read_spec(path, loaders)
    if spec.loader not in loaders:
        raise SurrogateError(f"{path}: loader {spec.loader!r} is unknown.{suggest(spec.loader, loaders)}")
    folder = path if path.is_dir() else path.parent
    weights = None if spec.weights is None else resolve(folder, spec.weights, f"{path}: `weights`")
    sha256 = None if weights is None else check_hash(weights, spec)
    network = loaders[spec.loader].load(spec, weights, trust)
    surrogate = FrozenSurrogate(network, spec, sha256)
    check_fits(surrogate)
    return surrogate


def _check_archive(path: Path) -> None:
    """Refuse what is no whole zip file, as both kinds of archive are, before torch reads it."""
    if not zipfile.is_zipfile(path):
        raise SurrogateError(f"{path}: is not a whole archive of torch. Fetch or export it again.")


def _build(built: type[nn.Module], arguments: Any, spec: SurrogateSpec) -> nn.Module:
    where = f"surrogate spec {spec.name!r}: {built.__name__} cannot be built from `architecture`"
    if not isinstance(arguments, dict):
        raise SurrogateError(f"{where}: expected named arguments, found {arguments!r:.60}.")
    try:
        return built(**arguments)
    except LitInvertError:
        raise
    except Exception as error:
        raise SurrogateError(f"{where} ({first_line(error)}). Mend its arguments.") from error
