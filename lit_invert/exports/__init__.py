"""A finished run in the formats of others: CalLMIP, CF NetCDF, Parquet or CSV, and the process model's own parameter file."""

from __future__ import annotations

from .callmip import CalLMIP, write_callmip
from .callmip_check import check_callmip
from .datasets import run_dataset
from .tables import every_table, write_tables

__all__ = ["CalLMIP", "check_callmip", "every_table", "run_dataset", "write_callmip", "write_tables"]
