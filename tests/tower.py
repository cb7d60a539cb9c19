"""A made-up tower file and the spec that reads it, shared by the tests of data."""

from __future__ import annotations

import numpy as np
import pandas as pd

from lit_invert.sites import DataSettings, SealedObservations, Site, SplitSettings, read_site
from lit_invert.surrogates.base import SurrogateSpec, Variable
from lit_invert.tables import CsvReader, ParquetReader

READERS = {reader.name: reader for reader in (CsvReader(), ParquetReader())}
DRIVERS = {
    "tmp_sfc": "K",
    "tmp_2m": "K",
    "tmp10_soil": "K",
    "tmp200_soil": "K",
    "dswrf": "W m-2",
    "tcdc": "%",
    "prate": "kg m-2 s-1",
    "spfh": "kg kg-1",
    "wind": "m s-1",
    "aco2": "ppm",
    "day_length": "h",
    "sun_noon": "-",
}
SPEC = SurrogateSpec(
    "toy",
    statics=(Variable("a"),),
    drivers=tuple(Variable(name, unit) for name, unit in DRIVERS.items()),
    outputs=tuple(Variable(name, "gC m-2 d-1") for name in ("gpp", "npp", "nep", "rh")),
)
NEP = 2


def make_frame(first: str = "2015-01-01", days: int = 365) -> pd.DataFrame:
    """Weather and NEP of a year that never was, complete and in our own names and units."""
    dates = np.datetime64(first) + np.arange(days)
    season = np.sin(2 * np.pi * (np.arange(days) - 105) / 365.25)
    ripple = np.random.default_rng(0).normal(size=days)
    air = 283.0 + 10.0 * season + ripple
    return pd.DataFrame(
        {
            "date": dates.astype(str),
            "tmp_sfc": air + 0.5,
            "tmp_2m": air,
            "tmp10_soil": 283.0 + 8.0 * season,
            "tmp200_soil": 283.0 + 4.0 * season,
            "dswrf": 150.0 + 100.0 * season,
            "tcdc": 50.0 + 20.0 * season,
            "prate": 3e-5,
            "spfh": 0.006,
            "wind": 3.0,
            "aco2": 400.0,
            "nep": 3.0 * season + 0.1 * ripple,
        }
    )


def read(frame: pd.DataFrame, folder, *, spec=SPEC, **settings) -> tuple[Site, SealedObservations]:
    """Write the frame and read the site, with every day in `fit` unless a split is given."""
    path = folder / "tower.csv"
    frame.to_csv(path, index=False)
    settings.setdefault("split", SplitSettings("none"))
    return read_site(DataSettings(path, settings.pop("latitude", 48.0), **settings), spec, READERS)
