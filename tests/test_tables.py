from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from lit_invert.errors import ObservationError
from lit_invert.sites import DataSettings
from lit_invert.tables import load_table
from tests.tower import READERS, make_frame


def load(path, site=""):
    return load_table(path, DataSettings(path, 48.0, site=site), READERS)


def load_text(folder, text, site=""):
    path = folder / "tower.csv"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return load(path, site)


def test_csv_and_parquet_give_the_same_numbers(tmp_path):
    frame = make_frame()
    frame.to_csv(tmp_path / "a.csv", index=False)
    frame.to_parquet(tmp_path / "a.parquet")
    csv, parquet = load(tmp_path / "a.csv"), load(tmp_path / "a.parquet")
    assert (csv.dates == parquet.dates).all()
    assert csv.numbers("nep", "a test") == pytest.approx(parquet.numbers("nep", "a test"), rel=1e-12)


def test_parquet_with_real_dates_is_read(tmp_path):
    frame = make_frame().astype({"date": "datetime64[us]"}).set_index("date")
    frame.to_parquet(tmp_path / "a.parquet")
    assert load(tmp_path / "a.parquet").dates[[0, -1]].astype(str).tolist() == ["2015-01-01", "2015-12-31"]


def test_parquet_without_pyarrow_names_the_extra(tmp_path, monkeypatch):
    make_frame().to_parquet(tmp_path / "a.parquet")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ObservationError, match=r'Run: pip install "lit-invert\[parquet\]"'):
        load(tmp_path / "a.parquet")


def test_fluxnet_dates_and_missing_values(tmp_path):
    table = load_text(tmp_path, "TIMESTAMP,NEE_VUT_REF\n20160228,-1.5\n20160229,-9999\n20160301,2\n")
    assert table.dates.astype(str).tolist() == ["2016-02-28", "2016-02-29", "2016-03-01"]
    assert table.numbers("NEE_VUT_REF", "a test") == pytest.approx(np.array([-1.5, np.nan, 2.0]), nan_ok=True)


LONG = "unique_id,ds,y\nA,2016-01-01,1\nA,2016-01-02,2\nB,2016-01-01,3\n"


def test_long_form_picks_the_site(tmp_path):
    assert load_text(tmp_path, LONG, "B").numbers("y", "a test").tolist() == [3.0]
    assert load_text(tmp_path, LONG, "A").numbers("y", "a test").tolist() == [1.0, 2.0]


def test_long_form_with_an_unknown_site_names_them(tmp_path):
    with pytest.raises(ObservationError, match=r"holds 2 sites and `data\.site` is 'C'.*Known: A, B"):
        load_text(tmp_path, LONG, "C")


def values_of(path, query):
    return load_table(path, DataSettings(path, 48.0, query=query), READERS).numbers("y", "a test").tolist()


@pytest.mark.parametrize(
    ("towers", "query"),
    [(("007", "008", "007"), "tower = 007"), (("1", "", "1"), "tower = 1"), (("1.0", "1", "1.0"), "tower=1.0")],
)
def test_a_query_reads_a_column_as_it_is_written(tmp_path, towers, query):
    rows = [f"2016-01-0{day},{tower},{day}\n" for day, tower in enumerate(towers, start=1)]
    (tmp_path / "a.csv").write_text("".join(("date,tower,y\n", *rows)))
    assert values_of(tmp_path / "a.csv", query) == [1.0, 3.0]


def test_a_query_finds_whole_numbers_of_parquet_beside_gaps(tmp_path):
    frame = pd.DataFrame({"date": ["2016-01-01", "2016-01-02", "2016-01-03"], "tower": [1.0, np.nan, 1.0], "y": [1, 2, 3]})
    frame.to_parquet(tmp_path / "a.parquet")
    assert values_of(tmp_path / "a.parquet", "tower = 1") == [1.0, 3.0]


def test_a_query_that_finds_nothing_says_what_there_is(tmp_path):
    (tmp_path / "a.csv").write_text("date,tower,y\n2016-01-01,1.0,7\n2016-01-02,,8\n2016-01-03,B,9\n")
    with pytest.raises(ObservationError, match=r"no row has '1' in column 'tower', .* Its first values are: 1\.0, B\."):
        values_of(tmp_path / "a.csv", "tower = 1")


def test_a_queried_column_still_holds_numbers(tmp_path):
    (tmp_path / "a.csv").write_text("date,y\n2016-01-01,7\n2016-01-02,8\n")
    assert values_of(tmp_path / "a.csv", "y = 7") == [7.0]


def test_a_byte_order_mark_and_blank_lines_do_no_harm(tmp_path):
    table = load_text(tmp_path, "\ufeffdate, x\n2016-01-01,1\n\n2016-01-02,2\n\n")
    assert table.numbers("x", "a test").tolist() == [1.0, 2.0]
    assert table.place(1, "x").endswith("row 4 (2016-01-02), column 'x'")


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", r"is not a CSV file"),
        (b"\xff\xfe\x00\x81", r"is not a CSV file"),
        ("date,x\n2016-01-01,1\n2016-01-02,2,3\n", r"is not a CSV file .*line 3"),
        ("date;x\n2016-01-01;1\n", r"separated by ';', expected ','"),
        ("date,x\n", r"has no rows"),
        ("day,x\n2016-01-01,1\n", r"has no column of dates, expected one named 'date', 'TIMESTAMP', 'ds'; found day, x"),
        ("date,x\n2016-01-01,1\n2016-02-30,2\n", r"row 3, column 'date': expected a day .*found '2016-02-30'"),
        ("date,x\n01/02/2016,1\n", r"row 2, column 'date': expected a day .*found '01/02/2016'"),
        ("TIMESTAMP,x\n201601010030,1\n", r"found '201601010030'\. Half-hourly files must be averaged"),
        ("date,x\n2016-01-01,1\n2016-01-02,2\n2016-01-01,3\n", r"rows 2 and 4 are both dated 2016-01-01"),
        ("date,x\n2016-01-02,1\n2016-01-01,2\n", r"row 3 \(2016-01-01\) comes after row 2 \(2016-01-02\)\. Sort"),
    ],
)
def test_malformed_files_are_named_with_row_and_remedy(tmp_path, text, complaint):
    with pytest.raises(ObservationError, match=complaint):
        load_text(tmp_path, text)


def test_a_missing_file_and_an_unknown_kind_are_named(tmp_path):
    with pytest.raises(ObservationError, match=r"no such file\. Check the paths in the block `data:`"):
        load(tmp_path / "nowhere.csv")
    (tmp_path / "a.xlsx").touch()
    with pytest.raises(ObservationError, match=r"no reader for files named '\*\.xlsx'\. Known readers: csv, parquet"):
        load(tmp_path / "a.xlsx")


def test_a_damaged_parquet_file_is_named(tmp_path):
    (tmp_path / "a.parquet").write_text("not columns")
    with pytest.raises(ObservationError, match="is not a Parquet file"):
        load(tmp_path / "a.parquet")
