"""The history of sites that share their parameters: one member, whose counts are those of a site on average."""

from __future__ import annotations

import numpy as np
import torch
from lightning.pytorch.callbacks import Callback

from lit_invert import InversionSettings, Observations
from lit_invert.assembly import Record
from lit_invert.callbacks import RecordHistory
from lit_invert.joint import invert_jointly
from lit_invert.sharing import SharingSettings
from lit_invert.testing import toy_forcing, toy_surrogate, toy_table, toy_truth


class Histories(Callback):
    """Keep the history of a fit."""

    def on_train_end(self, trainer, pl_module):
        (history,) = (callback for callback in trainer.callbacks if isinstance(callback, RecordHistory))
        self.frame = history.frame()


def record(days=60):
    surrogate = toy_surrogate()
    forcing, dates = toy_forcing(days), np.datetime64("2016-01-01") + np.arange(days)
    fluxes = surrogate(surrogate.static_scaler.to_scaled(toy_truth().float())[None], surrogate.prepare(forcing))[0]
    mask = np.broadcast_to(np.arange(4) == 2, fluxes.shape).copy()
    return Record(forcing[0], Observations(dates, surrogate.spec.output_names, fluxes.double().numpy(), mask))


def test_two_sites_at_one_bound_count_it_once():
    """The prior of s1 is moved to its upper bound at both sites, where the first iteration finds it."""
    table = toy_table().with_prior(torch.tensor([3.5, 2.0, 2.0], dtype=torch.float64))
    kept = Histories()
    settings = InversionSettings(max_iters=2, solver="levenberg_marquardt", lambda_prior=0.01)
    quiet = {"accelerator": "cpu", "enable_progress_bar": False}
    invert_jointly(
        toy_surrogate(),
        table,
        [record(), record()],
        ["", ""],
        settings,
        SharingSettings(default="global"),
        trainer=quiet,
        callbacks=[kept],
    )
    first = kept.frame.iloc[0]
    assert (first["at_lower"], first["at_upper"]) == (0.0, 1.0)
