"""A catalogue: one record a site, with everything about it."""

from __future__ import annotations

import math

import pandas as pd
import pytest
import torch

from lit_invert.catalogue import load_catalogue, load_priors
from lit_invert.errors import ObservationError, ParameterTableError
from lit_invert.observations import ObservedSettings, QualityRule
from lit_invert.parameters import parse_parameter_table
from lit_invert.plugins import build_registry
from lit_invert.sites import DataSettings

READERS = build_registry().data_readers
ROWS = """\
id,file,lat,lon,pft,years,prior,unit,sign,mat
FR-Hes,towers/hes.csv,48.67,7.06,DBF,2014-2016,,gC m-2 d-1,nep,9.2
US-AR1,towers/ar1.csv,36.43,-99.42,GRA,,grass,umol m-2 s-1,nee,
007,,-12.5,,EBF,2016,,,,25
"""
TABLE = parse_parameter_table(["name,prior,min,max", "pmax,12,5,30", "lue,0.05,0.02,0.08"])


def write(folder, text, name="sites.csv"):
    (folder / name).write_text(text)
    return folder / name


def load(catalogue, **settings):
    return load_catalogue(DataSettings(sites=str(catalogue), **settings), READERS)


def test_each_row_is_one_record(tmp_path):
    common = {"nep": ObservedSettings("NEP", uncertainty="sd")}
    hes, ar1, third = load(write(tmp_path, ROWS), path="/data/long.csv", observed=common, latitude=1.0)
    assert (hes.name, hes.plant_type, hes.longitude, hes.data.latitude, hes.data.years) == (
        "FR-Hes",
        "DBF",
        7.06,
        48.67,
        "2014-2016",
    )
    assert hes.data.path == str(tmp_path / "towers" / "hes.csv")
    assert hes.data.observed["nep"] == ObservedSettings("NEP", "nep", "gC m-2 d-1", "sd")
    assert ar1.data.observed["nep"] == ObservedSettings("NEP", "nee", "umol m-2 s-1", "sd")
    assert (ar1.prior, ar1.label("plant_type"), ar1.label("mat"), ar1.label("soil")) == ("grass", "GRA", "", "")
    assert (third.name, third.data.site, third.data.path, third.longitude) == ("007", "007", "/data/long.csv", None)
    assert third.data.observed == common
    assert (hes.number("mat"), hes.number("latitude")) == (9.2, 48.67)
    assert math.isnan(ar1.number("mat"))
    assert hes.attributes == {"mat": "9.2"}
    assert all(entry.data.sites is None for entry in (hes, ar1, third))


def test_a_site_has_its_own_column_and_rule(tmp_path):
    rows = "site,path,column,uncertainty,quality,quality_minimum\nA,a.csv,FC,FC_SD,QC,0.8\nB,b.csv,,,,\n"
    common = {"gpp": ObservedSettings("GPP")}
    first, second = load(write(tmp_path, rows), observed=common, quality=QualityRule("n", 24))
    assert first.data.observed == {**common, "nep": ObservedSettings("FC", uncertainty="FC_SD")}
    assert (first.data.quality, second.data.quality) == (QualityRule("QC", 0.8), QualityRule("n", 24))
    assert second.data.observed == common


def test_parquet_says_the_same(tmp_path):
    written = pd.read_csv(write(tmp_path, ROWS), dtype={"id": str})
    written.to_parquet(tmp_path / "sites.parquet")
    same = load(tmp_path / "sites.parquet", path="/data/long.csv")
    csv = load(tmp_path / "sites.csv", path="/data/long.csv")
    assert [entry.name for entry in same] == [entry.name for entry in csv]
    assert [entry.data for entry in same] == [entry.data for entry in csv]
    assert same[2].number("mat") == 25.0


