"""Ranks, deciles and their correlation against scipy and pandas, and that the plugin itself loads no scipy."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from lit_invert_invariance.ranking import decile_rank, ranks, spearman
from scipy import stats

CODE = "import sys; sys.path[:] = {path!r}; import lit_invert_invariance; print(sorted({{'scipy', 'onnx'}} & set(sys.modules)))"


@pytest.mark.parametrize("values", [np.random.default_rng(0).normal(size=50), np.random.default_rng(0).integers(0, 9, 50), [7.0]])
def test_ranks_are_those_of_scipy(values):
    np.testing.assert_array_equal(ranks(values), stats.rankdata(values))


def test_spearman_is_that_of_scipy():
    random = np.random.default_rng(0)
    first, second = random.integers(0, 9, 50).astype(float), random.normal(size=50)
    assert spearman(first, second) == pytest.approx(stats.spearmanr(first, second).statistic, rel=1e-12)


def test_deciles_are_those_of_pandas():
    random = np.random.default_rng(0)
    predicted, observed = random.normal(size=120), random.normal(size=120)
    expected = pd.DataFrame({"predicted": predicted, "observed": observed}).groupby(pd.qcut(predicted, 10, labels=False)).mean()
    rho, rows = decile_rank(predicted, observed)
    means = pd.DataFrame(rows)
    np.testing.assert_allclose(means[["predicted", "observed"]], expected, rtol=1e-12)
    assert means["days"].sum() == 120
    assert rho == pytest.approx(stats.spearmanr(range(10), expected["observed"]).statistic, rel=1e-12)


def test_equal_predictions_come_into_one_decile():
    _, rows = decile_rank(np.repeat([1.0, 2.0], [30, 10]), np.arange(40.0))
    assert [(row["days"], row["observed"]) for row in rows] == [(30, 14.5), (10, 34.5)]


def test_the_plugin_loads_no_library_that_a_validation_alone_needs():
    """Every command loads every plugin, and scipy.stats takes as long as all the rest."""
    done = subprocess.run([sys.executable, "-c", CODE.format(path=sys.path)], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
