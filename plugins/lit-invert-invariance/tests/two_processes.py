"""A joint fit whose penalty is steered, in one process or as one of two: run as a script, LOCAL_RANK says which."""

from __future__ import annotations

import json

import numpy as np
import torch
from lit_invert_invariance.penalty import Invariance
from lit_invert_invariance.settings import InvarianceSettings, SteeringSettings
from lit_invert_invariance.steering import SteerLambda

from lit_invert import InversionSettings, Observations
from lit_invert.assembly import Record
from lit_invert.joint import invert_jointly
from lit_invert.settings import StopSettings
from lit_invert.sharing import SharingSettings
from lit_invert.testing import toy_forcing, toy_surrogate, toy_table, toy_truth

#: How far the light of each site is from that of the first: a process with every other site has other samples than its neighbour.
LIGHT = (0.0, 300.0, -20.0)


class NotedSteering(SteerLambda):
    """Remember what was measured after each epoch, and the weight that it led to."""

    def __init__(self):
        super().__init__(InvarianceSettings(steering=SteeringSettings(tolerance=0.05)))
        self.notes = []

    def on_train_epoch_end(self, trainer, pl_module):
        super().on_train_epoch_end(trainer, pl_module)
        self.notes.append([self.retention.passed, self.retention.samples, self.steering.current_lambda])


def records():
    """Return a year's third of three sites, whose NEP the toy made at one truth."""
    surrogate, days = toy_surrogate(), 120
    dates, names = np.datetime64("2016-01-01") + np.arange(days), surrogate.spec.output_names
    for light in LIGHT:
        forcing = toy_forcing(days) + torch.tensor([0.0, 0.0, light])
        fluxes = surrogate(surrogate.static_scaler.to_scaled(toy_truth().float())[None], surrogate.prepare(forcing))[0]
        mask = np.broadcast_to(np.arange(4) == 2, fluxes.shape).copy()
        yield Record(forcing[0], Observations(dates, names, fluxes.double().numpy(), mask))


def steer(solver, sites=slice(None), **devices):
    """Fit some of the sites and return the notes of the steering."""
    steering, chosen = NotedSteering(), list(records())[sites]
    invert_jointly(
        toy_surrogate(),
        toy_table(),
        chosen,
        [""] * len(chosen),
        InversionSettings(lr=0.05, max_iters=8, solver=solver, early_stopping=StopSettings(enabled=False), lambda_prior=0.01),
        SharingSettings(default="global"),
        terms=[Invariance()],
        trainer={"accelerator": "cpu", "enable_progress_bar": False, "limit_train_batches": 2, **devices},
        callbacks=[steering],
    )
    return steering.notes


if __name__ == "__main__":
    torch.set_num_threads(1)
    print(json.dumps(steer("levenberg_marquardt", strategy="ddp", devices=2)))
