"""Real programs to run as process models: small Python scripts that behave well, or as badly as they are told to."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from lit_invert.external import ExternalSettings, OutputColumn
from lit_invert.observations import Observations
from lit_invert.sites import Site

#: gpp = a * light, nee = -(a * light - b): written in the order and the sign of no one else.
SCRIPT = """\
import csv, os, subprocess, sys, time

parameters, forcing, output, mode = sys.argv[1:5]
values = dict(line.split(" = ") for line in open(parameters).read().splitlines())
a, b = float(values["a"]), float(values["b"])
with open(forcing) as stream:
    weather = list(csv.DictReader(stream))
rows = [[day["date"], -(a * float(day["light"]) - b), a * float(day["light"])] for day in weather]
if mode == "fail":
    sys.exit("reading the soil failed\\n in line 7")
if mode == "sleep":
    subprocess.Popen([sys.executable, "-c", f"import time; time.sleep(1.5); open({sys.argv[5]!r}, 'w')"])
    time.sleep(30)
if mode == "daemon":
    subprocess.Popen([sys.executable, "-c", f"import time; time.sleep(1); open({sys.argv[5]!r}, 'w')"])
if mode == "short":
    rows = rows[:-1]
if mode == "late":
    rows = [["2024" + row[0][4:], *row[1:]] for row in rows]
if mode == "nan":
    rows[2][1] = "NaN"
if mode == "infinite":
    rows[2][1] = "inf"
if mode == "where":
    rows = [[*row[:2], float(os.getcwd() == os.path.dirname(os.path.abspath(output)))] for row in rows]
names = ["date", "NEE", "GPP"] if mode != "names" else ["date", "nee", "GPP"]
if mode != "nothing":
    with open(output, "w", newline="") as stream:
        csv.writer(stream).writerows([names, *rows])
if mode == "junk":
    open(output, "wb").write(bytes(range(256)))
"""
TEMPLATE = "a = {a}\nb = {b}\n"
DAYS = 5


def write_program(folder: Path, script: str = SCRIPT, name: str = "model.py") -> Path:
    """Write a script that runs under this Python."""
    path = folder / name
    path.write_text(f"#!{sys.executable}\n{script}")
    path.chmod(0o755)
    return path


def make_settings(folder: Path, *mode: str, **changes) -> ExternalSettings:
    """Write program and template; the mode says how the program behaves."""
    write_program(folder)
    (folder / "parameters.txt").write_text(TEMPLATE)
    settings = {
        "command": [str(folder / "model.py"), "{parameters}", "{forcing}", "{output}", *(mode or ("well",))],
        "template": str(folder / "parameters.txt"),
        "outputs": {"gpp": OutputColumn("GPP"), "nep": OutputColumn("NEE", "nee", "kgC ha-1 d-1")},
        "timeout": 20.0,
    }
    return ExternalSettings(**{**settings, **changes})


def make_site(days: int = DAYS, drivers: tuple[str, ...] = ("rain", "light"), forcing: np.ndarray | None = None) -> Site:
    """A site whose weather counts up."""
    dates = np.datetime64("2020-02-27") + np.arange(days)
    values = np.arange(days * len(drivers), dtype=float).reshape(days, len(drivers)) / 7.0 if forcing is None else forcing
    nothing = Observations(dates, ("gpp", "nep"), np.full((days, 2), np.nan), np.zeros((days, 2), dtype=bool))
    return Site("Toy", 48.0, dates, drivers, values, nothing, None, np.full(days, "unused"), ())
