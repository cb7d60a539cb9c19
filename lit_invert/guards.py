"""Naming the guilty: what a plugin does wrong carries its name, distribution and version.

Code of plugins runs in two ways. Objects and hooks are *called*: :func:`attributed` turns what they raise into a
:class:`~lit_invert.errors.PluginError`. Loss terms and transforms are *part of the sum*: their values must be right as well, so
:class:`GuardedTerm` looks at each value and gradient, and :func:`check_transform` at a round trip before the first iteration. Our
own terms run bare.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from .errors import LitInvertError, PluginError
from .hookspecs import PROJECT
from .losses import Evaluation, LossTerm, SquaredTerm, Tangent
from .parameters import ParameterSpace


@dataclass(frozen=True)
class PluginInfo:
    """One plugin: a module (or any object) with hook implementations, and where it comes from.

    Args:
        name: Name of its entry point, e.g. `carbon`.
        module: What holds the hook implementations.
        distribution: Name of the installed distribution, e.g. `lit-invert-carbon`.
        version: Version of the distribution.
        is_plugin: False for a package that no plugin registered, whose class a config names.

    Example:
        >>> PluginInfo("carbon", object(), "lit-invert-carbon", "0.1.0").label
        'lit-invert-carbon 0.1.0'
    """

    name: str
    module: Any = field(repr=False)
    distribution: str = "no distribution"
    version: str = ""
    is_plugin: bool = True

    def __getstate__(self) -> dict[str, Any]:
        # Terms carry this into other processes and copies, where a module cannot follow.
        return {**self.__dict__, "module": None}

    @property
    def label(self) -> str:
        """Distribution and version."""
        return f"{self.distribution} {self.version}".strip()

    @property
    def hooks(self) -> tuple[str, ...]:
        """Names of the hooks that it implements, sorted."""
        marked = {name: getattr(getattr(self.module, name), f"{PROJECT}_impl", None) for name in dir(self.module)}
        return tuple(sorted(options.get("specname") or name for name, options in marked.items() if options))

    @property
    def hook_api(self) -> Any:
        """Version of the hooks that it says it was written for; 1 where it says nothing."""
        return getattr(self.module, "HOOK_API", 1)

    @property
    def package(self) -> str:
        """Top-level package of its code."""
        name: str = getattr(self.module, "__name__", type(self.module).__module__)
        return name.partition(".")[0]

    def error(self, place: str, cause: str) -> PluginError:
        """Return the error that names this plugin."""
        return PluginError(self.name, self.label, place, cause, is_installed=self.is_plugin)


@contextmanager
def attributed(plugin: PluginInfo, place: str) -> Iterator[None]:
    """Turn what a plugin's code raises into an error that names the plugin; our own errors pass.

    Args:
        plugin: Whose code runs inside.
        place: Hook or object that runs, for the error.

    Raises:
        PluginError: If the code raises anything but a LitInvertError.

    Example:
        >>> with attributed(PluginInfo("mine", object(), "mine-dist", "1.0"), "register_checks"):
        ...     1 / 0
        Traceback (most recent call last):
        lit_invert.errors.PluginError: plugin 'mine' (mine-dist 1.0) failed in register_checks: ZeroDivisionError: ...
    """
    try:
        yield
    except LitInvertError:
        raise
    except Exception as error:
        message = " ".join(str(error).split())
        raise plugin.error(place, f"{type(error).__name__}: {message}." if message else f"{type(error).__name__}.") from error


class GuardedObject:
    """Stands in front of a plugin's solver, reader, loader, check and so on: whatever its methods raise names the plugin.

    Args:
        target: The plugin's object.
        plugin: The plugin.
        place: What the object is, e.g. `data reader 'icos'`.
    """

    def __init__(self, target: Any, plugin: PluginInfo, place: str) -> None:
        self._target, self._plugin, self._place = target, plugin, place

    @property  # type: ignore[misc]
    def __class__(self) -> Any:
        """Pass for the object in `isinstance`."""
        return type(self._target)

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._target, name)
        return self._guard(value, f"{self._place} ({name})") if callable(value) else value

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the object, as one calls a process model."""
        return self._guard(self._target, self._place)(*args, **kwargs)

    def _guard(self, function: Any, place: str) -> Any:
        @functools.wraps(function, updated=())
        def guarded(*args: Any, **kwargs: Any) -> Any:
            with attributed(self._plugin, place):
                return function(*args, **kwargs)

        return guarded


