from __future__ import annotations

import json
import math

import pytest
import torch
from torch import nn

from lit_invert.errors import ShapeError, SurrogateError
from lit_invert.surrogates.base import (
    FLUX_UNITS,
    FrozenSurrogate,
    SurrogateSpec,
    Variable,
    file_hash,
    weights_hash,
)


def spec_values(**changes):
    return {
        "name": "toy",
        "statics": [{"name": "a", "mean": 2.0, "std": 4.0}],
        "drivers": [{"name": "rain"}],
        "outputs": [{"name": "nep", "unit": "gC m-2 d-1"}],
        **changes,
    }


class Sum(nn.Module):
    """The first static parameter plus the first driver, for every output."""

    def __init__(self, outputs: int = 1) -> None:
        super().__init__()
        self.outputs = outputs

    def forward(self, static, forcing):
        return (static[:, None, :1] + forcing[..., :1]).repeat(1, 1, self.outputs)


def test_spec_survives_the_disk(tmp_path):
    spec = SurrogateSpec.from_dict(
        spec_values(
            warmup_days=5,
            accuracy={"nep": 0.2},
            statics=[{"name": "a", "unit": "umol", "mean": 2.0, "std": 4.0, "log": True, "minimum": 1.0}],
        )
    )
    spec.save(tmp_path / "spec.json")
    assert SurrogateSpec.load(tmp_path / "spec.json") == spec


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"weigths": "a.pt"}, r"unknown key 'weigths'\. Did you mean 'weights'\?"),
        ({"drivers": []}, r"'drivers' must be a list with at least one variable, found \[\]"),
        ({"statics": [{"unit": "m"}]}, "statics number 1 must be an object with a 'name'"),
        (
            {"statics": [{"name": "a", "men": 1}]},
            r"statics 'a' has unknown key 'men'\. Did you mean 'mean'\?",
        ),
        ({"statics": [{"name": "a"}, {"name": "a"}]}, "statics names 'a' twice"),
        (
            {"statics": [{"name": "a", "std": 0.0}]},
            r"statics 'a': 'std' is 0\.0, expected it above",
        ),
        (
            {"statics": [{"name": "a", "mean": "1"}]},
            "statics 'a': 'mean' is '1', expected a number",
        ),
        (
            {"drivers": [{"name": "r", "mean": math.nan}]},
            "drivers 'r': 'mean' is nan, expected a finite number",
        ),
        (
            {"drivers": [{"name": "r", "log": "false"}]},
            "drivers 'r': 'log' is 'false', expected true or false",
        ),
        (
            {"drivers": [{"name": "r", "minimum": 2, "maximum": 1}]},
            "drivers 'r': 'minimum' 2 is above 'maximum' 1",
        ),
        ({"outputs": [{"name": "nep", "unit": "gC m-2 d"}]}, "Did you mean 'gC m-2 d-1'"),
        ({"warmup_days": -1}, "'warmup_days' is -1, expected a whole number of days, 0 or more"),
        ({"warmup_days": True}, "'warmup_days' is True, expected a whole number"),
        ({"fixed_length": 0}, "'fixed_length' is 0, expected a whole number of days, 1 or more"),
        ({"forcing_scaled": "no"}, "'forcing_scaled' is 'no', expected true or false"),
        ({"weights": 3}, "'weights' is 3, expected text or null"),
        ({"architecture": [1]}, r"'architecture' is \[1\], expected an object"),
        ({"accuracy": {"nep": "0.3"}}, "'accuracy' of 'nep' is '0.3', expected a finite number"),
        ({"accuracy": {"nep": 10**400}}, "'accuracy' of 'nep' is 1000+, expected a finite number"),
        ({"accuracy": {"nee": 0.3}}, r"'accuracy' names 'nee', which is no output\. Did you mean 'nep'\?"),
        ({"statics": [{"name": "a", "maximum": 10**400}]}, "statics 'a': 'maximum' is 1000+, expected a finite number"),
        ({"fixed_length": 10**9}, "'fixed_length' is 1000000000, expected .* at most 1000000"),
        ({"warmup_days": 10**9}, "'warmup_days' is 1000000000, expected .* at most 1000000"),
    ],
)
def test_a_malformed_spec_is_one_line_that_names_the_place(values, message):
    with pytest.raises(SurrogateError, match=message) as caught:
        SurrogateSpec.from_dict(spec_values(**values), "spec.json")
    assert str(caught.value).startswith("spec.json: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("key", ["name", "statics", "drivers", "outputs"])
def test_a_spec_says_what_it_lacks(key):
    values = spec_values()
    del values[key]
    with pytest.raises(SurrogateError, match=f"key '{key}' is missing"):
        SurrogateSpec.from_dict(values)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"{", "is not a JSON file"),
        (b"\xff\xfe", "is not a JSON file"),
        (b"[1]", "expected a JSON object, found list"),
        (b"[" * 200_000, "is not a JSON file"),
    ],
)
def test_a_file_that_is_no_spec(tmp_path, content, message):
    (tmp_path / "spec.json").write_bytes(content)
    with pytest.raises(SurrogateError, match=message):
        SurrogateSpec.load(tmp_path / "spec.json")


