"""Holes in a user's own text: what fills them, what is refused, and the line that is named."""

from __future__ import annotations

import json

import pytest

from lit_invert.errors import ConfigError
from lit_invert.external import Template

VALUES = {"pmax": 12.3456789012345678, "years": 40.0, "site": "FR-Hes"}
#: The same numbers as a Fortran namelist, a CSV table, lines of key and value, and JSON.
TEXTS = [
    "&veg\n  site = '{site}'\n  pmax = {pmax}, years = {years}\n/\n",
    "name,value\nsite,{site}\npmax,{pmax}\nyears,{years}\n",
    "site = {site}\npmax = {pmax}\nyears = {years}\n",
    '{{"site": "{site}", "pmax": {pmax}, "years": {years}}}\n',
]


def test_numbers_come_back_to_their_last_digit():
    """Parsed by their own readers: JSON, and text split at its marks."""
    assert json.loads(Template(TEXTS[3], "a.json").fill(VALUES)) == VALUES
    lines = dict(line.split(" = ") for line in Template(TEXTS[2], "a.txt").fill(VALUES).splitlines())
    assert (float(lines["pmax"]), float(lines["years"]), lines["site"]) == (VALUES["pmax"], 40.0, "FR-Hes")
    rows = dict(line.split(",") for line in Template(TEXTS[1], "a.csv").fill(VALUES).splitlines())
    assert float(rows["pmax"]) == VALUES["pmax"]


@pytest.mark.parametrize(
    ("hole", "wanted"),
    [
        ("{pmax:.4f}", "12.3457"),
        ("{pmax:12.3e}", "   1.235e+01"),
        ("{years:d}", "40"),
        ("{years:05d}", "00040"),
        ("{site:>8}", "  FR-Hes"),
        ("{ pmax :.1f}", "12.3"),
        ("{{pmax}}", "{pmax}"),
        ("{{{pmax:.1f}}}", "{12.3}"),
    ],
)
def test_formats_are_those_of_python_and_doubled_braces_are_braces(hole, wanted):
    assert Template(hole, "a").fill(VALUES) == wanted


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a\n{pmx}", r"a\.nml:2: 'pmx' is not known\. Did you mean 'pmax'\?"),
        ("{pmax.real}", r"a\.nml:1: found '\{pmax\.real\}', expected a name and perhaps a format"),
        ("{pmax[0]}", "expected a name"),
        ("{pmax!r}", "expected a name"),
        ("{}", "expected a name"),
        ("{0}", "expected a name"),
        ("{pmax:{years}}", "expected a name"),
        ("{pmax:99999999999}", "expected a name"),
        ("\n\n{pmax", r"a\.nml:3: found '\{', expected a name"),
        ("a } b", r"a\.nml:1: found '\}'"),
        ("{site:.2f}", "format '.2f' does not fit the value of 'site'"),
    ],
)
def test_what_is_no_hole_is_refused_with_its_line(text, message):
    with pytest.raises(ConfigError, match=message):
        Template(text, "a.nml").fill(VALUES)


def test_a_check_finds_the_same_before_the_values_are_known():
    numbers, texts = ["pmax", "years"], ["site"]
    for text in TEXTS:
        Template(text, "a").check(numbers, texts)
    with pytest.raises(ConfigError, match=r"a:2: 'site' is not known"):
        Template(TEXTS[0], "a").check(numbers, [])
    with pytest.raises(ConfigError, match=r"a:1: format '\.2f' does not fit the value of 'site'"):
        Template("{site:.2f}", "a").check(numbers, texts)
    with pytest.raises(ConfigError, match="a:1: format 's' does not fit the value of 'pmax'"):
        Template("{pmax:s}", "a").check(numbers, texts)


@pytest.mark.parametrize("value", [float("inf"), float("nan")])
def test_a_number_that_is_none_has_no_integer(value):
    with pytest.raises(ConfigError, match="a:1: format 'd' does not fit the value of 'pmax'"):
        Template("{pmax:d}", "a").fill({"pmax": value})


def test_a_template_that_cannot_be_read_is_named(tmp_path):
    (tmp_path / "a.nml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match=r"a\.nml: template is not UTF-8 text \(byte 0\)"):
        Template.load(tmp_path / "a.nml")
    with pytest.raises(ConfigError, match="template cannot be read"):
        Template.load(tmp_path / "b.nml")
