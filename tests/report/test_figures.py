"""Figures show the numbers of the folder, in every role and at the right place."""

from __future__ import annotations

import io
from functools import partial

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from lit_invert.errors import ResultsError
from lit_invert.report import nep_figure, save_figures
from lit_invert.report.draw.distribution import distribution_figure
from lit_invert.report.draw.identifiability import correlation_figure, profiles_figure, ranking_figure, spectrum_figure
from lit_invert.report.draw.iterations import loss_figure
from lit_invert.report.draw.others import fluxes_figure
from lit_invert.report.draw.parameters import parameters_figure, posterior_figure
from lit_invert.report.draw.residuals import weather_figure
from lit_invert.report.draw.scatter import one_to_one_figure, taylor_figure
from lit_invert.report.draw.seasons import season_figure
from lit_invert.report.draw.series import series_figure
from lit_invert.report.draw.skill import skill_figure
from lit_invert.report.draw.starts import parallel_figure, starts_figure
from lit_invert.report.figures import DRAWINGS, to_pdf, to_png
from lit_invert.results import read_run
from tests.report.files import UNCERTAINTY, add_uncertainty
from tests.runs import make_result, make_site, write_run

ALWAYS = ["series", "skill", "one_to_one", "taylor", "season", "residuals", "distribution", "fluxes", "parameters", "loss"]
WITH_FILES = ["posterior", "ranking", "spectrum", "correlation", "profiles", "starts", "parallel"]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    again = make_result().simulated_optimum + 0.1
    return read_run(write_run(tmp_path_factory.mktemp("logs"), resimulated=again)[0])


@pytest.fixture(scope="module")
def full(tmp_path_factory):
    folder, _ = write_run(tmp_path_factory.mktemp("full"), resimulated=make_result().simulated_optimum + 0.1)
    add_uncertainty(folder)
    return read_run(folder)


def lines(axis):
    return {line.get_label(): line for line in axis.get_lines()}


def test_all_figures_are_drawn_from_the_folder_alone(run):
    paths = save_figures(run.folder, pdf=True)
    assert [path.stem for path in paths] == ALWAYS
    assert all(path.read_bytes().startswith(b"\x89PNG") and path.stat().st_size > 3_000 for path in paths)
    assert all(path.with_suffix(".pdf").read_bytes().startswith(b"%PDF") for path in paths)


def test_the_same_figure_is_the_same_file_on_white(run):
    draw = partial(spectrum_figure, UNCERTAINTY["eigenvalues"], 2)
    png = to_png(draw())
    assert png == to_png(draw())
    assert to_pdf(draw()) == to_pdf(draw())
    with Image.open(io.BytesIO(png)) as image:
        assert image.convert("RGB").getpixel((0, 0)) == (255, 255, 255)


def test_each_file_of_the_folder_adds_its_figure(full):
    names = [drawing.name for drawing in DRAWINGS if drawing.draw(full) is not None]
    assert sorted(names) == sorted(ALWAYS + WITH_FILES)


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
    assert axis.get_title("right") == "NEP > 0: sink (NEP = \N{MINUS SIGN}NEE)"
    assert "gC" in axis.get_ylabel()
    np.testing.assert_array_equal(lines(axis)["optimum"].get_ydata(), run.fluxes["nep_optimum"])


def test_sums_run_over_observed_days_only(run):
    total = lines(series_figure(run.fluxes, "nep", "Known").axes[2])
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
    unseen = "not observed: constrained through NEP and the prior alone"
    assert titles[:3] == [f"{name}, {unseen}" for name in ("GPP", "Rh", "Reco = GPP \N{MINUS SIGN} NEP")]
    seen = fluxes_figure(run.fluxes.assign(gpp_mask=True), ["gpp"]).axes
    assert [axis.get_title("left") for axis in seen[:2]] == ["GPP", "Reco = GPP \N{MINUS SIGN} NEP"]


def test_respiration_and_carbon_use_follow_from_the_other_fluxes(run):
    reco, cue = fluxes_figure(run.fluxes, ["gpp"]).axes[1:]
    np.testing.assert_array_equal(lines(reco)["optimum"].get_ydata(), run.fluxes["gpp_optimum"] - run.fluxes["nep_optimum"])
    np.testing.assert_allclose(lines(cue)["optimum"].get_ydata(), 0.5)  # NPP 4 of GPP 8


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
    loss, select = loss_figure(run.history.assign(clipped_share=0.0), 19).axes  # what never changes is not drawn
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