def test_parquet_has_whole_numbers_where_cells_are_empty(tmp_path):
    frame = pd.DataFrame({"path": ["a.csv", "b.csv"], "years": [2016, None], "mat": [9.5, None], "query": [None, None]})
    frame["longitude"] = pd.array([5, None], dtype="Int64")
    frame.set_index(pd.Index(["A", "B"], name="site")).to_parquet(tmp_path / "sites.parquet")
    first, second = load(tmp_path / "sites.parquet", query="tower = 1")
    assert (first.name, first.data.years, first.longitude, first.attributes) == ("A", "2016", 5.0, {"mat": "9.5"})
    assert (second.name, second.data.years, second.longitude, second.attributes) == ("B", "", None, {"mat": ""})
    assert second.data.query == "tower = 1"


def test_parquet_is_read_without_labels_of_rows(tmp_path):
    frame = pd.DataFrame({"site": ["A", "B"], "path": ["a.csv", "b.csv"]}, index=[3, 7])
    frame.to_parquet(tmp_path / "sites.parquet")
    assert [(entry.name, entry.attributes) for entry in load(tmp_path / "sites.parquet")] == [("A", {}), ("B", {})]


def test_column_names_are_known_in_any_case(tmp_path):
    (entry,) = load(write(tmp_path, "SITE_ID,Path,Latitude,Location_Long,PFT,MAT\nA,a.csv,48,7,GRA,9\n"))
    assert (entry.name, entry.data.latitude, entry.longitude, entry.plant_type) == ("A", 48.0, 7.0, "GRA")
    assert entry.attributes == {"MAT": "9"}


@pytest.mark.parametrize("common", [QualityRule("n", 24, 48), [QualityRule("n", 24, 48)]])
def test_a_site_has_its_own_limits_on_the_column_of_all(tmp_path, common):
    rows = "site,path,quality_minimum,quality_maximum\nA,a.csv,30,\nB,b.csv,,40\nC,c.csv,,\n"
    first, second, third = load(write(tmp_path, rows), quality=common)
    assert (first.data.quality, second.data.quality) == (QualityRule("n", 30, 48), QualityRule("n", 24, 40))
    assert third.data.quality == common


@pytest.mark.parametrize("common", [None, [QualityRule("n", 24), QualityRule("qc", 0.5)]])
def test_limits_of_no_column_are_refused(tmp_path, common):
    with pytest.raises(ObservationError, match=r"row 3: has limits of quality, but no column for them\. Fill"):
        load(write(tmp_path, "site,path,quality_maximum\nA,a.csv,\nB,b.csv,1\n"), quality=common)


def test_a_folder_is_a_catalogue_of_its_files(tmp_path):
    for name in (
        "FLX_US-AR1_FLUXNET2015_SUBSET_DD_2009-2012_1-3.csv",
        "hesse.csv",
        "notes.md",
        "README.txt",
        "readme_first.csv",
        "._hesse.csv",
    ):
        write(tmp_path, "date\n", name)
    assert [(e.name, e.data.latitude) for e in load(tmp_path, latitude=3.0)] == [("US-AR1", 3.0), ("hesse", 3.0)]
    write(tmp_path, "site,path,latitude\nHes,hesse.csv,48.67\n")
    assert [(e.name, e.data.latitude) for e in load(tmp_path)] == [("Hes", 48.67)]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name,file\nx,y.csv\n", "has no column 'site'.*Found: name, file"),
        ("site,path,latitude\nA,a.csv,48\nB,b.csv,north\n", r"row 3, column 'latitude': expected a number, found 'north'"),
        ("site,path,latitude\nA,a.csv,148\n", r"row 2, column 'latitude'.*148"),
        ("site,path\nA,a.csv\nB,b.csv\na,c.csv\n", r"row 4: site 'a' stands also in .*row 2"),
        ("site,path\n../A,a.csv\n", r"row 2, column 'site': expected a name that can be a folder's.*'../A'"),
        ("site,path\n,a.csv\n", "row 2, column 'site'"),
        ('site,path\n"A\nB",a.csv\n', r"row 2, column 'site': expected a name .* printable"),
        ("site,path\n.A,a.csv\n", r"expected a name .*without a leading dot.* found '\.A'"),
        *((f"site,path\nA{sign}B,a.csv\n", "row 2, column 'site': expected a name") for sign in "\\:*?<>|"),
        ("site,path\n\nA,a.csv\n\na,b.csv\n", r"row 5: site 'a' stands also in .*row 3"),
        ("site,path\nA,a.csv,48\nB,b.csv\n", r"sites\.csv: row 2 has more cells than the line of column names"),
        ("site,path\nA,a.csv,\nB,b.csv,\n", r"row 2 has more cells.*end no row with a comma"),
        ("site,path\nA,a.csv\nB,b.csv,48\n", r"is no table of sites .*line 3, saw 3"),
        ("site,latitude\nA,3\n", r"row 2 \(A\): names no file"),
        ("site,path,sign\nA,a.csv,up\n", "row 2, column 'sign': expected 'nep' or 'nee', found 'up'"),
        ("site,id,path\nA,B,a.csv\n", "columns 'site', 'id' mean the same"),
        ("site,path\n", "names no site"),
        ("", "is no table of sites"),
    ],
)
def test_what_is_wrong_is_said_with_its_place(tmp_path, text, message):
    with pytest.raises(ObservationError, match=message):
        load(write(tmp_path, text))


