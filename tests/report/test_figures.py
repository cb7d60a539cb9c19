"""Figures show the numbers of the folder, in every role and at the right place."""

from __future__ import annotations

import matplotlib as mpl
import numpy as np
import pytest

from lit_invert.errors import ResultsError
from lit_invert.report import nep_figure, save_figures
from lit_invert.report.fluxes import fluxes_figure, one_to_one_figure, series_figure
from lit_invert.report.parameters import loss_figure, parameters_figure
from lit_invert.results import read_run
from tests.runs import make_result, make_site, write_run

NAMES = ["series", "one_to_one", "residuals", "fluxes", "parameters", "loss"]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    again = make_result().simulated_optimum + 0.1
    return read_run(write_run(tmp_path_factory.mktemp("logs"), resimulated=again)[0])


def lines(axis):
    return {line.get_label(): line for line in axis.get_lines()}


def test_all_figures_are_drawn_from_the_folder_alone(run):
    paths = save_figures(run.folder)
    assert [path.stem for path in paths] == NAMES
    first = [path.read_bytes() for path in paths]
    assert all(data.startswith(b"\x89PNG") and len(data) > 10_000 for data in first)
    assert [path.read_bytes() for path in save_figures(run.folder)] == first


def test_a_folder_that_is_no_run_is_refused(tmp_path):
    with pytest.raises(ResultsError, match="is not the folder of a run"):
        save_figures(tmp_path)


def test_drawing_leaves_matplotlibs_settings_alone(run):
    before = dict(mpl.rcParams)
    series_figure(run.fluxes, "nep", "Known")
    assert dict(mpl.rcParams) == before


def test_the_series_shows_every_observed_day_in_its_role(run):
    axis = series_figure(run.fluxes, "nep", "Known").axes[0]
    counts = {role: len(lines(axis)[f"observed, {role} days"].get_xdata()) for role in ("fit", "select", "test")}
    assert counts == {"fit": 100, "select": 27, "test": 67}
    assert "positive: sink" in axis.get_ylabel()
    assert "gC" in axis.get_ylabel()
    np.testing.assert_array_equal(lines(axis)["optimum"].get_ydata(), run.fluxes["nep_optimum"])


def test_sums_run_over_observed_days_only(run):
    total = lines(series_figure(run.fluxes, "nep", "Known").axes[1])
    difference = total["prior"].get_ydata() - total["observed, summed"].get_ydata()
    assert difference[-1] == pytest.approx(2.0 * run.fluxes["nep_mask"].sum(), rel=1e-8)


def test_one_to_one_is_square_and_holds_all_days(run):
    axes = one_to_one_figure(run.fluxes, "nep").axes
    assert [axis.get_title("left") for axis in axes] == ["Prior", "Optimum"]
    for axis in axes:
        assert axis.get_xlim() == axis.get_ylim()
        drawn = [line for label, line in lines(axis).items() if "RMSE" in label]
        assert sum(len(line.get_xdata()) for line in drawn) == run.fluxes["nep_mask"].sum()
    assert any("test: n 67, RMSE 0.50" in label for label in lines(axes[1]))


def test_fluxes_that_nobody_measured_say_so(run):
    titles = [axis.get_title("left") for axis in fluxes_figure(run.fluxes, ["gpp", "rh"]).axes]
    assert titles == ["GPP, not observed", "Rh, not observed"]


def test_parameters_lie_within_their_bounds(run):
    axis = parameters_figure(run.parameters).axes[0]
    prior = lines(axis)["prior"].get_xdata()
    # (12 - 5) / 25; halfway between 0.001 and 0.1 in the logarithm; 0.2 / 0.4 of a range that ends at another parameter; 0.3 / 0.6.
    np.testing.assert_allclose(prior, [0.28, 0.5, 0.5, 0.5], rtol=1e-8)
    np.testing.assert_allclose(lines(axis)["optimum"].get_xdata(), [0.36, 0.5 + 1 / np.log(100), 0.5], rtol=1e-8)
    np.testing.assert_allclose(lines(axis)["optimum at a bound"].get_xdata(), [1.0], rtol=1e-6)
    assert [label.get_text() for label in axis.get_yticklabels()] == ["pmax", "NA (log)", "share", "limit"]


def test_a_parameter_without_bounds_is_drawn_around_its_prior(run):
    free = run.parameters.assign(min=-np.inf, max=np.inf, scale="lin", at_bound="")
    prior = lines(parameters_figure(free).axes[0])["prior"].get_xdata()
    assert prior[0] == pytest.approx(0.5)  # four standard deviations to either side


def test_names_from_files_are_text_not_mathematics(run, tmp_path):
    parameters = run.parameters.assign(name="$\\bad", unit="$\\frac$")
    for figure in (parameters_figure(parameters), series_figure(run.fluxes, "nep", r"$\frac$")):
        figure.savefig(tmp_path / "figure.png", dpi=20)


def test_the_loss_shows_each_term_and_the_kept_iterate(run):
    loss, select = loss_figure(run.history, 19).axes
    assert {"total", "misfit", "prior", "best iterate"} <= lines(loss).keys()
    assert set(lines(loss)["best iterate"].get_xdata()) == {19}
    assert list(select.get_lines()[0].get_xdata()) == [5, 10, 15, 20]  # after the iterations 4, 9, 14 and 19


def test_the_small_series_needs_no_folder_and_no_test_day():
    site, _ = make_site()
    result = make_result()
    runs = {"prior": result.simulated_prior[:, 2], "optimum": result.simulated_optimum[:, 2]}
    axis = nep_figure(site.dates, site.roles, site.fit.values[:, 2], site.fit.mask[:, 2], runs).axes[0]
    assert len(lines(axis)["observed, fit days"].get_xdata()) == 100
    assert "observed, test days" not in lines(axis)
