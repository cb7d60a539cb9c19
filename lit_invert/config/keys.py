"""Keys of a config by name: which one was meant, and what a value should have been, in words."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable

_WORDS = {
    "int": "a whole number",
    "float": "a number",
    "str": "text",
    "bool": "true or false",
    "list": "a list",
    "dict": "a block of keys",
    "tuple": "a list",
    "Sequence": "a list",
    "NoneType": "null",
}


def suggest_key(key: str, known: Iterable[str]) -> str:
    """Say which key was probably meant.

    Args:
        key: The unknown key, nested ones joined by dots.
        known: Every right key.

    Returns:
        Text that starts with a space: the key of that name in another block, the nearest of the same block, or all of that block.

    Example:
        >>> suggest_key("inversion.lrr", ["inversion.lr", "inversion.solver", "data.path"])
        ' Did you mean `inversion.lr`?'
        >>> suggest_key("lr", ["inversion.lr", "name"])
        ' Did you mean `inversion.lr`?'
        >>> suggest_key("inversion.foo", ["inversion.lr", "inversion.solver"])
        ' Known: lr, solver.'
    """
    keys = sorted(set(known))
    block, _, name = key.rpartition(".")
    elsewhere = [k for k in keys if k.rpartition(".")[2] == name]
    siblings = {k.rpartition(".")[2]: k for k in keys if k.rpartition(".")[0] == block}
    near = [siblings[n] for n in difflib.get_close_matches(name, siblings, n=1)]
    nearest = elsewhere or near or ([] if siblings else difflib.get_close_matches(key, keys, n=1))
    if nearest:
        return f" Did you mean `{nearest[0]}`?"
    return f" Known: {', '.join(siblings)}." if siblings else ""


def in_words(kind: str) -> str:
    """Say what a type is, as the parser writes it, to somebody who writes YAML.

    Example:
        >>> in_words("<class 'float'>")
        'a number'
        >>> in_words("typing.Literal['auto', 'none']")
        "one of 'auto', 'none'"
        >>> in_words("list[int]")
        'a list'
    """
    literal = re.fullmatch(r"typing\.Literal\[(.+)\]", kind)
    if literal:
        return f"one of {literal[1]}"
    name = re.sub(r"<class '(.+)'>", r"\1", kind).partition("[")[0].rpartition(".")[2]
    return _WORDS.get(name, f"{'an' if name[:1] in 'AEIOU' else 'a'} {name}")
