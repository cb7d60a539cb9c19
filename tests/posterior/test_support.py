"""Distances to what a surrogate learnt from, and its error there, against closed forms."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import chi2

import lit_invert
from lit_invert.errors import SurrogateError
from lit_invert.plugins import load_plugins
from lit_invert.posterior.support import HOLDOUT, misfit_below, percentile, read_members, support
from lit_invert.surrogates.base import FrozenSurrogate, SurrogateSpec, Variable
from lit_invert.surrogates.loaders import load_surrogate
from lit_invert.testing import toy_forcing, toy_surrogate
from lit_invert.trust import Trust
from tests.runs import DAYS, make_result, make_site

STATICS = (
    Variable("pmax", std=4.0, minimum=4.0, maximum=14.0),
    Variable("NA", std=2.0, log=True),
    Variable("share"),
    Variable("d"),
)


def spec_of(*statics, **changes):
    return SurrogateSpec(
        "known", statics, (Variable("dswrf"),), tuple(Variable(name) for name in ("gpp", "npp", "nep", "rh")), **changes
    )


def even(lower, upper, log=False):
    low, high = (math.log(lower), math.log(upper)) if log else (lower, upper)
    return Variable("x", mean=(low + high) / 2, std=(high - low) / math.sqrt(12), log=log, minimum=lower, maximum=upper)


def test_without_ranges_the_percentile_is_that_of_a_chi_distribution():
    spec = spec_of(*[Variable("x")] * 5)
    for distance in (1.0, 2.0, 3.0):
        assert percentile(distance, spec) == pytest.approx(100 * chi2(5).cdf(distance**2), abs=1.5)  # 4 sd of 20,000 draws


def test_over_a_box_the_percentile_is_that_of_even_points():
    assert percentile(math.sqrt(3) / 4, spec_of(even(1.0, 100.0, log=True))) == pytest.approx(25.0, abs=1.5)
    disc = percentile(math.sqrt(3), spec_of(even(0.0, 1.0), even(5.0, 9.0)))
    assert disc == pytest.approx(100 * math.pi / 4, abs=1.5)  # of a square, its inscribed disc
    assert percentile(3.01, spec_of(even(0.0, 1.0), even(5.0, 9.0), even(1.0, 2.0))) == 100.0


def test_what_lies_below_the_error_is_counted_on_both_sides_of_it():
    found = misfit_below(np.array([0.99, -0.99, 1.01, -3.0]), 1.0)
    assert found["days_below_error"] == 0.5
    assert found["error_to_misfit"] == pytest.approx(4 / (2 * 0.99**2 + 1.01**2 + 9.0))


class Zero(torch.nn.Module):
    def forward(self, static, forcing):
        return forcing.new_zeros(len(static), forcing.shape[1], 4)


def known_surrogate(**changes):
    return FrozenSurrogate(Zero(), spec_of(*STATICS, **changes))


def test_a_parameter_has_its_place_and_is_outside_beyond_its_range_alone(tmp_path):
    site, _ = make_site()
    optimum = make_result().optimum
    for value, share, outside in ((9.0, 0.5, False), (14.0, 1.0, False), (14.01, 1.001, True), (3.9, -0.01, True)):
        scaled = torch.tensor([value / 4.0, 0.5, 0.0, 0.0], dtype=torch.float64)
        found = support(make_result(optimum=optimum, optimum_scaled=scaled), site, known_surrogate(), tmp_path / "none")
        assert found["parameters"]["pmax"] == {"sd": value / 4.0, "place": pytest.approx(share), "outside": outside}
        assert found["outside"] == (["pmax"] if outside else [])
        assert found["distance"] == pytest.approx(math.hypot(value / 4.0, 0.5))
        assert math.isnan(found["parameters"]["NA"]["place"])


def test_the_error_that_counts_is_the_best_one_known(tmp_path):
    site, _ = make_site()
    result = make_result(shift_optimum=0.5)
    assert support(result, site, known_surrogate(), tmp_path / "none")["misfit"] is None
    stated = support(result, site, known_surrogate(accuracy={"nep": 0.25}), tmp_path / "none")
    assert stated["error"] == {"rmse": 0.25, "source": "on held-out members"}
    assert stated["misfit"] == {"days_below_error": 0.0, "error_to_misfit": pytest.approx(0.25)}
    again = result.simulated_optimum - np.array([0.0, 0.0, 0.8, 0.0])
    measured = support(result, site, known_surrogate(accuracy={"nep": 0.25}), tmp_path / "none", again)
    assert measured["error"] == {"rmse": pytest.approx(0.8), "source": "re-simulated at the optimum"}
    assert measured["misfit"] == {"days_below_error": 1.0, "error_to_misfit": pytest.approx(0.64 / 0.25)}


def toy_members(surrogate, folder, places, shift):
    """Members whose simulated fluxes are the surrogate's but for a constant of their own."""
    scaled = torch.tensor(places)
    forcing = toy_forcing(DAYS).expand(len(places), -1, -1)
    simulated = surrogate(scaled, surrogate.prepare(forcing)) + torch.tensor(shift)[:, None, None]
    static = surrogate.static_scaler.to_physical(scaled)
    np.savez(folder / HOLDOUT, static=static.numpy(), forcing=forcing.numpy(), simulated=simulated.numpy())


