"""NetCDF in and out: a tower's daily fluxes and weather under CF conventions, and datasets of one place to write."""

from __future__ import annotations

from .reader import NetcdfReader
from .writing import site_dataset, write_dataset

__all__ = ["NetcdfReader", "site_dataset", "write_dataset"]
