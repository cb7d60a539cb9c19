"""What hooks may be implemented, what they may return, and collecting it by name with its owner."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import pluggy

from .. import builtin, hookspecs
from ..errors import suggest
from ..extensions import HOOK_API, Check, Command, ConfigSection, ReportSection, Solver
from ..guards import GuardedObject, PluginInfo, attributed
from ..losses import LossTerm
from ..transforms import Transform

#: Names of all hooks.
HOOKS = tuple(sorted(name for name, value in vars(hookspecs).items() if hasattr(value, f"{hookspecs.PROJECT}_spec")))
#: Hooks that will go, and what to use instead.
DEPRECATED_HOOKS: dict[str, str] = {}


def register(manager: pluggy.PluginManager, plugin: PluginInfo) -> None:
    """Register one plugin, and check its hooks before the next is looked at, so that the guilty one is known."""
    _check_hook_api(plugin)
    try:
        manager.register(plugin.module, plugin.name)
        manager.check_pending()
    except (pluggy.PluginValidationError, ValueError) as error:
        for hook in plugin.hooks:
            if hook not in HOOKS:
                raise plugin.error(hook, f"lit-invert has no such hook.{suggest(hook, HOOKS)}") from error
        raise plugin.error("registration", " ".join(str(error).split()) + ".") from error
    for hook in plugin.hooks:
        if hook in DEPRECATED_HOOKS:
            _deprecate(plugin, f"hook {hook!r} will go; {DEPRECATED_HOOKS[hook]}")


def _check_hook_api(plugin: PluginInfo) -> None:
    version = plugin.hook_api
    if not isinstance(version, int):
        raise plugin.error("HOOK_API", f"it is {version!r}, expected a whole number such as {HOOK_API}.")
    if version > HOOK_API:
        raise plugin.error("HOOK_API", f"it needs hooks of version {version}, this lit-invert has {HOOK_API}; upgrade lit-invert.")
    if version < HOOK_API:
        _deprecate(plugin, f"it was written for hooks of version {version}, this lit-invert has {HOOK_API}; look for a newer one")


def _deprecate(plugin: PluginInfo, message: str) -> None:
    warnings.warn(f"plugin {plugin.name!r} ({plugin.label}): {message}.", DeprecationWarning, stacklevel=2)


@dataclass(frozen=True)
class Kind:
    """What the items of one hook are."""

    hook: str
    what: str
    """One of them in words, e.g. `loss term`."""
    expected: str
    """What they must be, in words."""
    accepts: Callable[[Any], bool]
    """The same as a test."""
    key: str = "name"
    """Attribute that holds their unique name."""


def _classes_of(hook: str, what: str, base: type) -> Kind:
    return Kind(
        hook,
        what,
        f"concrete subclasses of {base.__name__}",
        lambda item: isinstance(item, type) and issubclass(item, base) and not inspect.isabstract(item),
    )


def instances_of(hook: str, what: str, base: type, key: str = "name") -> Kind:
    """Return the kind of a hook whose items are instances of a class."""
    return Kind(hook, what, f"instances of {base.__name__}", lambda item: isinstance(item, base), key)


def _objects_with(hook: str, what: str, *methods: str) -> Kind:
    return Kind(
        hook,
        what,
        f"objects with name and {', '.join(methods)}",
        lambda item: not isinstance(item, type) and all(callable(getattr(item, method, None)) for method in methods),
    )


KINDS = (
    _classes_of("register_loss_terms", "loss term", LossTerm),
    _classes_of("register_transforms", "transform", Transform),
    _objects_with("register_surrogate_loaders", "surrogate loader", "load"),
    _objects_with("register_process_models", "process model", "__call__"),
    instances_of("register_solvers", "solver", Solver),
    instances_of("register_config_sections", "config section", ConfigSection, key="key"),
    _objects_with("register_data_readers", "data reader", "can_read", "read"),
    instances_of("register_checks", "check", Check),
    instances_of("register_commands", "command", Command),
    instances_of("register_report_sections", "report section", ReportSection, key="title"),
)


def collect(
    manager: pluggy.PluginManager, plugins: Iterable[PluginInfo], kind: Kind, owners: dict[type, PluginInfo]
) -> dict[str, Any]:
    """Return what plugins register with one hook, by name; note whose the classes are."""
    found: dict[str, tuple[Any, PluginInfo]] = {}
    for plugin in plugins:
        for item in call_list(manager, plugin, kind):
            name = getattr(item, kind.key, None)
            if not (isinstance(name, str) and name):
                raise plugin.error(kind.hook, f"{kind.what} {item!r:.80} has no {kind.key}; give it a unique text.")
            if name in found:
                other = found[name][1]
                raise plugin.error(
                    kind.hook, f"{kind.what} {name!r} is already registered by plugin {other.name!r} ({other.label}); rename it."
                )
            found[name] = (item, plugin)
            if isinstance(item, type):
                owners[item] = plugin
    return {name: _guarded(*found[name], kind, name) for name in sorted(found)}


def _guarded(item: Any, plugin: PluginInfo, kind: Kind, name: str) -> Any:
    """Put a guard in front of a plugin's object; classes and our own stay bare."""
    if isinstance(item, type) or plugin.module is builtin or kind.hook == "register_config_sections":
        return item
    return GuardedObject(item, plugin, f"{kind.what} {name!r}")


def call_list(manager: pluggy.PluginManager, plugin: PluginInfo, kind: Kind, **arguments: object) -> list[Any]:
    """Call one hook of one plugin and check that it returns a list of what it should."""
    if kind.hook not in plugin.hooks:
        return []
    items = call(manager, plugin, kind.hook, **arguments)
    if not isinstance(items, list):
        raise plugin.error(kind.hook, f"it returned {type(items).__name__}, expected a list.")
    for item in items:
        if not kind.accepts(item):
            raise plugin.error(kind.hook, f"it returned {item!r:.80} in its list, expected {kind.expected}.")
    return items


def call(manager: pluggy.PluginManager, plugin: PluginInfo, hook: str, **arguments: object) -> Any:
    """Call one hook of one plugin, if it has it; `manager.hook` would call all of them and name none."""
    for implementation in getattr(manager.hook, hook).get_hookimpls():
        if implementation.plugin_name == plugin.name:
            with attributed(plugin, hook):
                return implementation.function(*(arguments[name] for name in implementation.argnames))
    return None
