"""One page that shows several runs side by side: what was set otherwise, and what came of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

import yaml

from ..atomic import write_text
from ..errors import ResultsError
from ..results import Run
from .draw.comparison import overlay_figure, shifts_figure
from .figures import to_png
from .html import cell, contents, flatten, generator, note, number, page, picture, section, table
from .page import headline
from .style import flux_name

_KIND = "comparison"
#: Blocks of a config that say where results go, not what they are.
_PLACES = ("logs", "name", "logger")


def write_comparison(runs: Sequence[Run], path: Path) -> Path:
    """Write a page that compares runs.

    Args:
        runs: Two or more finished runs of the same target.
        path: The file to write.

    Returns:
        The file.

    Raises:
        ResultsError: If there are fewer than two runs, one is named twice, their targets differ, or the file is of another kind.
    """
    _check(runs, path)
    names = run_names(runs)
    body = [
        section("Runs", _runs(runs, names)),
        section("Settings that differ", _settings(runs, names)),
        section("Scores", _scores(runs, names), _baselines(runs, names), _series(runs, names)),
        section("Parameters", _parameters(runs, names), _shifts(runs, names)),
    ]
    title = f"{len(runs)} runs compared: {', '.join(names)}"
    head = f"<header><p class='kicker'>lit-invert &middot; comparison</p><h1>{escape(title)}</h1>{_same_site(runs)}</header>"
    write_text(path, page(title, [head, contents(body), *body], _KIND))
    return path


def run_names(runs: Sequence[Run]) -> list[str]:
    """Return short names that tell the runs apart: that of the run and its version, with folders above where these are the same."""
    parts = [run.folder.resolve().parts for run in runs]
    for depth in range(2, max(map(len, parts)) + 1):
        names = ["/".join(part[-depth:]) for part in parts]
        if len(set(names)) == len(names):
            break
    return names


def comparison_path(runs: Sequence[Run]) -> Path:
    """Return where a comparison goes when nobody says: beside the folders of the first run's name."""
    names = "_".join(name.replace("/version_", "-").replace("/", "-") for name in run_names(runs))
    return runs[0].folder.resolve().parent.parent / f"compare_{names}.html"


def _check(runs: Sequence[Run], path: Path) -> None:
    folders = [run.folder.resolve() for run in runs]
    if len(set(folders)) < max(2, len(folders)):
        raise ResultsError(f"expected two or more different runs to compare, found {', '.join(map(str, folders))}.")
    targets = {str(run.folder): run.metrics["target"] for run in runs}
    if len(set(targets.values())) > 1:
        said = ", ".join(f"{folder} of {target}" for folder, target in targets.items())
        raise ResultsError(f"runs have different targets: {said}. Compare runs that were fitted to the same flux.")
    if path.exists() and not (path.is_file() and generator(_KIND).encode() in path.read_bytes()[:1000]):
        raise ResultsError(f"{path}: exists and is no comparison. Give another `--out`.")
    if not path.parent.is_dir():
        raise ResultsError(f"{path}: folder {str(path.parent)!r} does not exist. Make it first, or give another `--out`.")


def _same_site(runs: Sequence[Run]) -> str:
    sites = list(dict.fromkeys(run.metrics["site"] for run in runs))
    text = f"These runs are of different sites: {', '.join(sites)}. Their scores are of different days."
    return f"<p class='error'>{escape(text)}</p>" if len(sites) > 1 else f"<p>{escape(sites[0])}</p>"


def _runs(runs: Sequence[Run], names: Sequence[str]) -> str:
    rows = [
        [n, r.metrics["site"], r.metrics["status"], number(r.metrics["seconds"]), headline(r.metrics)] for r, n in _zip(runs, names)
    ]
    return table(["run", "site", "status", "seconds", "result"], rows, text=(0, 1, 2, 4))


def _settings(runs: Sequence[Run], names: Sequence[str]) -> str:
    """Return the settings in which the resolved configs differ, places left out."""
    flat = [dict(flatten(_config(run))) for run in runs]
    keys = dict.fromkeys(key for values in flat for key in values if key.split(" ")[0] not in _PLACES)
    rows = []
    for key in keys:
        cells = [cell(values.get(key)) for values in flat]
        if len(set(cells)) > 1:
            rows.append([key.replace(" ", "."), *cells])
    return table(["setting", *names], rows, text=range(len(names) + 1)) if rows else "<p>None: the configs are the same.</p>"


