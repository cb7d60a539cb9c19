"""Our LSTM: each way of conditioning does what it says, gradients are right, balances close, and the shipped weights hold."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import lit_invert
from lit_invert.errors import ShapeError, SurrogateError
from lit_invert.surrogates.base import SurrogateSpec, file_hash
from lit_invert.surrogates.lstm import LSTMSurrogate

CONDITIONINGS = ("concat", "initial_state", "both")
SHIPPED = Path(lit_invert.__file__).parent / "assets" / "simcycle_lstm"


def network(**kwargs):
    torch.manual_seed(1)
    return LSTMSurrogate(**{"n_static": 3, "n_forcing": 2, "hidden_size": 6, **kwargs}).double()


def inputs(batch=2, days=12):
    torch.manual_seed(2)
    return torch.randn(batch, 3, dtype=torch.float64), torch.randn(batch, days, 2, dtype=torch.float64)


@pytest.mark.parametrize("static_embedding", [0, 4])
@pytest.mark.parametrize("conditioning", CONDITIONINGS)
@pytest.mark.parametrize("head", ["linear", "carbon"])
def test_gradient_to_the_static_parameters_agrees_with_central_differences(conditioning, head, static_embedding):
    model, (static, forcing) = network(conditioning=conditioning, head=head, static_embedding=static_embedding), inputs()
    if head == "carbon":
        torch.nn.init.normal_(model.head.gain.weight, std=0.3)
    static.requires_grad_()
    model(static, forcing)[..., 2].sum().backward()
    for i in range(3):
        nudge = torch.zeros_like(static)
        nudge[:, i] = 1e-6
        up, down = (model(static.detach() + sign * nudge, forcing)[..., 2].sum((1,)) for sign in (1, -1))
        torch.testing.assert_close(static.grad[:, i], (up - down) / 2e-6, rtol=1e-6, atol=1e-8)


def test_concat_is_an_lstm_over_drivers_and_parameters_side_by_side():
    model, (static, forcing) = network(conditioning="concat", head="linear"), inputs()
    side_by_side = torch.cat([forcing, static[:, None].expand(-1, 12, -1)], dim=-1)
    expected = model.head(model.lstm(side_by_side)[0], side_by_side, static)
    torch.testing.assert_close(model(static, forcing), expected, rtol=0.0, atol=0.0)


def test_initial_state_keeps_the_parameters_out_of_the_daily_input():
    model, (static, forcing) = network(conditioning="initial_state", head="linear"), inputs()
    assert model.lstm.input_size == 2
    state = model.initial_state(static, model.climate(forcing) if model.climatology else None)
    torch.testing.assert_close(model(static, forcing), model.head(model.lstm(forcing, state)[0], forcing, static))


def test_climatology_knows_the_first_year_only():
    model, (static, _) = network(climatology=True), inputs()
    forcing = torch.randn(2, 400, 2, dtype=torch.float64)
    later = forcing.clone()
    later[:, 365:] += 1.0
    with torch.no_grad():
        torch.testing.assert_close(model(static, forcing)[:, :365], model(static, later)[:, :365], rtol=0.0, atol=0.0)
        earlier = forcing.clone()
        earlier[:, 300] += 1.0
        assert not torch.equal(model(static, forcing)[:, 0], model(static, earlier)[:, 0])


@pytest.mark.parametrize("conditioning", CONDITIONINGS)
def test_members_do_not_see_each_other(conditioning):
    model, (static, forcing) = network(conditioning=conditioning, num_layers=2), inputs(batch=3)
    torch.testing.assert_close(model(static, forcing)[1:2], model(static[1:2], forcing[1:2]))


@pytest.mark.parametrize("conditioning", CONDITIONINGS)
def test_one_forcing_serves_all_members(conditioning):
    model, (static, forcing) = network(conditioning=conditioning), inputs(batch=3)
    one = forcing[:1]
    torch.testing.assert_close(model(static, one), model(static, one.expand(3, -1, -1)))


def test_the_carbon_head_closes_the_balance_and_keeps_gross_fluxes_positive():
    model, (static, forcing) = network(), inputs(batch=5)
    gpp, npp, nep, rh = model(10.0 * static, 10.0 * forcing).unbind(-1)
    assert (gpp > 0.0).all()
    assert (rh > 0.0).all()
    assert (npp < gpp).all()
    assert torch.equal(nep, npp - rh)


def test_batches_that_do_not_match_are_named():
    model, (static, forcing) = network(), inputs(batch=3)
    with pytest.raises(ShapeError, match="forcing has batch 2 but static parameters have batch 3; expected 1 or 3"):
        model(static, forcing[:2])


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"conditioning": "concatenate"}, "conditioning 'concatenate' is unknown. Did you mean 'concat'"),
        ({"head": "carbone"}, "head 'carbone' is unknown. Did you mean 'carbon'"),
        ({"n_output": 3}, "carbon head has 4 outputs .* found n_output = 3"),
    ],
)
def test_unknown_choices_are_named(kwargs, message):
    with pytest.raises(SurrogateError, match=message):
        network(**kwargs)


@pytest.fixture(scope="module")
def shipped():
    from safetensors.torch import load_file

    spec = SurrogateSpec.load(SHIPPED / "spec.json")
    assert file_hash(SHIPPED / spec.weights) == spec.sha256
    model = LSTMSurrogate(**spec.architecture)
    model.load_state_dict(load_file(SHIPPED / spec.weights))
    return spec, model.eval()


def test_shipped_weights_stand_in_for_the_process_model_on_held_out_members(shipped):
    from lit_invert.process.ensemble import Ensemble
    from lit_invert.training import run_network, score

    spec, model = shipped
    arrays = np.load(SHIPPED / "holdout.npz")
    held_out = Ensemble(*(torch.from_numpy(arrays[name]) for name in ("static", "forcing", "simulated")))
    scores = score(run_network(model, held_out, spec), held_out.simulated)
    bars = {"gpp": 0.98, "npp": 0.98, "nep": 0.95, "rh": 0.98}
    assert {flux: values["r2"] >= bars[flux] for flux, values in scores.items()} == dict.fromkeys(bars, True)


def test_the_held_out_slice_is_what_the_process_model_gives():
    from lit_invert.process.simcycle import simulate

    arrays = np.load(SHIPPED / "holdout.npz")
    static, forcing = (torch.from_numpy(arrays[name]) for name in ("static", "forcing"))
    simulated = simulate(static, forcing[:, :365]).float().numpy()
    np.testing.assert_allclose(simulated, arrays["simulated"][:, :365], rtol=1e-4, atol=1e-4)
