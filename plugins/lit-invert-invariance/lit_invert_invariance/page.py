"""What a person reads of a validation: a page of its own, and a section in the report of every later fit."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from lit_invert.atomic import write_bytes, write_text
from lit_invert.report.html import number, page, picture, section, table
from lit_invert.results import load_metrics

from .figures import FIGURES, draw

#: The specification's booleans, and what each is about.
_LITERAL = {
    "retention_ok": "retention within 0.95 +- 0.02",
    "netexp_ok": "change of the expected value below 5 %",
    "spearman_ok": "rank correlation above 0.90",
    "onnx_ok": "degradation of the export below 1.5 %",
    "nan_ok": "values that are no numbers below 5 %",
    "all_passed": "all of them",
}


def write_page(folder: Path, validation: Mapping[str, Any]) -> Path:
    """Write `report.html` and the figures of a validation into its folder.

    Args:
        folder: The folder.
        validation: Content of validation.json.

    Returns:
        The page.
    """
    figures = draw(validation)
    (folder / "figures").mkdir(exist_ok=True)
    for name, png in figures.items():
        write_bytes(folder / "figures" / f"{name}.png", png)
    decision, surrogate = validation["decision"], validation["surrogate"]
    kicker = f"lit-invert &middot; surrogate {escape(surrogate['name'])} &middot; {escape(', '.join(validation['sites']))}"
    body = [
        f"<header><p class='kicker'>{kicker}</p><h1>{escape(decision['sentence'])}</h1>"
        f"<p>Validated {escape(validation['created'])}.</p></header>",
        section("Verdicts", _verdicts(validation["verdicts"]), _literal(validation["literal"])),
        *(_details(verdict, figures) for verdict in validation["verdicts"]),
    ]
    path = folder / "report.html"
    write_text(path, page(f"{surrogate['name']}: {decision['sentence']}", body))
    return path


def render_validation(folder: Path) -> str:
    """Return what is known of the surrogate of a finished fit, as HTML; empty where nobody has validated it."""
    checks = [check for check in load_metrics(folder)["checks"] if check["check"] == "validation" and check.get("details")]
    if not checks:
        return ""
    details = checks[0]["details"]
    intro = f"<p>{escape(details['decision']['sentence'])} Validated {escape(details['created'])}.</p>"
    return intro + _verdicts(details["table"]) + _literal(details["literal"])


def _verdicts(verdicts: Sequence[Mapping[str, Any]]) -> str:
    many = len({verdict["site"] for verdict in verdicts}) > 1
    labels = [*(["site"] if many else []), "check", "verdict", "value", "threshold", "finding"]
    rows = [
        [
            *([verdict["site"] or "all"] if many else []),
            *(verdict["check"], verdict["outcome"], number(verdict["value"]), number(verdict["threshold"]), verdict["message"]),
        ]
        for verdict in verdicts
    ]
    numbers = {labels.index("value"), labels.index("threshold")}
    return table(labels, rows, text=[i for i in range(len(labels)) if i not in numbers])


def _literal(literal: Mapping[str, bool]) -> str:
    rows = [[meaning, "true" if literal[name] else "false"] for name, meaning in _LITERAL.items()]
    return "<h3>The specification's literal booleans</h3>" + table(["", "holds"], rows, text=(0, 1))


def _details(verdict: Mapping[str, Any], figures: Mapping[str, bytes]) -> str:
    """Return what lies behind a verdict: its figure and its table, where it has them."""
    details = verdict["details"]
    name = f"{verdict['check']}_{verdict['site']}"
    parts = [picture(figures[name], FIGURES[verdict["check"]][1])] if name in figures else []
    rows = details.get("table", [])
    if rows:
        labels = list(dict.fromkeys(label for row in rows for label in row))
        text = [i for i, label in enumerate(labels) if any(isinstance(row.get(label), str) for row in rows)]
        parts.append(table(labels, [[_cell(row.get(label)) for label in labels] for row in rows], text))
    where = f" at {verdict['site']}" if verdict["site"] else ""
    return section(f"{verdict['check']}{where}", f"<p>{escape(verdict['message'])}</p>", *parts) if parts else ""


def _cell(value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return "" if value is None else str(value)
    return number(value) if isinstance(value, float) and math.isfinite(value) else str(value)
