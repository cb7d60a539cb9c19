"""Clusters of starts, and the best of k against every subset."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pandas as pd
import pytest

from lit_invert.results.starts import NEAR_LOSS, NEAR_PLACE, StartRecord, best_of, find_clusters, start_table, summarise_starts


def record(loss, units, status="finished", select=np.nan):
    place = np.array(units, dtype=float)
    return StartRecord("draw", status, 0, 9.0, loss, select, 5, 0.5, "", place, place)


@pytest.mark.parametrize("k", [1, 2, 3, 5, 7])
def test_the_best_of_k_is_that_of_all_subsets(k):
    scores = np.random.default_rng(0).normal(size=7)
    scores[3] = np.inf
    best = np.sort([min(subset) for subset in combinations(scores, k)])
    found = best_of(scores, k)
    for key, share in (("low", 0.25), ("select", 0.5), ("high", 0.75)):
        assert found[key] == best[int(np.ceil(share * len(best))) - 1]


def test_the_best_of_failed_starts_is_no_number():
    found = best_of(np.array([1.0, np.nan, np.nan, np.nan]), 1)
    assert found["low"] == 1.0
    assert np.isnan([found["select"], found["high"]]).all()


def test_a_chain_of_neighbours_is_one_cluster_and_a_gap_makes_two():
    chain = np.arange(5)[:, None] * 0.9 * NEAR_PLACE * np.ones(4)
    assert find_clusters(np.ones(5), chain).tolist() == [0, 0, 0, 0, 0]
    chain[3:] += 0.2 * NEAR_PLACE
    assert find_clusters(np.array([1.002, 1.001, 1.003, 1.0, 1.004]), chain).tolist() == [1, 1, 1, 0, 0]


def test_a_start_belongs_to_a_cluster_up_to_the_tolerance_of_the_loss():
    loss = np.array([2.0, 2.0 * (1 + 0.99 * NEAR_LOSS), 2.0 * (1 + 1.01 * NEAR_LOSS), np.nan])
    assert find_clusters(loss, np.zeros((4, 2))).tolist() == [0, 0, -1, -1]
    assert find_clusters(-loss[:1], np.zeros((1, 2))).tolist() == [0]
    assert find_clusters(loss[3:], np.zeros((1, 2))).tolist() == [-1]


def test_the_table_has_a_row_a_start_and_the_summary_counts_it():
    records = [record(1.0, [0, 0], select=2.0), record(np.nan, [9, 9], "failed"), record(1.001, [5, 0], select=1.5)]
    table = start_table(records, ["a", "b"])
    assert list(table.columns) == [
        "start", "origin", "status", "round", "loss_start", "loss", "select_rmse", "iterations", "seconds", "cluster", "message",
        "a", "b",
    ]  # fmt: skip
    summary = summarise_starts(table)
    assert {key: summary[key] for key in ("count", "failed", "ranked_by", "clusters", "share_in_best")} == {
        "count": 3, "failed": 1, "ranked_by": "select_rmse", "clusters": 2, "share_in_best": 1 / 3,
    }  # fmt: skip
    assert [(row["starts"], row["select"], row["seconds"]) for row in summary["r_t"]] == [
        (1, 2.0, 0.5),
        (2, 1.5, 1.0),
        (3, 1.5, 1.5),
    ]


def test_without_select_days_the_loss_ranks():
    summary = summarise_starts(start_table([record(3.0, [0]), record(1.0, [9])], ["a"]))
    assert (summary["ranked_by"], summary["r_t"][1]["select"]) == ("loss", 1.0)


def test_the_table_survives_its_file(tmp_path):
    table = start_table([record(1.0, [0.25]), record(np.nan, [1.0], "failed")], ["a"])
    table.to_csv(tmp_path / "starts.csv", index=False)
    again = pd.read_csv(tmp_path / "starts.csv")
    assert summarise_starts(again) == summarise_starts(table)
