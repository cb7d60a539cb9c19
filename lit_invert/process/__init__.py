"""The process model behind the shipped surrogate, and the ensemble that trains it."""

from __future__ import annotations

from .base import ProcessModel
from .simcycle import SimCycle, simulate

__all__ = ["ProcessModel", "SimCycle", "simulate"]