def test_a_catalogue_that_is_not_there_is_named(tmp_path):
    with pytest.raises(ObservationError, match=r"nowhere\.csv: no such file\. Check `data\.sites`"):
        load(tmp_path / "nowhere.csv")


def test_priors_are_found_by_row_plant_type_and_name(tmp_path):
    priors = load_priors(write(tmp_path, "prior,pmax,lue\ngrass,20,\nDBF,,0.06\n007,7,0.07\n", "priors.csv"), TABLE)
    hes, ar1, third = load(write(tmp_path, ROWS), path="x.csv")
    assert priors.of(ar1).tolist() == [20.0, 0.05]
    assert priors.of(hes).tolist() == [12.0, 0.06]
    assert priors.of(third).tolist() == [7.0, 0.07]
    assert load_priors(None, TABLE).of(hes) is None
    with pytest.raises(ObservationError, match="site 'US-AR1': prior 'grass' is no row"):
        load_priors(None, TABLE).of(ar1)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("prior,pmx\ngrass,20\n", "column 'pmx' is not a static parameter. Did you mean 'pmax'"),
        ("prior,pmax\ngrass,31\n", r"row 2, column 'pmax': 31 is outside its bounds, 5 to 30"),
        ("prior,pmax\ngrass,x\n", r"row 2, column 'pmax': expected a number, found 'x'"),
        ("prior,pmax\ngrass,20\ngrass,21\n", "row 3, column 'prior': 'grass' is empty or stands twice"),
        ("kind,pmax\ngrass,20\n", "has no column 'prior'"),
    ],
)
def test_a_wrong_prior_is_named(tmp_path, text, message):
    with pytest.raises(ParameterTableError, match=message):
        load_priors(write(tmp_path, text, "priors.csv"), TABLE)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, r"priors\.csv: no such file\. Check `data\.priors`"),
        ("", "is no table of priors"),
        ("prior,pmax\ngrass,20,\n", r"priors\.csv: row 2 has more cells than the line of column names"),
    ],
)
def test_a_file_that_holds_no_priors_is_named(tmp_path, text, message):
    path = tmp_path / "priors.csv" if text is None else write(tmp_path, text, "priors.csv")
    with pytest.raises(ObservationError, match=message):
        load_priors(path, TABLE)


def test_a_priors_float_is_exact(tmp_path):
    priors = load_priors(write(tmp_path, "prior,pmax\ngrass,12.3456789\n", "priors.csv"), TABLE)
    assert priors.rows["grass"].dtype == torch.float64
    assert priors.rows["grass"][0].item() == 12.3456789