def test_a_spec_that_is_not_there(tmp_path):
    with pytest.raises(SurrogateError, match=r"none\.json: surrogate spec not found"):
        SurrogateSpec.load(tmp_path / "none.json")


def test_spec_is_plain_json(tmp_path):
    SurrogateSpec.from_dict(spec_values()).save(tmp_path / "spec.json")
    assert json.loads((tmp_path / "spec.json").read_text(encoding="utf-8"))["outputs"][0]["name"] == "nep"


def test_static_scaler_follows_the_spec():
    statics = (
        Variable("a", mean=2.0, std=4.0),
        Variable("b", mean=math.log(3.0), std=0.5, log=True),
    )
    spec = SurrogateSpec("toy", statics, (Variable("rain"),), (Variable("nep"),))
    scaled = spec.static_scaler().to_scaled(torch.tensor([10.0, 3.0 * math.e], dtype=torch.float64))
    torch.testing.assert_close(scaled, torch.tensor([2.0, 2.0], dtype=torch.float64), rtol=0, atol=1e-15)


@pytest.mark.parametrize(
    ("unit", "expected"),
    [
        ("gC m-2 d-1", 1.0),
        ("umol m-2 s-1", 1.0377504),  # 12.011 g mol-1 * 86,400 s * 1e-6
        ("MgC ha-1 d-1", 100.0),  # 1e6 g over 1e4 m2
        ("kgC ha-1 d-1", 0.1),
        ("gC ha-1 d-1", 1e-4),
        ("kgC m-2 s-1", 8.64e7),
        ("", 1.0),
    ],
)
def test_outputs_come_in_grams_of_carbon(unit, expected):
    spec = SurrogateSpec("toy", (Variable("a"),), (Variable("rain"),), (Variable("nep", unit),))
    surrogate = FrozenSurrogate(Sum(), spec).double()
    one = torch.ones(1, 1, dtype=torch.float64)
    assert surrogate(one, torch.zeros(1, 1, 1, dtype=torch.float64)).item() == pytest.approx(expected, rel=1e-7)


def test_every_flux_unit_is_tested_above():
    assert set(FLUX_UNITS) == {"gC m-2 d-1", "umol m-2 s-1", "MgC ha-1 d-1", "kgC ha-1 d-1", "gC ha-1 d-1", "kgC m-2 s-1"}


def test_each_output_has_its_own_scaling_and_unit():
    outputs = (Variable("gpp", "MgC ha-1 d-1", 1.0, 2.0), Variable("nep", "gC m-2 d-1", 5.0, 3.0))
    spec = SurrogateSpec("toy", (Variable("a"),), (Variable("rain"),), outputs, outputs_scaled=True)
    surrogate = FrozenSurrogate(Sum(2), spec)
    simulated = surrogate(torch.tensor([[0.5]]), torch.full((1, 1, 1), 1.5))  # the network says 2
    assert simulated.flatten().tolist() == [(2 * 2 + 1) * 100, 2 * 3 + 5]


