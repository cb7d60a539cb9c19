"""The optional packages behind NetCDF."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from ..errors import ConfigError


def check_extra(path: Path) -> None:
    """Check that the packages that read and write NetCDF are installed.

    Args:
        path: The file that needs them, for the error.

    Raises:
        ConfigError: If one is missing.
    """
    if any(importlib.util.find_spec(name) is None for name in ("xarray", "h5netcdf", "h5py")):
        raise ConfigError(f'{path}: NetCDF needs xarray, h5netcdf and h5py. Run: pip install "lit-invert[netcdf]".')
