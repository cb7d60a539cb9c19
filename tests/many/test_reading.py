"""A file of many sites is read once, and each site gets its own rows."""

from __future__ import annotations

import os

import pandas as pd
import pytest

from lit_invert.errors import ObservationError
from lit_invert.many.reading import RememberingReader
from lit_invert.sites import DataSettings
from lit_invert.tables import CsvReader

LONG = "date,unique_id,tower,y\n2016-01-01,A,007,1\n2016-01-01,B,7,2\n"


class Cube:
    """A plugin's reader of a file with a dimension of sites."""

    name = "cube"

    def can_read(self, path):
        return path.suffix == ".cube"

    def read(self, path, settings):
        frame = pd.read_csv(path)
        return frame[frame["unique_id"] == settings.site]


@pytest.fixture
def reads(monkeypatch):
    """Names of the files that are read from disk, in order."""
    found, original = [], CsvReader.read

    def read(self, path, settings):
        found.append(path.stem)
        return original(self, path, settings)

    monkeypatch.setattr(CsvReader, "read", read)
    return found


def write(path, text=LONG):
    path.write_text(text)
    return path


def test_a_plugins_reader_is_asked_for_each_site(tmp_path):
    reader, path = RememberingReader(Cube()), write(tmp_path / "all.cube")
    assert [reader.read(path, DataSettings(site=site))["y"].tolist() for site in "ABA"] == [[1], [2], [1]]


def test_two_long_files_in_turns_are_read_once_each(tmp_path, reads):
    reader, fluxes, weather = RememberingReader(CsvReader()), write(tmp_path / "fluxes.csv"), write(tmp_path / "weather.csv")
    for site in "ABAB":
        assert [len(reader.read(path, DataSettings(site=site))) for path in (fluxes, weather)] == [2, 2]
    assert reads == ["fluxes", "weather"]


def test_the_last_four_files_are_kept(tmp_path, reads):
    reader, files = RememberingReader(CsvReader()), [write(tmp_path / f"{i}.csv") for i in range(5)]
    for i in (0, 1, 2, 3, 0, 4, 0, 1):  # 1 is the one that had waited longest when 4 came
        reader.read(files[i], DataSettings())
    assert reads == ["0", "1", "2", "3", "4", "1"]


def test_a_file_that_has_changed_is_read_again(tmp_path, reads):
    reader, path = RememberingReader(CsvReader()), write(tmp_path / "a.csv")
    reader.read(path, DataSettings())
    os.utime(write(path, LONG.replace("007,1", "007,3")), ns=(1, 1))
    assert reader.read(path, DataSettings())["y"].tolist() == [3, 2]


def test_a_query_after_a_site_without_one_sees_the_files_spelling(tmp_path):
    reader, path = RememberingReader(CsvReader()), write(tmp_path / "a.csv")
    assert reader.read(path, DataSettings())["tower"].tolist() == [7, 7]
    assert reader.read(path, DataSettings(query="tower = 007"))["tower"].tolist() == ["007", "7"]


def test_a_file_of_one_other_site_is_refused(tmp_path):
    reader, path = RememberingReader(CsvReader()), write(tmp_path / "a.csv", "date,unique_id,y\n2016-01-01,A,1\n")
    for settings in (DataSettings(site="A"), DataSettings(), DataSettings(site="B", query="unique_id = A")):
        assert reader.read(path, settings)["y"].tolist() == [1]
    with pytest.raises(ObservationError, match=r"a\.csv: all its rows have unique_id 'A', expected 'B'\. Mend"):
        reader.read(path, DataSettings(site="B"))
