"""A small surrogate that is sound in every way that a validation asks about, and five that are broken in one way each."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import nn

from lit_invert import FrozenSurrogate, InversionProblem, Observations, Site, SurrogateSpec, Variable
from lit_invert.losses import Misfit, Prior
from lit_invert.parameters import ParameterSpace, parse_parameter_table
from lit_invert.transforms import ScaledTransform

STATICS = tuple(Variable(name, "-", 2.0, 0.5, minimum=0.5, maximum=3.5) for name in ("light_use", "warmth", "decay"))
DRIVERS = (
    Variable("tmp_2m", "K", 283.0, 8.0, minimum=255.0, maximum=310.0),
    Variable("tmp10_soil", "K", 282.0, 6.0, minimum=262.0, maximum=304.0),
    Variable("dswrf", "W m-2", 150.0, 80.0, minimum=0.0, maximum=420.0),
    Variable("aco2", "ppm", 400.0, 40.0, minimum=300.0, maximum=520.0),
)
OUTPUTS = tuple(Variable(name, "gC m-2 d-1") for name in ("gpp", "npp", "nep", "rh"))


class Sound(nn.Module):
    """GPP rises with light, CO2 and warmth and Rh with soil temperature; scaled in, gC m-2 d-1 out."""

    def __init__(self):
        super().__init__()
        self.gain = nn.Parameter(torch.tensor(0.2))

    def forward(self, static, forcing):
        air, soil, light, carbon = forcing.unbind(-1)
        light_use, warmth, decay = (self.gain * static).unsqueeze(1).unbind(-1)
        gpp = self.photosynthesis(light, carbon) * torch.exp(light_use) * torch.sigmoid((1 + warmth) * (air + 1))
        npp = 0.5 * gpp
        rh = torch.exp(0.5 * soil + decay)
        return torch.stack([gpp, npp, npp - rh, rh], dim=-1)

    def photosynthesis(self, light, carbon):
        return 10 * torch.sigmoid(light) * torch.sigmoid(1 + 0.5 * carbon)


class IgnoresUnits(Sound):
    """Scales its forcing by numbers of its own, which are right in kelvin alone."""

    def forward(self, static, forcing):
        mean, std = (forcing.new_tensor([getattr(driver, side) for driver in DRIVERS]) for side in ("mean", "std"))
        return super().forward(static, (forcing - mean) / std)


class LosesDays(Sound):
    """Has no number for one day in seventeen: 6 %."""

    def forward(self, static, forcing):
        fluxes = super().forward(static, forcing)
        is_lost = torch.arange(forcing.shape[1]) % 17 == 8
        return torch.where(is_lost[None, :, None], torch.nan, fluxes)


class TiresOfLight(Sound):
    """Photosynthesis falls where there is more than average light."""

    def photosynthesis(self, light, carbon):
        return 20 * torch.sigmoid(light) * torch.sigmoid(-light) * torch.sigmoid(1 + 0.5 * carbon)


class ExportsWrongly(Sound):
    """Takes another path when it is exported."""

    def forward(self, static, forcing):
        fluxes = super().forward(static, forcing)
        return 1.02 * fluxes if torch.compiler.is_exporting() or torch.onnx.is_in_onnx_export() else fluxes


class CutsAGradient(Sound):
    """Lets no gradient through to its first parameter."""

    def forward(self, static, forcing):
        return super().forward(torch.cat([static[:, :1].detach(), static[:, 1:]], dim=-1), forcing)


def weather(days=365):
    """Return a year that begins in winter, (1, days, 4), with weather from day to day."""
    random = np.random.default_rng(0)
    season = -np.cos(2 * np.pi * np.arange(days) / 365.25)
    storms = np.convolve(random.normal(size=days + 4), np.ones(5) / 5, "valid")
    air = 283 + 9 * season + 6 * storms
    soil = 282 + 7 * np.roll(season, 12) + 2 * storms
    light = np.clip(150 + 90 * season + 60 * random.normal(size=days), 5, 400)
    carbon = 405 - 6 * season + 2 * random.normal(size=days)
    return torch.tensor(np.stack([air, soil, light, carbon], -1), dtype=torch.float32)[None]


def sound_problem(network=None, **spec):
    """Return an inversion of a network against noisy NEP of the sound one, and its site."""
    forcing = weather()
    surrogate = FrozenSurrogate(network or Sound(), SurrogateSpec("sound", STATICS, DRIVERS, OUTPUTS, **spec))
    table = parse_parameter_table(["name,unit,prior,prior_sd,min,max", *(f"{v.name},-,2.0,0.5,0.5,3.5" for v in STATICS)], "table")
    truth = FrozenSurrogate(Sound(), replace(surrogate.spec, forcing_scaled=True))
    with torch.no_grad():
        fluxes = truth(torch.tensor([[0.6, -0.5, 0.4]]), truth.prepare(forcing))[0].double().numpy()
    random = np.random.default_rng(1)
    values = np.full_like(fluxes, np.nan)
    values[:, 2] = fluxes[:, 2] + 0.4 * random.normal(size=len(fluxes))
    values[random.random(len(fluxes)) < 0.3] = np.nan
    mask = np.isfinite(values)
    dates = np.datetime64("2015-01-01") + np.arange(len(fluxes))
    names = surrogate.spec.output_names
    fit = Observations(dates, names, values, mask)
    drivers = tuple(v.name for v in DRIVERS)
    site = Site("twin", 45.0, dates, drivers, forcing[0].double().numpy(), fit, None, np.where(mask[:, 2], "fit", "unused"), ())
    problem = InversionProblem(
        surrogate,
        ParameterSpace(table, ScaledTransform(surrogate.static_scaler, table.bounds.to(torch.float32))),
        forcing,
        torch.tensor(values, dtype=torch.float32)[None],
        torch.tensor(mask)[None],
        [Misfit(), Prior(weight=0.1)],
    )
    return problem, site