def test_steps_of_the_fit_are_drawn_where_they_vary(run):
    history = run.history.assign(gradient_norm=np.geomspace(1, 0.01, 20), clipped_share=np.linspace(0, 0.5, 20))
    *_, gradient, clipped = loss_figure(history, 19).axes
    assert gradient.get_yscale() == "log"
    np.testing.assert_allclose(clipped.get_lines()[0].get_ydata()[-1], 0.5)


def test_parameters_at_their_bounds_share_a_panel(run):
    history = run.history.assign(at_lower=np.arange(20) // 10, at_upper=2)
    bounds = loss_figure(history, 19).axes[-1]
    assert bounds.get_title(loc="left") == "Parameters at a bound"
    np.testing.assert_array_equal(lines(bounds)["lower"].get_ydata(), history["at_lower"])
    np.testing.assert_array_equal(lines(bounds)["upper"].get_ydata(), history["at_upper"])


def test_skill_is_a_bar_a_baseline_and_a_terrible_one_is_cut(run):
    axis = skill_figure({"season": 0.75, "prior": -9.5}, {"season": "the season"}, 58).axes[0]
    assert [bar.get_width() for bar in axis.patches] == [0.75, -1.0]
    assert [text.get_text() for text in axis.texts] == ["+0.75", "-9.50"]
    assert [label.get_text() for label in axis.get_yticklabels()] == ["the season", "prior"]


def sides(axis, label):
    """Return the lowest and highest ordinate of a filled band by its label."""
    band = next(c for c in axis.collections if c.get_label() == label)
    ordinates = np.concatenate([path.vertices[:, 1] for path in band.get_paths()])
    return ordinates.min(), ordinates.max()


def test_the_bands_of_parameters_and_of_observations_are_told_apart(full):
    axis = series_figure(full.fluxes, "nep", "Known", full.bands).axes[0]
    low, high = full.fluxes["nep_optimum"].min(), full.fluxes["nep_optimum"].max()
    assert sides(axis, "5-95 %, parameters alone") == pytest.approx((low - 1, high + 1))
    assert sides(axis, "5-95 %, an observation (parameters, noise, surrogate)") == pytest.approx((low - 2, high + 2))


def test_monthly_means_are_those_of_the_observed_days_and_break_at_a_gap(run):
    fluxes = run.fluxes.copy()
    march = (fluxes["date"] >= "2001-03-01") & (fluxes["date"] < "2001-03-25")  # leaves fewer than five days
    fluxes.loc[march, "nep_mask"] = False
    drawn = lines(series_figure(fluxes, "nep", "Known").axes[1])["observed, monthly mean"].get_ydata()
    january = fluxes[fluxes["nep_mask"] & (fluxes["date"] < "2001-02-01")]
    assert drawn[0] == pytest.approx(january["nep_observed"].mean())
    assert np.isnan(drawn[2])


def test_the_bars_of_years_are_the_sums_of_the_files(full):
    annual = full.metrics["annual_sums"]
    years = season_figure(full.fluxes, "gpp", annual, full.bands, full.uncertainty).axes[2]
    heights = [bar.get_height() for bar in years.patches]
    np.testing.assert_allclose(sorted(heights), sorted(v for s in annual.values() for v in s["gpp"].values()))
    interval = years.collections[-1].get_segments()[0]
    np.testing.assert_allclose(interval[:, 1], [2500, 3300])


def test_a_taylor_point_lies_where_spread_and_correlation_say(run):
    fluxes = run.fluxes.assign(nep_optimum=2 * run.fluxes["nep_observed"].fillna(0))
    axis = taylor_figure(fluxes, "nep").axes[0]
    point = lines(axis)["optimum, test days"]
    assert point.get_ydata()[0] == pytest.approx(2.0)
    assert point.get_xdata()[0] == pytest.approx(0.0, abs=1e-6)


def test_there_is_no_taylor_diagram_of_days_that_do_not_differ(run):
    assert taylor_figure(run.fluxes.assign(nep_observed=1.0), "nep") is None


def test_many_days_are_drawn_as_a_density(run):
    fluxes = pd.concat([run.fluxes] * 6, ignore_index=True)
    density = one_to_one_figure(fluxes, "nep").axes[1].collections[0]
    assert density.get_array().sum() == fluxes["nep_mask"].sum()


def test_weather_that_never_changes_shows_nothing(run):
    assert weather_figure(run.fluxes, "nep", run.forcing, {}) is None


def test_residuals_stand_over_the_weather_of_their_day_in_degrees(run):
    forcing = run.forcing.assign(tmp_2m=np.linspace(270, 300, len(run.forcing)))
    axis = weather_figure(run.fluxes, "nep", forcing, {"tmp_2m": "K"}).axes[0]
    days = lines(axis)["optimum, a day"]
    mask = run.fluxes["nep_mask"].to_numpy()
    np.testing.assert_allclose(days.get_xdata(), forcing["tmp_2m"][mask] - 273.15)
    np.testing.assert_allclose(days.get_ydata(), 0.5, rtol=1e-7)
    assert axis.get_xlabel() == "air temperature [\N{DEGREE SIGN}C]"


def test_the_noise_models_correlation_stands_beside_that_of_the_residuals(run):
    axis = distribution_figure(run.fluxes, "nep", None, 0.6).axes[2]
    curve = next(line for label, line in lines(axis).items() if label.startswith("noise model"))
    np.testing.assert_allclose(curve.get_ydata()[:3], [0.6, 0.36, 0.216])


def test_posteriors_are_grouped_by_class_without_fixed_parameters(full):
    axis = posterior_figure(full.parameters, full.posterior, full.posterior_samples).axes[0]
    assert [label.get_text() for label in axis.get_yticklabels()] == ["pmax", "NA (log)", "share"]
    np.testing.assert_allclose(lines(axis)["mode"].get_xdata()[0], (14 - 5) / 25)


def test_correlations_leave_fixed_parameters_out_and_pairs_together(full):
    axis = correlation_figure(full.posterior_correlation).axes[0]
    assert [label.get_text() for label in axis.get_xticklabels()] == ["pmax", "NA", "share"]
    np.testing.assert_allclose(axis.images[0].get_array()[0], [1, 0.9, -0.2])


def test_the_spectrum_shows_the_rank(full):
    axis = spectrum_figure(UNCERTAINTY["eigenvalues"], 2).axes[0]
    assert [bar.get_height() for bar in axis.patches] == [50.0, 2.0, 0.1, 1e-6]  # on a logarithmic axis nothing is nought
    assert set(lines(axis)["practical rank 2"].get_xdata()) == {2.5}


def test_a_profile_is_drawn_as_it_stands(full):
    drawn = lines(profiles_figure(full.profiles, full.parameters).axes[0])
    np.testing.assert_array_equal(drawn["profile"].get_xydata(), full.profiles[["value", "rise"]])
    assert set(drawn["optimum"].get_xdata()) == {14.0}


def test_rankings_start_with_the_largest(full):
    panels = ranking_figure(full.sensitivity, full.posterior).axes
    tops = [(axis.get_yticklabels()[0].get_text(), axis.patches[0].get_width()) for axis in panels]
    assert tops == [("pmax", 80.0), ("share", 3.0), ("share", pytest.approx(0.3))]


def test_the_waterfall_colours_clusters_and_counts_failures(full):
    waterfall, curve = starts_figure(full.starts, full.metrics["starts"]["r_t"]).axes
    assert waterfall.get_title("left") == "Waterfall of 4 starts, 1 failed"
    np.testing.assert_allclose(lines(waterfall)["cluster 1: 2 starts"].get_ydata(), [0.25, 0.251])
    np.testing.assert_allclose(lines(waterfall)["on its own"].get_ydata(), [0.6])
    np.testing.assert_allclose(lines(curve)["best of so many starts"].get_ydata(), [1.5, 1.1])


def test_parallel_coordinates_leave_fixed_parameters_and_failed_starts_out(full):
    axis = parallel_figure(full.starts, full.parameters).axes[0]
    drawn = [line for line in axis.get_lines() if line.get_label() != "prior"]
    assert len(drawn) == 3
    place = [label.get_text() for label in axis.get_xticklabels()].index("pmax")
    assert sorted(line.get_ydata()[place] for line in drawn) == pytest.approx([(9.8 - 5) / 25, 0.36, 0.36])
