"""The tables of a run, joined from what its chunks wrote."""

from __future__ import annotations

import pandas as pd
import pytest

from lit_invert.errors import ResultsError
from lit_invert.many import store as store_module
from lit_invert.many.rows import SITE_COLUMNS, to_tables
from lit_invert.many.store import FAILED, TABLES, Store, check_parquet

KINDS = {"007": "", "1": "NA", "A, B": "oak", "US-AR1": ""}


def rows(*names: str) -> dict[str, pd.DataFrame]:
    """Return what a chunk writes of fitted sites."""
    sites = [{"site": name, "status": "converged", "plant_type": KINDS[name], "days": 120, "rmse_prior": 1.5} for name in names]
    metrics = [{"site": name, "flux": "nep", "role": "fit", "run": "prior", "n": 68, "rmse": 2.0} for name in names]
    parameters = [
        pd.DataFrame({"site": [name], "name": ["q10"], "prior": [2], "at_bound": [""], "fixed": [False]}) for name in names
    ]
    return to_tables(sites, metrics, parameters)


def failed(*names: str) -> dict[str, pd.DataFrame]:
    """Return what a chunk writes of sites without a result."""
    return to_tables([{"site": name, "status": FAILED, "message": "gone"} for name in names], [], [])


@pytest.fixture
def store(tmp_path):
    store = Store(tmp_path)
    store.write("000000-a", failed("007"))
    store.write("000001-b", rows("1", "A, B"))
    store.write("000003-c", rows("US-AR1"))
    return store


def names(folder, table):
    return pd.read_csv(folder / f"{table}.csv", dtype=str)["site"].tolist()


def test_parts_are_joined_in_the_order_of_their_chunks(store, tmp_path):
    assert list(store.join(False)["site"]) == ["007", "1", "A, B", "US-AR1"]
    assert names(tmp_path, "sites") == ["007", "1", "A, B", "US-AR1"]
    assert names(tmp_path, "parameters") == names(tmp_path, "metrics") == ["1", "A, B", "US-AR1"]
    expected = pd.concat([rows("1", "A, B")["parameters"], rows("US-AR1")["parameters"]], ignore_index=True)
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "parameters.csv", keep_default_na=False), expected, check_dtype=False)


def test_parts_with_other_columns_are_joined_by_name(tmp_path):
    store = Store(tmp_path)
    store.write("000000-a", rows("1"))
    more = rows("US-AR1")
    store.write("000001-b", more | {"parameters": more["parameters"].assign(p50=2.5)[["site", "p50", "name"]]})
    store.join(False)
    joined = pd.read_csv(tmp_path / "parameters.csv", dtype=str, keep_default_na=False)
    assert joined[["site", "name", "prior", "p50"]].to_numpy().tolist() == [["1", "q10", "2", ""], ["US-AR1", "q10", "", "2.5"]]


def test_tables_hold_the_sites_of_the_catalogue_in_its_order(store, tmp_path):
    joined = store.join(False, ["US-AR1", "A, B", "not yet", "007"])
    assert list(joined["site"]) == names(tmp_path, "sites") == ["US-AR1", "A, B", "007"]
    assert tuple(joined.columns) == SITE_COLUMNS
    assert joined["plant_type"].tolist() == ["", "oak", ""]
    assert sorted(names(tmp_path, "parameters")) == sorted(names(tmp_path, "metrics")) == ["A, B", "US-AR1"]


@pytest.mark.parametrize("at_once", [1, 2, 100])
def test_parquet_has_the_same_types_whatever_a_piece_holds(store, tmp_path, monkeypatch, at_once):
    monkeypatch.setattr(store_module, "_ROWS_AT_ONCE", at_once)
    store.join(True)
    sites, parameters, metrics = (
        pd.read_parquet(tmp_path / f"{name}.parquet", dtype_backend="numpy_nullable") for name in ("sites", "parameters", "metrics")
    )
    assert sites["site"].tolist() == ["007", "1", "A, B", "US-AR1"]
    assert sites["plant_type"].fillna("").tolist() == ["", "NA", "oak", ""]
    assert sites["days"].fillna(0).tolist() == [0, 120, 120, 120]
    found = {str(dtype) for dtype in sites[["site", "message", "prior", "at_bound"]].dtypes}
    assert (found, str(sites["days"].dtype), str(sites["rmse_optimum"].dtype)) == ({"string"}, "Int64", "Float64")
    assert [str(parameters[name].dtype) for name in ("site", "prior", "fixed")] == ["string", "Float64", "boolean"]
    assert [str(metrics[name].dtype) for name in ("site", "n", "kge")] == ["string", "Int64", "Float64"]


def test_parquet_of_a_run_in_which_all_failed_has_what_there_is(tmp_path):
    store = Store(tmp_path)
    store.write("000000-a", failed("007", "1"))
    store.join(True)
    assert pd.read_parquet(tmp_path / "sites.parquet")["status"].tolist() == [FAILED, FAILED]
    metrics = pd.read_parquet(tmp_path / "metrics.parquet")
    assert (len(metrics), metrics.columns[0], metrics["n"].dtype) == (0, "site", "int64")
    assert {path.name for path in tmp_path.glob("*.parquet")} == {"sites.parquet", "metrics.parquet"}
    assert {path.stem for path in tmp_path.glob("*.csv")} == set(TABLES)


def test_parquet_without_pyarrow_names_the_extra(monkeypatch):
    check_parquet()
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ResultsError, match=r'Run: pip install "lit-invert\[parquet\]"'):
        check_parquet()
