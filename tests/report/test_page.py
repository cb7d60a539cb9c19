"""One page that says what was found, honestly, and holds all it needs."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import pytest

from lit_invert.extensions import ReportSection, Verdict
from lit_invert.report import write_report
from lit_invert.report.page import headline
from tests.report.files import add_uncertainty
from tests.runs import make_result, write_run


def page(tmp_path, *sections, **options):
    folder, _ = write_run(tmp_path, **options)
    return write_report(folder, sections).read_text()


def score(n, before, after):
    change = None if n == 0 else 100 * (after - before) / before
    return {"nep": {"n": n, "prior": {"rmse": before}, "optimum": {"rmse": after}, "rmse_change_percent": change}}


@pytest.mark.parametrize(
    ("roles", "sentence"),
    [
        (
            {"fit": score(99, 3.0, 1.0), "test": score(58, 2.31, 1.72)},
            "On 58 test days that the inversion never saw, NEP RMSE fell from 2.31 to 1.72 gC m-2 d-1 (-26 %).",
        ),
        (
            {"test": score(58, 1.0, 1.5)},
            "On 58 test days that the inversion never saw, NEP RMSE rose from 1.00 to 1.50 gC m-2 d-1 (+50 %).",
        ),
        (
            {"fit": score(99, 3.0, 1.0), "select": score(20, 2.0, 1.0), "test": score(0, None, None)},
            "On 20 select days, by which the iterate was chosen, NEP RMSE fell from 2.00 to 1.00 gC m-2 d-1 (-50 %).",
        ),
        (
            {"fit": score(99, 2.0, 2.0)},
            "On 99 days that it was fitted to, with none held back, NEP RMSE stayed at 2.00 gC m-2 d-1.",
        ),
        ({"fit": {}}, "No observed day of NEP was scored."),
    ],
)
def test_the_headline_is_the_best_evidence_there_is(roles, sentence):
    assert headline({"target": "nep", "roles": roles}) == sentence


def test_the_page_says_what_the_numbers_say(tmp_path):
    text = page(tmp_path, resimulated=make_result().simulated_optimum - 0.1)
    assert "On 67 test days that the inversion never saw, NEP RMSE fell from 2.00 to 0.50 gC m-2 d-1 (-75 %)." in text
    assert "4 parameters. 1 optimum at a bound: share." in text
    assert "<td>2920</td>" in text  # GPP, 8 gC m-2 d-1 over 365 days
    assert "Wind was guessed." in text
    assert "All 20 iterations were used." in text
    titles = re.findall(r"<h2>(.*?)</h2>", text.split("</header>")[1])
    assert titles == ["Scores", "Season", "Carbon budget", "Parameters", "Surrogate trust", "Fit", "Provenance"]


def test_what_further_files_say_is_on_the_page(tmp_path):
    folder, _ = write_run(tmp_path)
    add_uncertainty(folder)
    text = write_report(folder, []).read_text()
    for said in (
        "2500 to 3300",  # GPP of 2001
        "not observed: constrained through NEP and the prior alone",
        "traded off with pmax (+0.90)",
        "pmax up, NA up: &lt;trade-off&gt;",
        "2 of 3 are held by the data",
        "<td class=text>pmax</td><td class=text>NA</td><td>+0.90</td>",
        "A note of &lt;the&gt; analysis.",
        "These days lie beyond 2.6 sd of the prior predictive.",
        "share: Two methods disagree.",
        "the loss was not finite",
        "mean season of the fit days",
        "<td>0.75</td><td class=text>better</td>",
        "Surrogate at the optimum: flagged, for pmax is outside its training range.",
        "19 % of the fit days have a smaller residual, and its square is 3 % of the mean squared misfit",
        "Do residuals neither rise nor fall with wind?",
        "<td>0.012</td><td>0.2</td><td class=text>close</td>",
        "<td class=text>gpp on the fit days</td><td class=text>pmax</td><td>31</td><td>+1</td>",
        "<td class=text>no NEP from March to May</td><td class=text>pmax</td><td>4.1-fold</td><td>-1</td>",
        "pmax and NA can rise together, unseen by these data (correlation +0.90).",
        "1 of 200 days; records made by the prior itself have 0.25 on average.",
        "around the posterior&#x27;s mode; the optimum is the fit&#x27;s own",
    ):
        assert said in text
    assert "<the>" not in text


def test_scores_of_the_table_have_their_closed_forms(tmp_path):
    rows = re.findall(r"<tr>(.*?)</tr>", page(tmp_path).split("<h2>Scores</h2>")[1])
    cells = [re.findall(r"<td.*?>(.*?)</td>", row) for row in rows]
    optimum = next(row for row in cells if row[:4] == ["test", "NEP", "67", "optimum"])
    # Half a gC too high on every day: no spread left, the amplitude of a season right, (0.5 / 0.5)^2 of the data's own errors.
    assert optimum[4:7] == ["0.50", "-75 %", "0.50"]
    assert optimum[10:] == ["183", "1.00"]
    further = next(row for row in cells[cells.index(optimum) + 1 :] if row[:4] == ["test", "NEP", "67", "optimum"])
    assert further[4:] == ["0.00", "0.50", "1.00", "1.00"]


def test_the_contents_link_to_every_section(tmp_path):
    text = page(tmp_path)
    assert re.findall(r"<a href=#(.*?)>", text) == re.findall(r"<section id='(.*?)'", text)


def test_the_page_needs_nothing_else(tmp_path):
    folder, _ = write_run(tmp_path)
    (folder / "figures").mkdir()
    figures = [folder / "figures" / f"{name}.png" for name in ("series", "loss")]
    for path in figures:
        path.write_bytes(b"\x89PNG")
    text = write_report(folder, []).read_text()
    sources = re.findall(r"src='([^']{0,30})", text)
    assert len(sources) == len(figures)
    assert all(source.startswith("data:image/png;base64,") for source in sources)
    assert not re.search(r"<script|<link|https?://|@import|url\(", text)
    assert "prefers-color-scheme: dark" in text
    assert "@media print" in text


def test_tags_are_closed(tmp_path):
    """Every element that is opened is closed, in order."""
    void, stack = {"meta", "img", "br"}, []

    class Nesting(HTMLParser):
        def handle_starttag(self, tag, attrs):
            if tag not in void:
                stack.append(tag)

        def handle_endtag(self, tag):
            assert stack.pop() == tag

    Nesting().feed(page(tmp_path, resimulated=make_result().simulated_optimum, verdicts=[Verdict("a", "advice", "b")]))
    assert stack == []


def test_what_comes_from_files_is_escaped(tmp_path):
    attack = "<script>alert(1)</script>"
    text = page(tmp_path, site=attack, result=make_result(message=attack), verdicts=[Verdict("forcing", "advice", attack)])
    assert "<script>" not in text
    assert text.count("&lt;script&gt;") >= 3


def test_sections_of_plugins_follow_by_title(tmp_path):
    sections = [
        ReportSection("Zinc", lambda folder: "<p>last</p>"),
        ReportSection("Argon & co", lambda folder: f"<p>{folder.name}</p>"),
        ReportSection("Nothing", lambda folder: ""),
    ]
    titles = re.findall(r"<h2>(.*?)</h2>", page(tmp_path, *sections))
    assert titles[-3:] == ["Argon &amp; co", "Zinc", "Provenance"]
    assert "Nothing" not in titles


def test_a_section_that_fails_is_named_and_spoils_nothing(tmp_path):
    def broken(folder):
        raise KeyError("<column>")

    text = page(tmp_path, ReportSection("Broken", broken), ReportSection("Whole", lambda folder: "<p>whole</p>"))
    assert broken.__module__ in text
    assert "KeyError: &#x27;&lt;column&gt;&#x27;" in text
    assert "<p>whole</p>" in text
    assert "<h2>Provenance</h2>" in text


def test_a_check_that_did_not_pass_stands_at_the_top(tmp_path):
    verdicts = [Verdict("forcing", "advice", "warm days."), Verdict("balance", "pass", "closes.")]
    header = page(tmp_path, verdicts=verdicts).split("</header>")[0]
    assert "Check forcing: warm days." in header
    assert "closes." not in header