def test_forcing_and_statics_are_scaled_only_if_the_network_wants_it():
    def simulate(**wants):
        spec = SurrogateSpec(
            "toy",
            (Variable("a", mean=2.0, std=4.0),),
            (Variable("rain", mean=10.0, std=5.0),),
            (Variable("nep"),),
            **wants,
        )
        surrogate = FrozenSurrogate(Sum(), spec)
        prepared = surrogate.prepare(torch.full((1, 1, 1), 20.0))
        return surrogate(torch.ones(1, 1), prepared).item()

    assert simulate() == 1 + 2
    assert simulate(forcing_scaled=False) == 1 + 20
    assert simulate(static_scaled=False) == 6 + 2
    assert simulate(static_scaled=False, forcing_scaled=False) == 6 + 20


def test_forcing_of_one_site_serves_every_member():
    spec = SurrogateSpec.from_dict(spec_values())
    surrogate = FrozenSurrogate(Sum(), spec)
    static, forcing = torch.tensor([[1.0], [2.0], [3.0]]), torch.arange(4.0).reshape(1, 4, 1)
    simulated = surrogate(static, forcing)
    assert simulated[..., 0].tolist() == [[i + t for t in range(4)] for i in (1, 2, 3)]


def test_wrong_number_of_drivers_names_them():
    spec = SurrogateSpec.from_dict(spec_values(drivers=[{"name": "rain"}, {"name": "light"}]))
    with pytest.raises(ShapeError, match=r"forcing has 1 drivers but .* expects 2: rain, light"):
        FrozenSurrogate(Sum(), spec).prepare(torch.zeros(1, 3, 1))


def test_a_fixed_length_is_kept():
    surrogate = FrozenSurrogate(Sum(), SurrogateSpec.from_dict(spec_values(fixed_length=365)))
    assert surrogate.prepare(torch.zeros(1, 365, 1)).shape == (1, 365, 1)
    with pytest.raises(ShapeError, match=r"forcing has 366 days but .* was exported for exactly 365"):
        surrogate.prepare(torch.zeros(1, 366, 1))


class Returns(nn.Module):
    def __init__(self, answer) -> None:
        super().__init__()
        self.answer = answer

    def forward(self, static, forcing):
        return self.answer


@pytest.mark.parametrize(
    ("answer", "error", "message"),
    [
        ((torch.zeros(2, 5, 1), None), SurrogateError, "returned a tuple, expected one tensor"),
        ({"nep": torch.zeros(2, 5)}, SurrogateError, "returned a dict, expected one tensor"),
        (torch.zeros(2, 5), ShapeError, r"returned shape \(2, 5\), expected \(2, 5, 1\)"),
        (torch.zeros(2, 5, 2), ShapeError, r"returned shape \(2, 5, 2\).* for outputs nep"),
        (
            torch.zeros(2, 1, 1),
            ShapeError,
            r"returned shape \(2, 1, 1\)",
        ),  # would broadcast in time
        (torch.zeros(1, 5, 1), ShapeError, r"returned shape \(1, 5, 1\)"),  # and over members
    ],
)
def test_what_a_network_returns_is_checked(answer, error, message):
    surrogate = FrozenSurrogate(Returns(answer), SurrogateSpec.from_dict(spec_values()))
    with pytest.raises(error, match=message):
        surrogate(torch.zeros(2, 1), torch.zeros(1, 5, 1))


def test_hash_of_weights_sees_every_bit_and_name():
    torch.manual_seed(0)
    network = nn.Linear(2, 2)
    before = weights_hash(network)
    assert before == weights_hash(network.to(torch.float32))
    with torch.no_grad():
        network.weight[1, 1] = torch.nextafter(network.weight[1, 1], torch.tensor(9.0))
    assert weights_hash(network) != before
    renamed = nn.Module()
    renamed.weights, renamed.bias = network.weight, network.bias
    assert weights_hash(renamed) != weights_hash(network)


def test_hash_of_a_file_is_sha256(tmp_path):
    (tmp_path / "abc").write_bytes(b"abc")  # the example of FIPS 180-2
    assert file_hash(tmp_path / "abc") == ("ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad")