class GuardedTerm(LossTerm):
    """A plugin's loss term under watch: shape, device, finiteness and gradient of each value are looked at.

    Name and weight are those of the term, so that the total and the logs do not change.

    Args:
        term: The plugin's term.
        plugin: The plugin.
    """

    def __init__(self, term: LossTerm, plugin: PluginInfo) -> None:
        nn.Module.__init__(self)  # not LossTerm's: the weight stays the term's own
        self.term, self.plugin = term, plugin
        #: Number of a member's residuals, once they have been asked for.
        self._count: int | None = None

    @property
    def name(self) -> str:  # type: ignore[override]
        """Name of the term."""
        return self.term.name

    @property
    def weight(self) -> float:
        """Weight of the term."""
        return self.term.weight

    @weight.setter
    def weight(self, value: float) -> None:
        self.term.weight = value

    def forward(self, evaluation: Evaluation) -> Tensor:
        """Return the term of each member, checked, a (B,)-dim tensor.

        Raises:
            PluginError: If the term raises, or its value or gradient is not what a term may return.
        """
        with attributed(self.plugin, self._place):
            value = self.term(self._watch_gradients(evaluation))
        fault = _fault_of(value, evaluation)
        if fault:
            raise self.plugin.error(self._place, fault)
        checked: Tensor = value
        return checked

    def residuals(self, evaluation: Evaluation) -> Tensor | None:
        """Return the term's residuals, checked, a (B, N)-dim tensor, or None.

        Raises:
            PluginError: If the term raises, or the squares do not sum to its value.
        """
        with attributed(self.plugin, self._place):
            residuals = self.term.residuals(evaluation)
        if residuals is None:
            return None
        self._check_shape("residuals are", residuals, (len(evaluation.physical), None))
        self._count = residuals.shape[1]
        if type(self.term).forward is not SquaredTerm.forward:  # whose value is this very sum
            self._check_sum(residuals, evaluation)
        return residuals

    def push_residuals(self, evaluation: Evaluation, tangent: Tangent) -> Tensor:
        """Return the derivative of the residuals along K directions, checked, (B, N, K).

        Raises:
            PluginError: If the term raises, or returns another shape or numbers that are not finite.
        """
        with attributed(self.plugin, self._place):
            pushed = self.term.push_residuals(evaluation, tangent)
        self._check_shape("`push_residuals` returned", pushed, (len(evaluation.physical), self._count, tangent.scaled.shape[1]))
        if not bool(pushed.isfinite().all()) and bool(tangent.simulated.isfinite().all()):
            raise self.plugin.error(self._place, "its `push_residuals` is not finite though the tangents of the fluxes are.")
        checked: Tensor = pushed
        return checked

    @property
    def has_residuals(self) -> bool:
        """Whether the term declares residuals."""
        return self.term.has_residuals

    @property
    def _place(self) -> str:
        return f"loss term {self.name!r}"

    def _check_shape(self, what: str, value: Any, expected: tuple[int | None, ...]) -> None:
        """Check the shape of what the term returned; None stands for any size."""
        shape = tuple(value.shape) if isinstance(value, Tensor) else ()
        if len(shape) != len(expected) or any(size not in (None, got) for size, got in zip(expected, shape, strict=True)):
            found = shape if isinstance(value, Tensor) else type(value).__name__
            sizes = ", ".join("any" if size is None else str(size) for size in expected)
            raise self.plugin.error(self._place, f"its {what} {found}, expected a tensor of shape ({sizes}).")

    def _check_sum(self, residuals: Tensor, evaluation: Evaluation) -> None:
        with attributed(self.plugin, self._place):
            value = self.term(evaluation)
        total = residuals.square().sum(-1)
        if not torch.allclose(total, value, rtol=1e-3, equal_nan=True):
            raise self.plugin.error(
                self._place,
                f"its residuals' squares sum to {total[0].item()!r}, its value is {value[0].item()!r}; "
                "expected the same, without the weight.",
            )

    def _watch_gradients(self, evaluation: Evaluation) -> Evaluation:
        """Return the evaluation with views whose gradients are this term's alone, so that a NaN in them can be attributed."""
        if not (torch.is_grad_enabled() and evaluation.simulated.requires_grad):
            return evaluation
        views = {name: getattr(evaluation, name).view_as(getattr(evaluation, name)) for name in ("simulated", "physical", "scaled")}
        for view in views.values():
            if view.requires_grad:
                view.register_hook(self._check_gradient)
        return replace(evaluation, **views)

    def _check_gradient(self, gradient: Tensor) -> None:
        if not bool(torch.isfinite(gradient).all()):
            raise self.plugin.error(
                self._place,
                "its gradient is not finite though its value is; look for sqrt, log or a division at zero, "
                "also behind torch.where.",
            )


def _fault_of(value: Any, evaluation: Evaluation) -> str:
    """Say what is wrong with a term's value, or nothing."""
    members = tuple(evaluation.physical.shape[:1])
    if not isinstance(value, Tensor):
        return f"returned {type(value).__name__}, expected a tensor of shape {members}."
    if value.shape != members or not value.is_floating_point():
        found = f"{value.dtype} of shape {tuple(value.shape)}"
        return f"returned {found}, expected floating point of shape {members}: one number a member."
    if value.device != evaluation.simulated.device:
        return f"returned a tensor on {value.device}, its inputs are on {evaluation.simulated.device}; make new tensors there."
    if torch.is_grad_enabled() and evaluation.simulated.requires_grad and not value.requires_grad:
        return "returned a value without a gradient; do not detach, or convert to numbers, what depends on the parameters."
    if not bool(torch.isfinite(value).all()) and bool(torch.isfinite(evaluation.simulated).all()):
        member = int((~torch.isfinite(value)).nonzero()[0])
        return f"returned {value[member].item()!r} for member {member} though the simulated fluxes are finite."
    return ""


def check_transform(space: ParameterSpace, plugin: PluginInfo) -> None:
    """Check that a plugin's transform brings the prior back, before the first iteration.

    Args:
        space: Parameters with the plugin's transform.
        plugin: The plugin.

    Raises:
        PluginError: If the transform raises, or a parameter comes back more than a thousandth of its prior sd away.
    """
    transform = space.transform
    place = f"transform {transform.name!r}"
    physical = space.bounds.clip(space.priors[0])
    with attributed(plugin, place):
        back = transform.to_physical(transform.to_theta(physical))
    if not isinstance(back, Tensor) or back.shape != physical.shape:
        found = tuple(back.shape) if isinstance(back, Tensor) else type(back).__name__
        raise plugin.error(place, f"a round trip of the prior returned {found}, expected shape {tuple(physical.shape)}.")
    off = ~((back - physical).abs() <= 1e-3 * space.table.prior_sd.to(physical))
    if bool(off.any()):
        worst = int(off.nonzero()[0])
        raise plugin.error(
            place,
            f"a round trip of the prior takes {space.table.names[worst]!r} from {physical[worst].item()!r} "
            f"to {back[worst].item()!r}; to_physical and to_theta must invert each other.",
        )
