"""The class for users with a model and arrays in hand."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from lit_invert import StaticParameterInverter
from lit_invert.errors import ConfigError, ShapeError
from lit_invert.parameters import parse_parameter_table

#: The block of the method's own description, word for word.
CONFIG = {
    "lr": 0.02,
    "max_iters": 500,
    "lambda_prior": 1.0,
    "use_multi_output_loss": False,
    "target_variable": "nep",
    "use_mask": True,
    "clip_raw_params": {"enabled": True},
}
MU, SIGMA = np.array([10.0, 0.5, 3.0]), np.array([2.0, 0.1, 1.0])
TRUTH = np.array([12.0, 0.42, 3.5])


class LSTMModel(nn.Module):
    """A plain model as a user has it: static repeated along time, dropout and all."""

    def __init__(self, hidden=16):
        super().__init__()
        torch.manual_seed(3)
        self.lstm = nn.LSTM(3 + 10, hidden, num_layers=2, dropout=0.3, batch_first=True)
        self.head = nn.Linear(hidden, 4)

    def forward(self, static_features, dynamic_features):
        static = static_features[:, None].expand(-1, dynamic_features.shape[1], -1)
        return 5 * self.head(self.lstm(torch.cat([static, dynamic_features], dim=-1))[0])


@pytest.fixture
def case():
    model = LSTMModel().train()
    x = np.random.default_rng(1).standard_normal((90, 10))
    with torch.no_grad():
        s = torch.tensor((TRUTH - MU) / SIGMA, dtype=torch.float32)[None]
        y = model.eval()(s, torch.tensor(x, dtype=torch.float32)[None])[0].numpy()
    mask = np.random.default_rng(2).random(90) < 0.6
    return SimpleNamespace(model=model.train(), x=x, y=y, mask=mask)


def inverter(case, **changes):
    config = {**CONFIG, "lambda_prior": 0.0, **changes.pop("config", {})}
    bounds = changes.pop("bounds", np.stack([MU - 3 * SIGMA, MU + 3 * SIGMA], axis=1))
    return StaticParameterInverter(case.model, changes.pop("scaler", (MU, SIGMA)), config, bounds=bounds, **changes)


def test_a_known_truth_is_recovered_from_nep_alone(case):
    s_opt_raw, info = inverter(case).invert(MU, case.x, case.y, case.mask)
    assert s_opt_raw == pytest.approx(TRUTH, rel=0.02)
    assert isinstance(s_opt_raw, np.ndarray)
    assert s_opt_raw.dtype == np.float64
    assert info["s_opt_norm"] == pytest.approx((s_opt_raw - MU) / SIGMA, abs=1e-5)
    assert len(info["loss_history"]) == info["iterations"] == 500
    assert info["final_loss"] <= min(info["loss_history"]) * (1 + 1e-4)


def test_final_loss_is_the_loss_at_the_returned_parameters(case):
    s_opt_raw, info = inverter(case, config={"lambda_prior": 0.1, "max_iters": 60}).invert(MU, case.x, case.y, case.mask)
    scaled = torch.tensor((s_opt_raw - MU) / SIGMA, dtype=torch.float32)
    with torch.no_grad():
        nep = case.model.eval()(scaled[None], torch.tensor(case.x, dtype=torch.float32)[None])[0, :, 2].numpy()
    by_hand = np.mean((nep - case.y[:, 2])[case.mask] ** 2) + 0.1 * np.sum(((s_opt_raw - MU) / SIGMA) ** 2)
    assert info["final_loss"] == pytest.approx(by_hand, rel=1e-4)


def test_tensors_and_sklearn_like_scalers_are_taken_too(case):
    scaler = SimpleNamespace(mean_=MU, scale_=SIGMA)
    first, _ = inverter(case, config={"max_iters": 50}).invert(MU, case.x, case.y, case.mask)
    second, _ = inverter(case, scaler=scaler, config={"max_iters": 50}).invert(
        torch.tensor(MU), torch.tensor(case.x), torch.tensor(case.y), torch.tensor(case.mask.astype(int))
    )
    assert np.array_equal(first, second)


def test_nep_alone_may_be_given_as_one_series(case):
    short = {"max_iters": 50}
    wide, _ = inverter(case, config=short).invert(MU, case.x, case.y, case.mask)
    series, _ = inverter(case, config=short).invert(MU, case.x, case.y[:, 2], case.mask)
    assert np.array_equal(wide, series)


def test_values_outside_the_mask_do_not_matter(case):
    short = {"max_iters": 50}
    first, _ = inverter(case, config=short).invert(MU, case.x, case.y, case.mask)
    spoilt = np.where(case.mask[:, None], case.y, np.nan)
    second, _ = inverter(case, config=short).invert(MU, case.x, spoilt, case.mask)
    assert np.array_equal(first, second)


def test_a_call_prints_nothing(case, capfd):
    inverter(case, config={"max_iters": 5}).invert(MU, case.x, case.y, case.mask)
    printed = capfd.readouterr()
    assert (printed.out, printed.err) == ("", "")


def test_bounds_hold(case):
    bounds = np.stack([MU - SIGMA, MU + 0.5 * SIGMA], axis=1)  # the truth is one sigma up in the first
    s_opt_raw, info = inverter(case, bounds=bounds).invert(MU, case.x, case.y, case.mask)
    assert s_opt_raw[0] == bounds[0, 1]
    assert info["s_opt_norm"][0] == pytest.approx(0.5, abs=1e-5)  # theta itself was held there, not only the answer
    assert (s_opt_raw >= bounds[:, 0]).all()
    assert (s_opt_raw <= bounds[:, 1]).all()


def test_apply_param_constraints_clips_in_physical_space(case):
    found = inverter(case, bounds=[[0, 1], [0, 1], [0, 1]]).apply_param_constraints([-1.0, 0.5, 7.0])
    assert found.tolist() == [0.0, 0.5, 1.0]


def test_a_table_brings_bounds_that_name_other_parameters(case):
    rows = ["name,unit,prior,min,max", "a,-,10,4,16", "b,-,0.5,0.2,0.8", "c,-,3,0,a"]
    found = inverter(case, bounds=parse_parameter_table(rows)).apply_param_constraints([5.0, 0.5, 9.0])
    assert found.tolist() == [5.0, 0.5, 5.0]


def test_build_loss_is_the_masked_mean_square_of_nep_with_a_gradient(case):
    outputs = torch.tensor(case.y + 2.0, requires_grad=True)
    loss = inverter(case).build_loss(outputs, case.y, case.mask)
    loss.backward()
    assert loss.item() == pytest.approx(4.0, rel=1e-5)
    assert outputs.grad[:, 2][torch.tensor(case.mask)].numpy() == pytest.approx(4.0 / case.mask.sum(), rel=1e-5)
    assert not outputs.grad[:, [0, 1, 3]].any()


def test_build_loss_with_all_outputs_weighs_nep_most(case):
    chosen = inverter(case, config={"use_multi_output_loss": True})
    shift = np.zeros_like(case.y)
    losses = []
    for column in range(4):
        shift[:] = 0
        shift[:, column] = 1.0
        losses.append(float(chosen.build_loss(case.y + shift, case.y, case.mask)))
    assert losses == pytest.approx([0.125, 0.125, 0.625, 0.125], rel=1e-5)


def test_build_loss_is_the_misfit_of_the_inversion_warm_up_and_all(case):
    chosen = inverter(case, config={"max_iters": 1}, warmup_days=10)
    spoilt = case.y.copy()
    spoilt[:10] = 50
    _, info = chosen.invert(MU, case.x, spoilt, case.mask)
    by_hand = float(chosen.build_loss(info["outputs_prior"], spoilt, case.mask))
    assert by_hand == pytest.approx(info["loss_prior"]["loss/misfit"], rel=1e-5)


def test_a_model_in_double_precision_is_taken(case):
    short = {"max_iters": 3}
    single, _ = inverter(case, config=short).invert(MU, case.x, case.y, case.mask)
    case.model.double()
    double, _ = inverter(case, config=short, trainer={"logger": False}).invert(MU, case.x, case.y, case.mask)
    assert np.array_equal(single, double)
    assert case.model.head.weight.dtype == torch.float64


def test_the_users_model_stays_as_it_is(case):
    before = {k: v.clone() for k, v in case.model.state_dict().items()}
    inverter(case, config={"max_iters": 20}).invert(MU, case.x, case.y, case.mask)
    assert all(torch.equal(v, before[k]) for k, v in case.model.state_dict().items())
    assert case.model.training
    assert case.model.lstm.dropout == 0.3
    assert all(weight.requires_grad for weight in case.model.parameters())


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"config": {"lrr": 1}}, ConfigError, r"`inversion`: unknown key 'lrr'. Did you mean 'lr'\?"),
        ({"config": {"clip_raw_params": {"enable": True}}}, ConfigError, r"`inversion.clip_raw_params`: unknown key 'enable'"),
        (
            {"config": {"clip_raw_params": True}},
            ConfigError,
            "`inversion.clip_raw_params` is True, expected keys such as",
        ),
        ({"config": {"lr": "0.02"}}, ConfigError, "`inversion`: a value has the wrong type"),
        ({"bounds": parse_parameter_table(["name,min,max", "a,0,1"])}, ShapeError, "table has 1 parameters, the scaler 3"),
        ({"scaler": 3.0}, ConfigError, "static_scaler is a float"),
        ({"scaler": (MU, SIGMA[:2])}, ShapeError, "3 means and 2 standard deviations"),
        ({"bounds": np.ones((3, 2))}, ShapeError, "smaller number first"),
    ],
)
def test_a_wrong_constructor_argument_is_named(case, change, error, message):
    with pytest.raises(error, match=message):
        inverter(case, **change)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"s": MU[:2]}, ShapeError, "s_prior_raw has 2 values, the scaler expects 3"),
        ({"s": MU + 100}, ConfigError, "s_prior_raw number 1 = .* is outside its bounds"),
        ({"x": np.zeros(90)}, ShapeError, "X_dyn has shape"),
        ({"y": np.zeros((90, 3))}, ShapeError, "Y_obs has shape"),
        ({"m": np.ones(30)}, ShapeError, "obs_mask has shape"),
        ({"config": {"solver": "adm"}}, ConfigError, r"`inversion.solver`: 'adm' is not one of ours"),
        ({"config": {"early_stopping": {"monitor": "los"}}}, ConfigError, "`inversion.early_stopping.monitor` is 'los'"),
        ({"m": np.zeros(90)}, ConfigError, "no observed day of 'nep' is left"),
    ],
)
def test_arrays_that_do_not_fit_are_named(case, arguments, error, message):
    given = {"s": MU, "x": case.x, "y": case.y, "m": case.mask, "config": {}, **arguments}
    with pytest.raises(error, match=message):
        inverter(case, config=given["config"]).invert(given["s"], given["x"], given["y"], given["m"])
