"""Sites of the toy surrogate with truths of their own, under weather of their own."""

from __future__ import annotations

import torch

from lit_invert.losses import Misfit
from lit_invert.parameters import ParameterSpace
from lit_invert.problem import InversionProblem
from lit_invert.sharing.plan import plan_sharing
from lit_invert.sharing.settings import SharingSettings
from lit_invert.testing import toy_forcing, toy_surrogate, toy_table
from lit_invert.transforms import ScaledTransform


def toy_sites(truth, *, days=40, noise=0.0, terms=None, prior=None, table=None, transform=ScaledTransform, dtype=torch.float64):
    """Return the problem of S sites whose NEP the toy surrogate made at a scaled truth, (S, P), with white noise [gC m-2 d-1]."""
    generator = torch.Generator().manual_seed(7)
    truth = truth.to(dtype)
    count, parameters = truth.shape
    surrogate, table = toy_surrogate(parameters).to(dtype), table or toy_table(parameters)
    weather = torch.randn(count, days, 3, generator=generator, dtype=torch.float64).to(dtype)
    forcing = toy_forcing(days, dtype) + weather * torch.tensor([4.0, 4.0, 16.0], dtype=dtype)
    observed = surrogate(truth, surrogate.prepare(forcing))
    observed = observed + noise * torch.randn(observed.shape, generator=generator, dtype=torch.float64).to(dtype)
    mask = torch.zeros_like(observed, dtype=torch.bool)
    mask[..., 2] = True
    space = ParameterSpace(table, transform(surrogate.static_scaler, table.bounds.to(dtype)), prior)
    return InversionProblem(surrogate, space, forcing, observed, mask, [Misfit()] if terms is None else terms)


def plan_of(kinds, groups, table=None):
    """Return the plan of parameters s1, s2, ... with these kinds."""
    table = table or toy_table(len(kinds))
    return plan_sharing(table, SharingSettings(parameters=dict(zip(table.names, kinds, strict=True))), groups)
