"""An inversion with a known answer.

The toy surrogate is a closed form that is linear in its static parameters, so the misfit is a parabola whose minimum is the truth
that made the observations.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ..losses import LossTerm, Misfit
from ..parameters import ParameterSpace, ParameterTable, parse_parameter_table
from ..problem import InversionProblem
from ..surrogates.base import FrozenSurrogate, SurrogateSpec, Variable
from ..transforms import ScaledTransform, Transform

_DRIVERS = (
    Variable("tmp_2m", "K", 280.0, 8.0),
    Variable("tmp10_soil", "K", 280.0, 8.0),
    Variable("dswrf", "W m-2", 128.0, 64.0),
)
_OUTPUTS = tuple(Variable(name, "gC m-2 d-1") for name in ("gpp", "npp", "nep", "rh"))


class ToyNetwork(nn.Module):
    r"""Four fluxes, linear in the scaled static parameters z and smooth in the scaled forcing.

    .. math::
        GPP &= L\,(1 + g \sum_i z_i \cos(i \varphi)), \qquad Rh = W\,(1 + g \sum_i z_i \sin(i \varphi)) \\
        NPP &= GPP / 2, \qquad NEP = NPP - Rh

    with light :math:`L = 5 + 4 x_l`, warmth :math:`W = 1.5 + 0.5 x_s` and a phase :math:`\varphi = x_l + 0.7 x_t` of scaled
    radiation, soil and air temperature. The carbon budget closes by construction. The gain `g`, 0.1, is the only weight.
    """

    def __init__(self) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.tensor(0.1))

    def forward(self, static: Tensor, forcing: Tensor) -> Tensor:
        """Simulate: static (B, P) and forcing (B, T, 3), both scaled, to fluxes (B, T, 4) [gC m-2 d-1]."""
        air, soil, light = forcing.unbind(-1)
        order = torch.arange(1, static.shape[-1] + 1, dtype=forcing.dtype, device=forcing.device)
        phase = (light + 0.7 * air)[..., None] * order
        gpp = (5 + 4 * light) * (1 + self.gain * (phase.cos() * static[:, None]).sum(-1))
        rh = (1.5 + 0.5 * soil) * (1 + self.gain * (phase.sin() * static[:, None]).sum(-1))
        npp = gpp / 2
        return torch.stack([gpp, npp, npp - rh, rh], dim=-1)


def toy_surrogate(n_static: int = 3, *, names: Sequence[str] = (), warmup_days: int = 0) -> FrozenSurrogate:
    """Return a frozen closed-form surrogate: drivers tmp_2m, tmp10_soil, dswrf; outputs gpp, npp, nep, rh.

    Args:
        n_static: Number of static parameters, called s1, s2, ...
        names: Their names instead, for terms that look parameters up by name.
        warmup_days: Days that no loss may use, as its spec says.

    Returns:
        The surrogate; scaled = (physical - 2) / 0.5.

    Example:
        >>> surrogate = toy_surrogate()
        >>> surrogate(torch.zeros(2, 3), surrogate.prepare(toy_forcing(5))).shape
        torch.Size([2, 5, 4])
    """
    names = names or [f"s{i}" for i in range(1, n_static + 1)]
    spec = SurrogateSpec(
        name="toy",
        statics=tuple(Variable(name, "-", 2.0, 0.5, minimum=0.5, maximum=3.5) for name in names),
        drivers=_DRIVERS,
        outputs=_OUTPUTS,
        loader="toy",
        warmup_days=warmup_days,
    )
    return FrozenSurrogate(ToyNetwork(), spec)


def toy_table(n_static: int = 3, *, names: Sequence[str] = ()) -> ParameterTable:
    """Return the table of the toy surrogate's parameters: prior 2, prior sd 0.5, bounds 0.5 to 3.5.

    Args:
        n_static: Number of static parameters, called s1, s2, ...
        names: Their names instead.
    """
    names = names or [f"s{i}" for i in range(1, n_static + 1)]
    rows = [f"{name},-,2.0,0.5,0.5,3.5" for name in names]
    return parse_parameter_table(["name,unit,prior,prior_sd,min,max", *rows], "toy table")


def toy_forcing(n_days: int = 60, dtype: torch.dtype | None = None) -> Tensor:
    """Return physical forcing, (1, n_days, 3): one smooth year, however many days it has, whose summer is in its middle."""
    season = torch.linspace(0, 2 * torch.pi, n_days + 1, dtype=torch.float64)[:-1]
    light, soil = -season.cos(), -(season - 0.4).cos()
    air = -(season - 0.3).cos() + 0.2 * (7 * season).sin()
    forcing = torch.stack([280 + 8 * air, 280 + 8 * soil, 128 + 64 * light], dim=-1)
    return forcing[None].to(dtype or torch.get_default_dtype())


def toy_truth(n_static: int = 3, dtype: torch.dtype = torch.float64) -> Tensor:
    """Return the static parameters, (P,), that made the observations of :func:`toy_problem`; all inside the bounds."""
    return 2 + 0.7 * torch.cos(torch.arange(1, n_static + 1, dtype=dtype))


def toy_problem(
    n_static: int = 3,
    n_days: int = 60,
    *,
    names: Sequence[str] = (),
    terms: Sequence[LossTerm] | None = None,
    transform: type[Transform] = ScaledTransform,
    mask: Tensor | None = None,
    dtype: torch.dtype = torch.float64,
) -> InversionProblem:
    """Return an inversion whose answer is known: noise-free observations of the toy surrogate at :func:`toy_truth`.

    Args:
        n_static: Number of static parameters.
        n_days: Number of days.
        names: Names of the parameters instead of s1, s2, ...
        terms: Loss terms; the misfit of NEP alone when omitted, which is zero at the truth and nowhere else.
        transform: Map between theta and physical parameters.
        mask: True on observed days, (1 or B, n_days, 4); all of them when omitted.
        dtype: Precision of everything.

    Returns:
        The problem; theta of the truth is `problem.space.to_theta(toy_truth())`.

    Example:
        >>> problem = toy_problem()
        >>> truth = problem.space.to_theta(toy_truth())[None]
        >>> problem(truth).total.tolist(), bool(problem(torch.zeros(1, 3).double()).total > 0.01)
        ([0.0], True)
    """
    table = toy_table(n_static, names=names)
    surrogate = toy_surrogate(n_static, names=names).to(dtype)
    forcing = toy_forcing(n_days, dtype)
    truth = surrogate.static_scaler.to_scaled(toy_truth(len(table), dtype))[None]
    observed = surrogate(truth, surrogate.prepare(forcing))
    mask = torch.ones_like(observed, dtype=torch.bool) if mask is None else mask
    return InversionProblem(
        surrogate,
        ParameterSpace(table, transform(surrogate.static_scaler, table.bounds.to(dtype))),
        forcing,
        observed.expand(mask.shape),
        mask,
        [Misfit()] if terms is None else terms,
    )
