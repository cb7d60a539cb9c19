"""Figures and one HTML page, made from a results folder alone."""

from .figures import save_figures as save_figures
from .fluxes import nep_figure as nep_figure
from .page import write_report as write_report
