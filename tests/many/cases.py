"""A small catalogue of toy sites, each with a truth of its own."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import torch

from lit_invert.config import parse_fit
from lit_invert.many import fit_sites
from lit_invert.plugins import build_registry
from lit_invert.testing import toy_forcing, toy_surrogate
from tests.toy_fit import write_toy_fit


def site_truth(number: int) -> torch.Tensor:
    """Return the truth of a site, (3,), inside the bounds."""
    return 2 + 0.7 * torch.cos(torch.arange(1, 4) + 0.5 * number).double()


def write_toy_sites(folder: Path, lengths: Sequence[int]) -> Path:
    """Write a catalogue with noise-free towers, and the config of a fit to all of them.

    Args:
        folder: Where to.
        lengths: Days of each site's record, 120 or more.

    Returns:
        The config; sites are called s000, s001, ...
    """
    config = write_toy_fit(folder)
    surrogate = toy_surrogate()
    rows = []
    for number, days in enumerate(lengths):
        forcing = toy_forcing(days)
        scaled = surrogate.static_scaler.to_scaled(site_truth(number).float())[None]
        frame = pd.DataFrame(forcing[0].numpy(), columns=[v.name for v in surrogate.spec.drivers])
        frame.insert(0, "date", pd.date_range("2016-01-01", periods=days).strftime("%Y-%m-%d"))
        frame["nep"] = surrogate(scaled, surrogate.prepare(forcing))[0, :, 2].numpy()
        frame["n_good"] = 48
        frame.to_csv(folder / f"tower_{number:03d}.csv", index=False)
        rows.append({"site": f"s{number:03d}", "path": f"tower_{number:03d}.csv", "latitude": 40 + number % 20})
    catalogue = pd.DataFrame(rows)
    catalogue["plant_type"] = ["forest" if number % 2 else "grass" for number in range(len(rows))]
    catalogue.to_csv(folder / "sites.csv", index=False)
    text = config.read_text().replace("  path: tower.csv\n  latitude: 48.0\n", "  sites: sites.csv\n")
    config.write_text(text.replace("max_iters: 60", "max_iters: 60\n  solver: auto\n  lambda_prior: 0.001"))
    return config


def run_sites(config: Path, *overrides: str, registry=None):
    """Run the fit of a catalogue."""
    registry = registry or build_registry()
    return fit_sites(parse_fit(["--config", str(config), *overrides], registry), registry)
