"""A fit that has finished is not lost by what comes after it: process model, support, posterior, figures, report."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from lit_invert import fit as module
from lit_invert.config import parse_fit
from lit_invert.errors import ResultsError
from lit_invert.inversion import invert_sites
from lit_invert.losses import Prior
from lit_invert.plugins import build_registry
from lit_invert.results import InversionStatus, Run, read_run
from tests.toy_fit import write_toy_fit

LAPLACE = ("--uncertainty.method", "laplace", "--uncertainty.draws", "20")


def status_of(folder):
    return json.loads((folder / "status.json").read_text())["status"]


def run_fit(folder, *arguments, terms=()):
    registry = build_registry()
    config = parse_fit(["--config", str(write_toy_fit(folder)), *arguments], registry)
    return module.fit(replace(config, loss_terms=terms), registry)


def failing(error):
    def fails(*_):
        raise error

    return fails


def is_whole(outcome):
    assert status_of(outcome.folder) == outcome.result.status.key != "failed"
    assert len(read_run(outcome.folder).parameters) == 3
    return outcome


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (ResultsError("hardly a draw converged."), "hardly a draw converged."),
        (RuntimeError("not\npositive"), "RuntimeError: not positive"),
        (MemoryError(), "MemoryError:"),
        (KeyboardInterrupt(), "it was interrupted."),
    ],
)
def test_an_analysis_that_does_not_end_leaves_the_fit_and_says_why(tmp_path, monkeypatch, error, reason):
    monkeypatch.setattr(module, "quantify", failing(error))
    outcome = is_whole(run_fit(tmp_path, *LAPLACE))
    told = f"The uncertainty was not quantified: {reason}"
    assert outcome.metrics["advice"][-1] == Run(outcome.folder).metrics["advice"][-1] == told
    assert (outcome.folder / "report.html").is_file()


def test_the_fit_lies_in_its_folder_before_the_analysis_begins(tmp_path, monkeypatch):
    seen = {}

    def look(*_):
        folder = tmp_path / "logs" / "toy" / "version_0"
        seen.update(status=status_of(folder), optimum=read_run(folder).parameters["optimum"].tolist())
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "quantify", look)
    outcome = run_fit(tmp_path, *LAPLACE)
    assert seen == {"status": "running", "optimum": read_run(outcome.folder).parameters["optimum"].tolist()}


def test_an_interrupted_fit_is_not_analysed(tmp_path, monkeypatch):
    def stopped(*arguments, **options):
        return [replace(result, status=InversionStatus.INTERRUPTED) for result in invert_sites(*arguments, **options)]

    monkeypatch.setattr(module, "invert_sites", stopped)
    outcome = is_whole(run_fit(tmp_path, *LAPLACE))
    assert outcome.metrics["advice"][-1] == "The uncertainty was not quantified: the fit was interrupted."
    assert Run(outcome.folder).posterior is None


def test_support_that_cannot_be_measured_is_said(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "support", failing(ValueError("empty ensemble")))
    outcome = is_whole(run_fit(tmp_path))
    told = "How far the surrogate was trained for this optimum was not measured: ValueError: empty ensemble"
    assert Run(outcome.folder).metrics["advice"][-1] == told
    assert Run(outcome.folder).metrics["support"] is None


@pytest.mark.parametrize("drawing", ["save_figures", "write_report"])
def test_a_report_that_cannot_be_drawn_does_not_fail_the_run(tmp_path, monkeypatch, drawing):
    monkeypatch.setattr(module, drawing, failing(OSError("no space left")))
    outcome = is_whole(run_fit(tmp_path))
    mend = f"Once that is mended, run `lit-invert report {outcome.folder}`."
    told = f"The report could not be drawn (OSError: no space left). {mend}"
    assert outcome.metrics["advice"][-1] == told
    assert told not in Run(outcome.folder).metrics["advice"]  # it would stand there when it is no longer so


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_a_process_model_that_fails_at_the_optimum_leaves_the_fit(tmp_path, monkeypatch, error):
    def fails(config, registry, table, physical, site, surrogate, days=None):
        if config.resimulate is not None and days is None:
            raise error

    monkeypatch.setattr(module, "resimulate_site", fails)
    metrics = Run(is_whole(run_fit(tmp_path, "--resimulate", "simcycle")).folder).metrics
    told = [check["message"] for check in metrics["checks"]] + metrics["advice"]
    assert sum("`lit-invert resimulate RUN`" in sentence for sentence in told) == 1


class Tight(Prior):
    """A prior of the user's own."""


def test_a_prior_that_the_posterior_does_not_have_is_noted(tmp_path):
    own = "The posterior has a Gaussian prior in place of the fit's own term 'prior', whose class is not lit-invert's."
    for number, terms in enumerate(([], [Tight()])):
        folder = tmp_path / str(number)
        folder.mkdir()
        notes = Run(run_fit(folder, *LAPLACE, terms=terms).folder).uncertainty["notes"]
        assert (own in notes) == bool(terms)
