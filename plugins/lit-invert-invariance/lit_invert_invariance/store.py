"""Where validations are kept: `logs/<name>/validation/version_N`, beside the runs that they speak for.

A validation belongs to one surrogate, its weights and its spec; another one, or the same under another scaling, has none.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from lit_invert import FrozenSurrogate
from lit_invert.atomic import write_text
from lit_invert.errors import ResultsError
from lit_invert.results import list_versions, to_json

FOLDER, FILE = "validation", "validation.json"
#: What later runs read of a validation, and of which keys they read what.
_KEYS: Mapping[str, set[str]] = {
    "created": set(),
    "surrogate": {"fingerprint"},
    "decision": {"confirmed", "sentence"},
    "numbers": {"retention"},
    "literal": set(),
    "settings": set(),
    "verdicts": set(),
}


def fingerprint(surrogate: FrozenSurrogate) -> str:
    """Return the SHA-256 of a surrogate's weights and spec together."""
    spec = json.dumps(asdict(surrogate.spec), sort_keys=True, default=str)
    return hashlib.sha256(f"{surrogate.sha256}{spec}".encode()).hexdigest()


def write_validation(folder: Path, validation: Mapping[str, Any]) -> None:
    """Write validation.json into a folder, whole or not at all."""
    write_text(folder / FILE, to_json(validation))


def read_validation(folder: Path) -> dict[str, Any]:
    """Return the content of a folder's validation.json.

    Raises:
        ResultsError: If the file is missing or damaged.
    """
    path = folder / FILE
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ResultsError(f"{folder}: has no `{FILE}`. Run `lit-invert check-surrogate` again.") from None
    except (OSError, ValueError) as error:
        raise ResultsError(f"{path}: is damaged, expected JSON ({error}). Run `lit-invert check-surrogate` again.") from error
    if not isinstance(values, dict) or not all(key in values and _KEYS[key] <= _keys_of(values[key]) for key in _KEYS):
        raise ResultsError(f"{path}: is damaged, it is not what a validation writes. Run `lit-invert check-surrogate` again.")
    return values


def _keys_of(value: object) -> set[str]:
    return set(value) if isinstance(value, dict) else set()


def latest_validation(runs: Path | None, wanted: str | None = None) -> Path | None:
    """Return the folder of the newest finished validation.

    Args:
        runs: Folder of all runs of a name.
        wanted: Fingerprint of the surrogate that it must be of; any when omitted.

    Raises:
        ResultsError: If a validation is damaged.
    """
    if runs is None:
        return None
    for folder in reversed(list_versions(runs / FOLDER)):
        if (folder / FILE).is_file() and wanted in (None, read_validation(folder)["surrogate"]["fingerprint"]):
            return folder
    return None
