"""The class for users who have a model and arrays in hand, and no files.

It speaks the words of the method's own description: `s_prior_raw` are the physical parameters before the data, `X_dyn` the dynamic
inputs as the model takes them, `Y_obs` the observed fluxes, `obs_mask` where they are observed. Inside it is :func:`invert`.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn

from .assembly import default_terms
from .driving import without_banners
from .errors import ConfigError, ShapeError, suggest
from .inversion import invert
from .losses import LossTerm, Misfit
from .losses.base import Evaluation
from .observations import Observations
from .parameters import ParameterTable
from .settings import InversionSettings
from .surrogates.base import FrozenSurrogate, SurrogateSpec, Variable
from .transforms import Bounds, ScaledTransform, Transform

Array: TypeAlias = "ArrayLike | Tensor"


class StaticParameterInverter:
    """Invert the static parameters of one trained model against one series of observations.

    Args:
        model: A trained module `(static (B, P) scaled, dynamic (B, T, F)) -> outputs (B, T, V)`; copied, so it stays as it is.
        static_scaler: Scaling of the static parameters: a scikit-learn-like scaler (`mean_`, `scale_`), or a pair (mu, sigma).
        inversion_config: The `inversion:` block as a mapping, or :class:`InversionSettings`.
        bounds: Smallest and largest physical value of each parameter, a (P, 2) array; without it nothing is clipped. A
            :class:`ParameterTable` gives names, fixed parameters and bounds that name other parameters as well.
        output_names: Names of the V outputs in order.
        warmup_days: Days at the start that no loss may use.
        loss_terms: Loss terms beside misfit and prior.
        transform: The map between the optimiser's coordinates and physical parameters.
        trainer: Arguments of Lightning's Trainer, e.g. `{"accelerator": "cpu"}`.

    Raises:
        ConfigError: If the config has an unknown key or a value makes no sense.

    Example:
        >>> class Model(nn.Module):
        ...     def forward(self, static, dynamic):
        ...         return static[:, None, :1] * dynamic
        >>> inverter = StaticParameterInverter(
        ...     Model(), (np.array([0.0]), np.array([1.0])),
        ...     {"lr": 0.1, "max_iters": 200, "lambda_prior": 0.0}, bounds=[[-5, 5]], output_names=["nep"])
        >>> x = np.linspace(1, 2, 30)[:, None]
        >>> s_opt_raw, info = inverter.invert(np.array([0.0]), x, 3 * x, np.ones(30))
        >>> s_opt_raw.round(3).tolist()
        [3.0]
    """

    def __init__(
        self,
        model: nn.Module,
        static_scaler: Any,
        inversion_config: Mapping[str, Any] | InversionSettings,
        *,
        bounds: Array | ParameterTable | None = None,
        output_names: Sequence[str] = ("gpp", "npp", "nep", "rh"),
        warmup_days: int = 0,
        loss_terms: Sequence[LossTerm] = (),
        transform: type[Transform] = ScaledTransform,
        trainer: Mapping[str, Any] | None = None,
    ) -> None:
        self.model, self.output_names, self.warmup_days = model, tuple(output_names), warmup_days
        self.mean, self.std = _scaling(static_scaler)
        self.settings = (
            inversion_config
            if isinstance(inversion_config, InversionSettings)
            else _settings(InversionSettings, inversion_config, "inversion")
        )
        self.loss_terms, self.transform = list(loss_terms), transform
        quiet = {"enable_progress_bar": False, "accelerator": "cpu" if not torch.cuda.is_available() else "auto"}
        self.trainer = {**quiet, **(trainer or {})}
        self._template = bounds if isinstance(bounds, ParameterTable) else None
        if self._template is not None and len(self._template) != len(self.mean):
            raise ShapeError(f"the table has {len(self._template)} parameters, the scaler {len(self.mean)}.")
        lower, upper = _limits(None if self._template is not None else bounds, len(self.mean))
        self._bounds = self._template.bounds if self._template is not None else Bounds(lower, upper)

    def invert(self, s_prior_raw: Array, X_dyn: Array, Y_obs: Array, obs_mask: Array) -> tuple[NDArray[np.float64], dict[str, Any]]:
        """Invert one sample.

        Args:
            s_prior_raw: Physical parameters before the data, (P,).
            X_dyn: Dynamic inputs, scaled or not as the model takes them, (T, F).
            Y_obs: Observed fluxes, (T,) or (T, 1) for the target alone, or (T, V) [gC m-2 d-1]; NaN where there is none.
            obs_mask: Where they are observed, bool or 0/1, (T,) or the shape of `Y_obs`.

        Returns:
            The physical parameters of the best iterate after clipping, (P,), and a dictionary: `s_opt_norm`, `s_prior_norm`,
            `final_loss` (at the returned parameters), `loss_history` (one number an iteration), `iterations`, `best_iteration`,
            `status`, `message`, `loss_prior` and `loss_optimum` (term by term), `outputs_prior` and `outputs_opt` (T, V).

        Raises:
            ShapeError: If the arrays do not fit together.
        """
        table = self._table(_vector(s_prior_raw, "s_prior_raw"))
        forcing = torch.as_tensor(_array(X_dyn))
        if forcing.dim() != 2:
            raise ShapeError(f"X_dyn has shape {tuple(forcing.shape)}, expected (time, drivers).")
        observed, mask = self._observed(Y_obs, obs_mask, forcing.shape[0])
        days = np.datetime64("2000-01-01") + np.arange(forcing.shape[0])
        with without_banners():
            result = invert(
                FrozenSurrogate(copy.deepcopy(self.model).to(torch.get_default_dtype()), self._spec(table, forcing.shape[1])),
                table,
                forcing,
                Observations(days, self.output_names, observed, mask),
                self.settings,
                terms=self.loss_terms,
                transform=self.transform,
                trainer=self.trainer,
            )
        return result.optimum.numpy(), {
            "s_opt_norm": result.optimum_scaled.numpy(),
            "s_prior_norm": result.prior_scaled.numpy(),
            "final_loss": result.loss_optimum["loss/total"],
            "loss_history": result.history["loss/total"].tolist(),
            "iterations": result.iterations,
            "best_iteration": result.best_iteration,
            "status": result.status.name,
            "message": result.message,
            "loss_prior": result.loss_prior,
            "loss_optimum": result.loss_optimum,
            "outputs_prior": result.simulated_prior,
            "outputs_opt": result.simulated_optimum,
        }

    def apply_param_constraints(self, s_raw: Array) -> NDArray[np.float64]:
        """Clip physical parameters (P,) into their bounds."""
        return self._bounds.clip(torch.as_tensor(_vector(s_raw, "s_raw"))).numpy()

    def build_loss(self, outputs: Array, Y_obs: Array, obs_mask: Array) -> Tensor:
        """Return the misfit of simulated to observed fluxes, a scalar tensor through which gradients flow to `outputs`.

        Args:
            outputs: Simulated fluxes, (T, V) or (1, T, V).
            Y_obs: As in :meth:`invert`.
            obs_mask: As in :meth:`invert`.
        """
        simulated = torch.as_tensor(outputs)
        simulated = simulated.unsqueeze(0) if simulated.dim() == 2 else simulated
        observed, mask = self._observed(Y_obs, obs_mask, simulated.shape[1])
        if not self.settings.use_mask:
            mask = np.isfinite(observed)
        mask[: self.warmup_days] = False
        misfit = next(term for term in default_terms(self.settings, self.loss_terms) if term.name == Misfit.name)
        nothing = torch.empty(0)
        evaluation = Evaluation(
            scaled=nothing, physical=nothing, simulated=simulated,
            observed=torch.as_tensor(np.where(mask, observed, 0.0)).to(simulated).unsqueeze(0),
            mask=torch.as_tensor(mask, device=simulated.device).unsqueeze(0),
            sigma=None, forcing=nothing, days=torch.ones(simulated.shape[:2], dtype=torch.bool), parameters=(),
            lower=nothing, upper=nothing,
            prior_scaled=nothing, prior_sd_scaled=nothing, outputs=self.output_names, drivers=(),
        )  # fmt: skip
        value: Tensor = misfit(evaluation).squeeze(0)
        return value

    def _table(self, prior: NDArray[np.float64]) -> ParameterTable:
        count = len(self.mean)
        if len(prior) != count:
            raise ShapeError(f"s_prior_raw has {len(prior)} values, the scaler expects {count}.")
        values = torch.as_tensor(prior)
        outside = (self._bounds.clip(values) != values).nonzero().flatten().tolist()
        if outside and self.settings.clip_raw_params.enabled:
            raise ConfigError(
                f"s_prior_raw number {outside[0] + 1} = {prior[outside[0]]!r} is outside its bounds. "
                "Change the prior or widen the bounds."
            )
        kept = self._template
        return ParameterTable(
            names=kept.names if kept else tuple(f"s{i + 1}" for i in range(count)),
            units=kept.units if kept else ("",) * count,
            descriptions=kept.descriptions if kept else ("",) * count,
            prior=values,
            prior_sd=kept.prior_sd if kept else torch.as_tensor(self.std),
            bounds=self._bounds,
            log=kept.log if kept else torch.zeros(count, dtype=torch.bool),
            fixed=kept.fixed if kept else torch.zeros(count, dtype=torch.bool),
        )

    def _spec(self, table: ParameterTable, drivers: int) -> SurrogateSpec:
        return SurrogateSpec(
            name=type(self.model).__name__,
            statics=tuple(
                Variable(name, mean=float(m), std=float(s)) for name, m, s in zip(table.names, self.mean, self.std, strict=True)
            ),
            drivers=tuple(Variable(f"x{i + 1}") for i in range(drivers)),
            outputs=tuple(Variable(name) for name in self.output_names),
            forcing_scaled=False,
            warmup_days=self.warmup_days,
        )

    def _observed(self, values: Array, mask: Array, days: int) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        """Spread observations and mask over the outputs, (T, V)."""
        given = _array(values)
        given = given[:, None] if given.ndim == 1 else given
        outputs = len(self.output_names)
        if given.ndim != 2 or given.shape[0] != days or given.shape[1] not in (1, outputs):
            raise ShapeError(f"Y_obs has shape {np.shape(values)}, expected ({days},), ({days}, 1) or ({days}, {outputs}).")
        good = np.asarray(_array(mask), dtype=bool)
        good = np.broadcast_to(good[:, None], given.shape) if good.ndim == 1 and len(good) == days else good
        if good.shape != given.shape:
            raise ShapeError(f"obs_mask has shape {np.shape(mask)}, expected ({days},) or {given.shape}.")
        observed, where = np.full((days, outputs), np.nan), np.zeros((days, outputs), dtype=bool)
        target = self.settings.target_variable
        if target not in self.output_names:
            raise ConfigError(f"`target_variable`: {target!r} is not an output.{suggest(target, self.output_names)}")
        columns = [self.output_names.index(target)] if given.shape[1] == 1 else list(range(outputs))
        observed[:, columns], where[:, columns] = given, good
        return observed, where


def _array(values: Array) -> NDArray[np.float64]:
    if isinstance(values, Tensor):
        values = values.detach().cpu().numpy()
    return np.asarray(values, dtype=np.float64)


def _vector(values: Array, name: str) -> NDArray[np.float64]:
    vector = _array(values)
    if vector.ndim != 1 or not np.isfinite(vector).all():
        raise ShapeError(f"{name} must be a vector of finite numbers, found shape {vector.shape}.")
    return vector


def _scaling(scaler: Any) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return mean and standard deviation of a scikit-learn-like scaler, or of a pair."""
    pair = (scaler.mean_, scaler.scale_) if hasattr(scaler, "mean_") and hasattr(scaler, "scale_") else scaler
    if not isinstance(pair, (tuple, list)) or len(pair) != 2:
        raise ConfigError(
            f"static_scaler is a {type(scaler).__name__}; expected an object with `mean_` and `scale_`, or a pair (mu, sigma)."
        )
    mean, std = (_vector(side, "static_scaler") for side in pair)
    if mean.shape != std.shape:
        raise ShapeError(f"static_scaler has {len(mean)} means and {len(std)} standard deviations.")
    return mean, std


