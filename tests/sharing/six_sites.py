"""A fit of six sites by a Trainer, in one process or as one of two: run as a script, LOCAL_RANK says which."""

from __future__ import annotations

import json
import os

import torch
from lightning.pytorch import Trainer

from lit_invert.datamodule import InversionData
from lit_invert.driving import fitting
from lit_invert.losses import Misfit, Prior
from lit_invert.regional import SharedInversionModule
from lit_invert.sharing import SharedObjective
from lit_invert.solvers import BoundedLBFGS, LevenbergMarquardt
from tests.sharing.towers import plan_of, toy_sites

KINDS, GROUPS = ["global", "group", "site"], ["oak", "pine", "oak", "oak", "pine", "pine"]
STEPS = {"levenberg_marquardt": 6, "lbfgs": 15, "adam": 15, "sgd": 10}
#: Sites of each of two processes: not as many, and one of them without an oak.
SHARES = ([0, 1, 2, 3], [4, 5])


def module_of(solver, sites):
    """Return the module of some of the six sites; with them come their own observations alone."""
    truth = torch.tensor([0.4, -0.3, 0.2]) + 0.3 * torch.randn(6, 3, generator=torch.Generator().manual_seed(1))
    whole = toy_sites(truth, noise=0.3, days=30)
    terms = [Misfit(), Prior(weight=0.01)]
    problem = type(whole)(whole.surrogate, whole.space, whole.forcing[sites], whole.observed[sites], whole.mask[sites], terms)
    objective = SharedObjective(problem, plan_of(KINDS, GROUPS).rows(torch.tensor(sites)))
    build = {
        "levenberg_marquardt": lambda p, _: LevenbergMarquardt(p, objective),
        "lbfgs": lambda p, _: BoundedLBFGS(p, objective),
        "adam": lambda p, lr: torch.optim.Adam(p, lr),
        "sgd": lambda p, lr: torch.optim.SGD(p, lr),  # unlike Adam it feels the scale of a gradient
    }[solver]
    scored = (problem.observed, problem.mask)
    return SharedInversionModule(objective, torch.zeros(3, dtype=torch.float64), build, 0.05, select=scored)


def fit_six(solver, sites, **devices):
    """Return the shared vector and the score of all sites after a fixed number of steps, and the parameters of these sites."""
    module = module_of(solver, sites)
    trainer = Trainer(
        accelerator="cpu", max_steps=STEPS[solver], limit_train_batches=STEPS[solver], num_sanity_val_steps=0, logger=False,
        enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False, **devices,
    )  # fmt: skip
    with fitting(cpu_threads=1):
        trainer.fit(module, InversionData(STEPS[solver]))
    shared, score = module.theta.detach()[0].tolist(), module.last_select.item()
    return {"shared": shared, "score": score, "theta": dict(zip(map(str, sites), module.sites_theta().tolist(), strict=True))}


if __name__ == "__main__":
    torch.set_num_threads(1)
    mine = SHARES[int(os.environ["LOCAL_RANK"])]
    found = {solver: fit_six(solver, mine, devices=2, strategy="ddp") for solver in STEPS}
    print(json.dumps(found))