def test_the_error_is_measured_at_the_nearest_members(tmp_path):
    surrogate = toy_surrogate()
    toy_members(surrogate, tmp_path, [[0.0, 0, 0], [2.0, 0, 0], [0, 1.0, 0], [0, 0, -2.5]], [0.1, 9.0, 0.2, 0.3])
    result = make_result(optimum_scaled=torch.tensor([-1.0, 0.0, 0.0], dtype=torch.float64))
    found = support(result, make_site()[0], surrogate, tmp_path / HOLDOUT)
    assert found["nearest"]["members"] == [0, 2, 3]
    np.testing.assert_allclose(found["nearest"]["distance"], np.sqrt(np.array([1.0, 2.0, 7.25]) / 3), rtol=1e-6)
    pairs = np.sqrt(np.array([4.0, 1.0, 6.25, 5.0, 10.25, 7.25]) / 3)
    assert found["nearest"]["between_members"] == pytest.approx(np.sort(pairs)[2], rel=1e-6)  # torch takes the lower middle
    assert found["nearest"]["rmse"]["nep"] == pytest.approx(math.sqrt((0.01 + 0.04 + 0.09) / 3), rel=1e-5)
    assert found["error"]["source"] == "at the nearest held-out members"


def test_warm_up_is_no_error_of_the_surrogate(tmp_path):
    surrogate = toy_surrogate(warmup_days=30)
    toy_members(surrogate, tmp_path, [[0.0, 0, 0]], [0.0])
    with np.load(tmp_path / HOLDOUT) as arrays:
        members = dict(arrays)
    members["simulated"][:, :30] += 5.0
    np.savez(tmp_path / HOLDOUT, **members)
    result = make_result(optimum_scaled=torch.zeros(3, dtype=torch.float64))
    assert support(result, make_site()[0], surrogate, tmp_path / HOLDOUT)["nearest"]["rmse"]["nep"] < 1e-6


def test_a_surrogate_of_fixed_length_sees_as_many_days_of_the_members(tmp_path):
    surrogate = toy_surrogate()
    toy_members(surrogate, tmp_path, [[0.0, 0, 0]], [0.0])
    for length, days in ((None, DAYS), (30, 30), (DAYS, DAYS)):
        members = read_members(tmp_path / HOLDOUT, replace(surrogate.spec, fixed_length=length))
        assert [member.shape[1] for member in members[1:]] == [days, days]
    with pytest.raises(SurrogateError, match=str(DAYS + 1)):
        read_members(tmp_path / HOLDOUT, replace(surrogate.spec, fixed_length=DAYS + 1))


@pytest.mark.parametrize("fault", ["not an archive", "an array is missing", "a flat array", "another number of parameters"])
def test_a_damaged_file_of_members_is_one_line(tmp_path, fault):
    surrogate = toy_surrogate()
    toy_members(surrogate, tmp_path, [[0.0, 0, 0]], [0.0])
    with np.load(tmp_path / HOLDOUT) as arrays:
        members = dict(arrays)
    if fault == "not an archive":
        (tmp_path / HOLDOUT).write_bytes(b"PK\x03\x04")
    elif fault == "an array is missing":
        np.savez(tmp_path / HOLDOUT, static=members["static"])
    elif fault == "a flat array":
        np.savez(tmp_path / HOLDOUT, **{**members, "forcing": members["forcing"].ravel()})
    else:
        np.savez(tmp_path / HOLDOUT, **{**members, "static": members["static"][:, :2]})
    result = make_result(optimum_scaled=torch.zeros(3, dtype=torch.float64))
    with pytest.raises(SurrogateError, match=r"holdout\.npz: .*Mend or remove it") as caught:
        support(result, make_site()[0], surrogate, tmp_path / HOLDOUT)
    assert "\n" not in str(caught.value)


def test_the_shipped_surrogate_has_members_beside_its_spec():
    folder = Path(lit_invert.__file__).parent / "assets" / "simcycle_lstm"
    surrogate = load_surrogate(folder / "spec.json", load_plugins().surrogate_loaders, Trust())
    result = make_result(optimum_scaled=torch.zeros(36, dtype=torch.float64))
    found = support(result, make_site()[0], surrogate, folder / HOLDOUT)
    assert found["nearest"]["rmse"]["nep"] < 2 * surrogate.spec.accuracy["nep"]
    assert found["percentile"] == 0.0  # the middle of the box