def _limits(bounds: Any, count: int) -> tuple[Tensor, Tensor]:
    if bounds is None:
        infinite = torch.full((count,), torch.inf, dtype=torch.float64)
        return -infinite, infinite
    limits = _array(bounds)
    if limits.shape != (count, 2) or not (limits[:, 0] < limits[:, 1]).all():
        raise ShapeError(f"bounds have shape {limits.shape}, expected ({count}, 2) with the smaller number first in each row.")
    return torch.as_tensor(limits[:, 0].copy()), torch.as_tensor(limits[:, 1].copy())


def _settings(kind: Any, values: Mapping[str, Any], where: str) -> Any:
    """Build a dataclass of settings from a mapping, blocks within blocks."""
    known = {f.name: f for f in fields(kind)}
    arguments = {}
    for key, value in values.items():
        if key not in known:
            raise ConfigError(f"`{where}`: unknown key {key!r}.{suggest(key, known)}")
        default = getattr(known[key], "default_factory", None)
        nested = default if isinstance(default, type) and is_dataclass(default) else None
        if nested and not isinstance(value, (Mapping, nested)):
            raise ConfigError(f"`{where}.{key}` is {value!r}, expected keys such as {next(iter(fields(nested))).name!r}.")
        arguments[key] = _settings(nested, value, f"{where}.{key}") if nested and isinstance(value, Mapping) else value
    try:
        return kind(**arguments)
    except TypeError as error:
        raise ConfigError(f"`{where}`: a value has the wrong type ({error}).") from error
