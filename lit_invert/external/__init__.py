"""A process model that is a program of its own: parameters and weather go to it as files, its fluxes come back as one."""

from __future__ import annotations

from .model import ExternalModel, ExternalSettings, OutputColumn
from .template import Template

__all__ = ["ExternalModel", "ExternalSettings", "OutputColumn", "Template"]