def _config(run: Run) -> Mapping[str, Any]:
    try:
        values = yaml.safe_load((run.folder / "config.yaml").read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError) as error:
        raise ResultsError(f"{run.folder / 'config.yaml'}: cannot be read as YAML. Run the inversion again.") from error
    return values if isinstance(values, Mapping) else {}


def score_rows(runs: Sequence[Run]) -> list[list[str]]:
    """Return the target's scores: role, then days, RMSE at prior and optimum, change, bias, r and NSE of each run."""
    rows = []
    for role in ("test", "select", "fit"):
        for place, run in enumerate(runs):
            score = run.metrics["roles"].get(role, {}).get(run.metrics["target"])
            if score and score["n"]:
                after, change = score["optimum"], score["rmse_change_percent"]
                cells = [number(score["prior"]["rmse"]), number(after["rmse"]), "" if change is None else f"{change:+.1f} %"]
                rows.append([role, str(place), str(score["n"]), *cells, *(number(after[key]) for key in ("bias", "r", "nse"))])
    return rows


SCORE_LABELS = ("n", "RMSE prior", "RMSE optimum", "change", "bias", "r", "NSE")


def _scores(runs: Sequence[Run], names: Sequence[str]) -> str:
    rows = [[role, names[int(place)], *rest] for role, place, *rest in score_rows(runs)]
    return table(["days", "run", *SCORE_LABELS], rows, text=(0, 1)) + note(
        f"{flux_name(runs[0].metrics['target'])} in gC m-2 d-1; NEP is positive when the land is a sink (NEP = -NEE). "
        "Only test days are evidence."
    )


def _baselines(runs: Sequence[Run], names: Sequence[str]) -> str:
    skills = [((run.metrics.get("baselines") or {}).get("test") or {}).get("skill") or {} for run in runs]
    known = dict.fromkeys(name for skill in skills for name in skill)
    rows = [[name, *(number(skill.get(name)) for skill in skills)] for name in known]
    return "<h3>Skill on the test days against</h3>" + table(["baseline", *names], rows, text=(0,)) if rows else ""


def _parameters(runs: Sequence[Run], names: Sequence[str]) -> str:
    """Return every parameter's optimum, interval and shift by run."""
    tables = [run.parameters.set_index("name") for run in runs]
    posteriors = [None if run.posterior is None else run.posterior.set_index("name") for run in runs]
    rows = []
    for name in dict.fromkeys(name for parameters in tables for name in parameters.index):
        cells = []
        for parameters, posterior in zip(tables, posteriors, strict=True):
            if name not in parameters.index:
                cells += ["", "", ""]
                continue
            interval = "" if posterior is None else f"{posterior.loc[name, 'p05']:.3g} to {posterior.loc[name, 'p95']:.3g}"
            cells += [f"{parameters.loc[name, 'optimum']:.4g}", interval, f"{parameters.loc[name, 'shift_in_sd']:+.2f}"]
        unit = next(parameters.loc[name, "unit"] for parameters in tables if name in parameters.index)
        rows.append([name, unit, *cells])
    labels = [f"{name}: {what}" for name in names for what in ("optimum", "5-95 %", "shift [sd]")]
    filled = [i for i in range(len(labels)) if any(row[2 + i] for row in rows)]
    shown = [[*row[:2], *(row[2 + i] for i in filled)] for row in rows]
    return table(["name", "unit", *(labels[i] for i in filled)], shown, text=(0, 1))


def _series(runs: Sequence[Run], names: Sequence[str]) -> str:
    figure = overlay_figure([run.fluxes for run in runs], names, [run.metrics["site"] for run in runs], runs[0].metrics["target"])
    return picture(to_png(figure), "The optimum of each run, and the observed days of the first of each site.")


def _shifts(runs: Sequence[Run], names: Sequence[str]) -> str:
    return picture(to_png(shifts_figure([run.parameters for run in runs], names)), "How far each run moved each parameter.")


def _zip(runs: Sequence[Run], names: Sequence[str]) -> list[tuple[Run, str]]:
    return list(zip(runs, names, strict=True))
