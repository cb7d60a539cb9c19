"""The page of a recoverability certificate: which parameters twin experiments found, and how near."""

from __future__ import annotations

from html import escape

import pandas as pd

from ..posterior.certificate import UNIDENTIFIABLE, Certificate
from .html import page, picture, section, table

#: Columns of the table, by the label that they get.
_COLUMNS = {
    "parameter": "name",
    "unit": "unit",
    "verdict": "verdict",
    "bias [prior sd]": "bias",
    "error [prior sd]": "rmse",
    "error without data [prior sd]": "rmse_of_prior",
    "90 % held": "coverage_90",
}


def certificate_page(certificate: Certificate, site: str, png: bytes) -> str:
    """Return the page.

    Args:
        certificate: What the twins recovered.
        site: Name of the site.
        png: Estimates against truths, as a picture.
    """
    rows = [
        [f"{row[key]:.2f}" if isinstance(row[key], float) else row[key] for key in _COLUMNS.values()]
        for row in first_found(certificate.table).to_dict("records")
    ]
    title = f"Recoverability at {site}"
    body = [
        f"<h1>{escape(title)}</h1>",
        section("Verdict", f"<p>{escape(certificate.sentence)}</p>"),
        section("Parameters", table(list(_COLUMNS), rows, text=(0, 1, 2))),
        section("Truth and estimate", picture(png, "Posterior mean and 5-95 % of each twin against its truth, in physical units")),
    ]
    return page(title, body)


def first_found(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the parameters with those that are found first, by their error over that without data."""
    order = (frame["verdict"] == UNIDENTIFIABLE) * 1000 + frame["rmse"] / frame["rmse_of_prior"]
    return frame.loc[order.sort_values(kind="stable").index]
