"""Reading every site before anything is fitted."""

from __future__ import annotations

import pytest

from lit_invert.config import parse_fit
from lit_invert.errors import LitInvertError
from lit_invert.many import read_every_site
from lit_invert.plugins import build_registry
from tests.many.cases import write_toy_sites
from tests.toy_fit import write_toy_fit


def _read(config):
    registry = build_registry()
    return list(read_every_site(parse_fit(["--config", str(config)], registry), registry))


def test_a_config_of_one_site_gives_that_site(tmp_path):
    (inputs,) = _read(write_toy_fit(tmp_path))
    assert (inputs.site.name, len(inputs.site.dates)) == ("tower", 120)


def test_a_catalogue_gives_each_of_its_sites(tmp_path):
    sites = _read(write_toy_sites(tmp_path, [120, 130]))
    assert [(inputs.site.name, len(inputs.site.dates)) for inputs in sites] == [("s000", 120), ("s001", 130)]


def test_a_site_that_cannot_be_read_is_an_error(tmp_path):
    config = write_toy_sites(tmp_path, [120, 120])
    (tmp_path / "tower_001.csv").unlink()
    with pytest.raises(LitInvertError, match=r"sites\.csv, site 's001': .*tower_001\.csv"):
        _read(config)


def test_errors_name_the_command_that_reads_the_config(tmp_path, capsys):
    with pytest.raises(SystemExit):
        parse_fit(["--help"], build_registry(), command="lit-invert ask")
    assert "lit-invert ask --config FILE" in capsys.readouterr().out
