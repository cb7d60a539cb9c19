"""Training: the loss and scores in closed form, and a tiny run from the process model to an artefact that loads."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import lit_invert
from lit_invert.errors import ConfigError
from lit_invert.parameters import load_parameter_table
from lit_invert.process.ensemble import Ensemble, EnsembleSettings, WeatherSite, build_ensembles
from lit_invert.surrogates.base import SurrogateSpec, file_hash
from lit_invert.surrogates.lstm import LSTMSurrogate
from lit_invert.training import TrainSettings, build_network, describe, member_loss, run_network, score, to_network, train

ASSETS = Path(lit_invert.__file__).parent / "assets"


@pytest.fixture(scope="module")
def settings(tmp_path_factory):
    folder = tmp_path_factory.mktemp("train")
    return TrainSettings(
        ensemble=EnsembleSettings(
            sites=[
                WeatherSite(str(ASSETS / "sites" / "FR-Hes_2016.csv"), 48.67),
                WeatherSite(str(ASSETS / "sites" / "US-AR1_2009-2012.csv"), 36.43, [2012]),
            ],
            parameters=str(ASSETS / "parameters" / "simcycle_36.csv"),
            members=24,
            held_out_members=6,
            days=90,
            cache=str(folder / "cache"),
        ),
        output=str(folder / "artefact"),
        architecture={"hidden_size": 12, "static_embedding": 4},
        lengths=[60, 90],
        batch_size=8,
        lr=2e-2,
        trainer={
            "max_epochs": 30,
            "accelerator": "cpu",
            "gradient_clip_val": 1.0,
            "logger": False,
            "enable_checkpointing": False,
            "enable_progress_bar": False,
            "enable_model_summary": False,
        },
        notes="one way only",
    )


@pytest.fixture(scope="module")
def artefact(settings):
    return train(settings)


@pytest.fixture(scope="module")
def loaded(artefact):
    spec = SurrogateSpec.load(artefact / "spec.json")
    network = LSTMSurrogate(**spec.architecture)
    network.load_state_dict(load_file(artefact / spec.weights))
    return spec, network.eval()


def held_out(artefact):
    arrays = np.load(artefact / "holdout.npz")
    return Ensemble(*(torch.from_numpy(arrays[name]) for name in ("static", "forcing", "simulated")))


def test_member_loss_weighs_errors_against_each_member_s_variability():
    target = torch.tensor([[[0.0], [2.0]], [[0.0], [20.0]]])
    spread = torch.zeros(1)
    # errors of half the member's own standard deviation (1 and 10) count the same
    simulated = target + torch.tensor([0.5, 5.0]).reshape(2, 1, 1)
    assert member_loss(simulated, target, spread, torch.ones(1)).item() == pytest.approx(0.25)


def test_member_loss_weighs_members_that_do_not_vary_against_the_ensemble():
    target, spread = torch.zeros(1, 5, 1), torch.tensor([2.0])
    assert member_loss(target + 2.0, target, spread, torch.ones(1)).item() == pytest.approx(1.0)


def test_member_loss_weighs_fluxes():
    target, spread = torch.zeros(1, 5, 2), torch.ones(2)
    simulated = target + torch.tensor([1.0, 2.0])
    assert member_loss(simulated, target, spread, torch.tensor([1.0, 3.0])).item() == pytest.approx((1.0 + 3.0 * 4.0) / 4.0)


def test_score_is_pooled_r2_and_rmse():
    target = torch.tensor([1.0, 2.0, 3.0, 6.0]).reshape(2, 2, 1).expand(2, 2, 4)
    scores = score(target + 1.0, target)
    assert scores["nep"]["rmse"] == pytest.approx(1.0)
    assert scores["nep"]["r2"] == pytest.approx(1.0 - 1.0 / 3.5)


def test_scaled_box_is_centred_with_unit_spread(settings):
    table = load_parameter_table(settings.ensemble.parameters)
    lower, upper = table.bounds.resolve(table.prior)
    some = Ensemble(torch.zeros(2, 36), torch.rand(2, 3, 12), torch.zeros(2, 3, 4))
    scaler = describe(settings, table, some).static_scaler()
    edge = torch.full((36,), 3.0**0.5, dtype=torch.float64)
    torch.testing.assert_close(scaler.to_scaled(upper), edge)
    torch.testing.assert_close(scaler.to_scaled(lower), -edge)


def test_forcing_is_scaled_to_zero_mean_and_unit_spread_over_the_members(settings):
    some = Ensemble(torch.ones(3, 36), torch.rand(3, 50, 12), torch.zeros(3, 50, 4))
    spec = describe(settings, load_parameter_table(settings.ensemble.parameters), some)
    _, forcing = to_network(some, spec)
    torch.testing.assert_close(forcing.mean((0, 1)), torch.zeros(12), rtol=0.0, atol=1e-5)
    torch.testing.assert_close(forcing.std((0, 1)), torch.ones(12), rtol=1e-4, atol=0.0)


def test_a_tiny_run_writes_an_artefact_that_agrees_with_its_own_card(artefact, loaded):
    spec, _ = loaded
    assert file_hash(artefact / "weights.safetensors") == spec.sha256
    assert set(spec.accuracy) == {"gpp", "npp", "nep", "rh"}
    card = (artefact / "MODEL_CARD.md").read_text()
    assert "| nep | members | " in card
    assert f"{spec.accuracy['nep']:.3f} |" in card
    assert "one way only" in card
    assert (artefact / "holdout.npz").stat().st_size < 300_000


def test_accuracy_in_the_spec_is_what_the_written_weights_reach(artefact, loaded):
    spec, network = loaded
    everyone = held_out(artefact)  # the slice holds all six members of so small a run
    again = score(run_network(network, everyone, spec), everyone.simulated)
    assert {flux: values["rmse"] for flux, values in again.items()} == pytest.approx(spec.accuracy, rel=1e-6)


def test_training_learns(loaded, settings):
    """Members seen in training must be met far better than by a network with the same scales that has not learned."""
    spec, network = loaded
    seen = build_ensembles(settings.ensemble).training
    torch.manual_seed(0)
    untrained = build_network(spec, seen)
    before, after = (score(run_network(n, seen, spec), seen.simulated)["gpp"]["rmse"] for n in (untrained, network))
    assert after < 0.7 * before


def test_an_unknown_argument_of_the_network_is_named(settings):
    some = Ensemble(torch.ones(3, 36), torch.rand(3, 5, 12), torch.zeros(3, 5, 4))
    table = load_parameter_table(settings.ensemble.parameters)
    spec = describe(replace(settings, architecture={"hiden_size": 8}), table, some)
    with pytest.raises(ConfigError, match=r"`architecture\.hiden_size` is no argument.* Did you mean 'hidden_size'"):
        build_network(spec, some)


def test_the_same_seed_gives_the_same_weights(artefact, settings, tmp_path):
    again = train(replace(settings, output=str(tmp_path)))
    assert file_hash(again / "weights.safetensors") == file_hash(artefact / "weights.safetensors")


def test_training_can_go_on_from_stored_weights(artefact, settings, tmp_path):
    further = train(
        replace(
            settings,
            output=str(tmp_path),
            start_from=str(artefact / "weights.safetensors"),
            trainer={**settings.trainer, "max_epochs": 1},
            lr=1e-9,
            weight_decay=0.0,
        )
    )
    before, after = (SurrogateSpec.load(folder / "spec.json").accuracy["nep"] for folder in (artefact, further))
    assert after == pytest.approx(before, rel=1e-3)
