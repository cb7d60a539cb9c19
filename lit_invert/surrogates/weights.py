"""Files with weights: where they may lie, what they hash to, and the tensors in them.

Weights lie beside their spec or below, never elsewhere, and are compared with the spec's hash before anything opens them. Large
networks come in shards: an index, `model.safetensors.index.json`, then says which file holds which tensor. The shards are held to
the same rules, and hash as one file would: the bytes of all of them, in the order of their names.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path, PureWindowsPath

import safetensors.torch
import torch
from torch import Tensor, nn

from ..errors import SurrogateError
from .base import SurrogateSpec, read_object

_INDEX = ".safetensors.index.json"


def needed(weights: Path | None, spec: SurrogateSpec) -> Path:
    """Return the weights that a loader cannot do without.

    Raises:
        SurrogateError: If the spec names none.
    """
    if weights is None:
        raise SurrogateError(
            f"surrogate spec {spec.name!r}: loader {spec.loader!r} needs `weights`, the name of a file beside the spec."
        )
    return weights


def resolve(folder: Path, name: str, where: str) -> Path:
    """Return the path of a file, which must lie in the folder or below.

    Args:
        folder: The folder of the spec.
        name: What the spec, or an index of shards, calls the file.
        where: Who names it: file and key, for the error.

    Raises:
        SurrogateError: If the file lies elsewhere, or nowhere.
    """
    parts = PureWindowsPath(name)  # knows both kinds of slashes, and drives
    path = folder / name
    try:
        outside, is_there = not path.resolve().is_relative_to(folder.resolve()), path.is_file()
    except (OSError, RuntimeError, ValueError) as error:  # too long, a link to itself, a NUL byte
        raise SurrogateError(
            f"{where} is {name!r:.60}, which is no file ({first_line(error):.60}). Give the name alone."
        ) from error
    if parts.is_absolute() or parts.anchor or ".." in parts.parts or outside:
        raise SurrogateError(
            f"{where} is {name!r}, which leaves the spec's folder. Put the file beside the spec and give its name alone."
        )
    if not is_there:
        raise SurrogateError(f"{where}: weights {name!r} not found beside the spec.")
    return path


def check_hash(weights: Path, spec: SurrogateSpec) -> str:
    """Return the SHA-256 of weights, shards included.

    Raises:
        SurrogateError: If the spec states another.
    """
    digest = hashlib.sha256()
    for path in _files(weights):
        with path.open("rb") as stream:
            while block := stream.read(1 << 20):
                digest.update(block)
    found = digest.hexdigest()
    if spec.sha256 is not None and spec.sha256.lower() != found:
        raise SurrogateError(
            f"{weights}: sha256 is {found}, but spec {spec.name!r} expects {spec.sha256}. "
            "The file is damaged or another one; fetch it again, or mend the spec."
        )
    return found


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Read named tensors from safetensors, from their shards, or from a state dict that holds nothing but tensors.

    Args:
        path: A file of safetensors or an index of such, by the end of its name; of `torch.save` otherwise.

    Returns:
        The tensors by name, on the CPU.

    Raises:
        SurrogateError: If a file is damaged, or holds anything else.
    """
    if path.name.endswith(_INDEX):
        return _read_shards(path)
    try:
        if path.suffix == ".safetensors":
            return safetensors.torch.load_file(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise damaged(path, "tensors", error) from error
    if not isinstance(state, dict) or not all(_is_named_tensor(*item) for item in state.items()):
        raise SurrogateError(
            f"{path}: expected a state dict of named tensors, found {_describe(state)}. "
            "Save `network.state_dict()`, or use safetensors."
        )
    return state


def fill(network: nn.Module, tensors: Mapping[str, Tensor], path: Path) -> nn.Module:
    """Load tensors into a network, all of them and nothing else.

    Args:
        network: The network, as its architecture says.
        tensors: Tensors by name.
        path: The file that they are from, for the error.

    Raises:
        SurrogateError: If a tensor is missing, is left over, or has another shape or kind of numbers.
    """
    check_tensors(network, tensors, path)
    try:
        network.load_state_dict(dict(tensors))
    except Exception as error:
        raise SurrogateError(
            f"{path}: {type(network).__name__} does not take its tensors ({first_line(error)}). Save the weights again."
        ) from error
    return network


def check_tensors(network: nn.Module, tensors: Mapping[str, Tensor], path: Path) -> None:
    """Compare tensors with those that a network wants; it may be on the device `meta`, without memory.

    Args:
        network: The network, as its architecture says.
        tensors: Tensors by name.
        path: The file that they are from, for the error.

    Raises:
        SurrogateError: If a tensor is missing, is left over, or has another shape or kind of numbers.
    """
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
        _check_numbers(tensors[name], value, f"{path}: tensor {name!r}")
    for name in tensors:
        if name not in wanted:
            raise SurrogateError(
                f"{path}: tensor {name!r} has no place in {type(network).__name__}. Check `architecture` in the spec."
            )


def _check_numbers(found: Tensor, wanted: Tensor, where: str) -> None:
    """Refuse what copying would round without a word, such as quantised weights without their scale, or could not copy."""
    is_plain = found.layout == torch.strided and not found.is_quantized and not found.is_meta
    is_alike = (found.is_floating_point(), found.is_complex()) == (wanted.is_floating_point(), wanted.is_complex())
    if not is_plain or not is_alike:
        form = "" if is_plain else " without values" if found.is_meta else f", {found.layout}, not plain"
        raise SurrogateError(
            f"{where} holds {found.dtype}{form}; the architecture expects plain {wanted.dtype}. Save the weights as such."
        )


def damaged(path: Path, kind: str, error: Exception) -> SurrogateError:
    """Return the error of a file that cannot be read as what it should be."""
    return SurrogateError(f"{path}: cannot be read as {kind} ({first_line(error)}). Fetch it again.")


def first_line(error: Exception) -> str:
    """Return the first line of an error, short enough to stand inside another message."""
    lines = str(error).strip().splitlines()
    return f"{lines[0]:.160}" if lines else type(error).__name__


def _is_named_tensor(name: object, value: object) -> bool:
    return isinstance(name, str) and isinstance(value, Tensor)


def _describe(state: object) -> str:
    if not isinstance(state, dict):
        return f"a value of type {type(state).__name__}"
    odd = next(item[0] for item in state.items() if not _is_named_tensor(*item))
    return f"a value of type {type(state[odd]).__name__} under {odd!r:.60}"


def _files(weights: Path) -> list[Path]:
    """Return the files that hold the tensors, in the order of their names."""
    if not weights.name.endswith(_INDEX):
        return [weights]
    shards = sorted(set(_weight_map(weights).values()))
    for shard in shards:
        if not shard.endswith(".safetensors"):
            raise SurrogateError(f"{weights}: shard {shard!r} is not a file of safetensors. Save the network again.")
    return [resolve(weights.parent, shard, f"{weights}: shard") for shard in shards]


def _weight_map(index: Path) -> dict[str, str]:
    places = read_object(index).get("weight_map")
    if not isinstance(places, dict) or not places or not all(isinstance(shard, str) for shard in places.values()):
        raise SurrogateError(f"{index}: expected `weight_map`, from each tensor to the file that holds it. Fetch it again.")
    return places


def _read_shards(index: Path) -> dict[str, Tensor]:
    places, tensors = _weight_map(index), {}
    for shard in _files(index):
        held = read_tensors(shard)
        promised = {name for name, place in places.items() if index.parent / place == shard}
        for name in sorted(promised ^ held.keys()):
            raise SurrogateError(
                f"{index}: tensor {name!r} is {'missing from' if name in promised else 'not expected in'} "
                f"{shard.name!r}. Index and shards are of different networks; fetch all of them again."
            )
        tensors.update(held)
    return tensors
