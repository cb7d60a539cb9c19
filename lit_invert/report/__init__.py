"""Figures and HTML pages, made from results folders alone: of a run, of several side by side, of one over many sites."""

from .comparison import write_comparison as write_comparison
from .draw.series import nep_figure as nep_figure
from .figures import save_figures as save_figures
from .page import write_report as write_report
from .sites import write_sites_report as write_sites_report
