"""The shipped weather and parameter table, loaded once."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

import lit_invert
from lit_invert.parameters import ParameterTable, load_parameter_table
from lit_invert.process.weather import Weather, load_weather

ASSETS = Path(lit_invert.__file__).parent / "assets"


@pytest.fixture(scope="session")
def table() -> ParameterTable:
    return load_parameter_table(ASSETS / "parameters" / "simcycle_36.csv")


@pytest.fixture(scope="session")
def hesse() -> Weather:
    return load_weather(ASSETS / "sites" / "FR-Hes_2016.csv", 48.67)


@pytest.fixture(scope="session")
def woodward() -> Weather:
    return load_weather(ASSETS / "sites" / "US-AR1_2009-2012.csv", 36.43)


@pytest.fixture(scope="session")
def forcing(hesse: Weather) -> Tensor:
    return torch.from_numpy(hesse.forcing())[None]
