"""Solvers: the optimisers that move theta, one step an iteration.

A solver is a plain `torch.optim.Optimizer`; the Trainer drives it and callbacks keep the bounds. More arrive through the hook
`register_solvers`.
"""

from __future__ import annotations

from torch import nn
from torch.optim import Adam, AdamW, Optimizer

from .extensions import Solver


def _adam(parameters: list[nn.Parameter], lr: float) -> Optimizer:
    return Adam(parameters, lr=lr)


def _adamw(parameters: list[nn.Parameter], lr: float) -> Optimizer:
    # Decay would pull theta to zero, which is the mean of the surrogate's scaling and not the prior: the prior is a loss term.
    return AdamW(parameters, lr=lr, weight_decay=0.0)


SOLVERS = [
    Solver("adam", _adam, "Adam (Kingma and Ba 2015, arXiv:1412.6980)"),
    Solver("adamw", _adamw, "AdamW without decay (Loshchilov and Hutter 2019, arXiv:1711.05101)"),
]
