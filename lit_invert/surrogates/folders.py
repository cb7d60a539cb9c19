"""From a path to the spec of a surrogate: a file says it all, a folder may be the work of another package.

Three kinds of folders are surrogates:

* one with a `spec.json`; weights and architecture may come from their usual places in a folder for the Hugging Face hub, that is
  `model.safetensors`, whole or in shards, and `config.json`;
* one that a loader recognises by the file it is `described_by`, e.g. a run of NeuralHydrology by its `config.yml`;
* one that is both: the loader describes it, and `spec.json` states only what the other package does not know, such as units.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import SurrogateError, suggest
from .base import SurrogateSpec, read_object

if TYPE_CHECKING:
    from .loaders import SurrogateLoader

SPEC = "spec.json"
_WEIGHTS = ("model.safetensors", "model.safetensors.index.json")
_ARCHITECTURE = "config.json"

#: Keys of `config.json` that are the hub's bookkeeping; so is every key that begins with an underscore.
_BOOKKEEPING = frozenset({"architectures", "auto_map", "dtype", "model_type", "torch_dtype", "transformers_version"})


def spec_file(path: Path, loaders: Mapping[str, SurrogateLoader]) -> Path:
    """Return the file that describes a surrogate: the path itself, or in a folder `spec.json` or the other package's own file.

    Args:
        path: A spec's file, or a folder.
        loaders: Known loaders by name.

    Raises:
        SurrogateError: If no file of the folder describes a surrogate.
    """
    if not path.is_dir():
        return path
    names = [SPEC, *(loader.described_by for loader in loaders.values() if loader.described_by is not None)]
    for name in names:
        if (path / name).is_file():
            return path / name
    raise SurrogateError(f"{path}: is a folder without {' or '.join(names)}. Put a spec into it, or name the spec's file.")


def read_spec(path: Path, loaders: Mapping[str, SurrogateLoader]) -> SurrogateSpec:
    """Read the spec of a surrogate from its file, or from a folder.

    Args:
        path: A spec's file, or a folder.
        loaders: Known loaders by name.

    Raises:
        SurrogateError: If the file is missing or malformed, or the folder describes no surrogate.
    """
    if not path.is_dir():
        return SurrogateSpec.load(path)
    found = spec_file(path, loaders)
    described = next(filter(None, (_describe(loader, path) for loader in loaders.values())), None)
    if found.name != SPEC:
        if described is None:
            raise SurrogateError(f"{path}: {found.name} is there, but no loader knows this kind of folder. Put a {SPEC} into it.")
        return described
    stated = read_object(found)
    values = _with_usual_places(path, stated) if described is None else _completed(asdict(described), stated, str(found))
    return SurrogateSpec.from_dict(values, str(found))


def _describe(loader: SurrogateLoader, folder: Path) -> SurrogateSpec | None:
    known = loader.described_by is not None and (folder / loader.described_by).is_file()
    return loader.describe(folder) if known else None


def _with_usual_places(folder: Path, stated: dict[str, Any]) -> dict[str, Any]:
    """Add weights and architecture from where the hub's folders keep them, unless the spec states them."""
    usual: dict[str, Any] = {}
    if stated.get("weights") is None:
        usual["weights"] = next((name for name in _WEIGHTS if (folder / name).is_file()), None)
    if "architecture" not in stated and (folder / _ARCHITECTURE).is_file():
        config = read_object(folder / _ARCHITECTURE)
        usual["architecture"] = {k: v for k, v in config.items() if k not in _BOOKKEEPING and not k.startswith("_")}
    return {**stated, **usual}


def _completed(described: dict[str, Any], stated: dict[str, Any], where: str) -> dict[str, Any]:
    """Let a spec overrule what the folder says, in lists of variables one by one and by name."""
    lists: dict[str, Any] = {
        key: _completed_variables(described[key], stated[key], f"{where}: {key}")
        for key in ("statics", "drivers", "outputs")
        if key in stated
    }
    return {**described, **_warmed_up(described, stated), **stated, **lists}


def _warmed_up(described: dict[str, Any], stated: dict[str, Any]) -> dict[str, Any]:
    """Make the folder's warm-up last the context of the windows that a spec adds."""
    windows = stated.get("windows")
    context = windows.get("context_days") if isinstance(windows, dict) else None
    return {"warmup_days": max(described["warmup_days"], context)} if type(context) is int else {}


def _completed_variables(described: tuple[dict[str, Any], ...], stated: Any, where: str) -> list[dict[str, Any]]:
    variables = {variable["name"]: variable for variable in described}
    if not isinstance(stated, list) or not all(isinstance(values, dict) for values in stated):
        raise SurrogateError(f"{where}: expected a list of variables, found {stated!r:.60}.")
    for values in stated:
        name = str(values.get("name"))
        if name not in variables:
            raise SurrogateError(f"{where}: {name!r} is no variable of this folder's network.{suggest(name, variables)}")
        variables[name] = {**variables[name], **values}
    return list(variables.values())
