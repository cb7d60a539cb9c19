"""The parameters that a site's fluxes are simulated with: those that its newest fit found, else its prior."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from lit_invert import InversionProblem, InversionStatus
from lit_invert.errors import ResultsError
from lit_invert.results import Run, list_versions

_NO_RESULT = {InversionStatus.FAILED.key, InversionStatus.DIVERGED.key, "running"}


def latest_parameters(runs: Path, site: str, problem: InversionProblem) -> tuple[Tensor, str]:
    """Return the parameters of the newest fit of this surrogate that has a result, and where they come from.

    Args:
        runs: Folder of all runs of a name.
        site: Name of the site; a run over many sites has a folder for it, if it has written one.
        problem: Names of the parameters, and their prior.

    Returns:
        Theta, a (1, P)-dim tensor, and `optimum of version_N`, or `prior`.

    Raises:
        ResultsError: If the newest run is damaged.
    """
    for folder in _finished(runs, site):
        run = Run(folder)
        if run.provenance["sha256"].get("surrogate_weights") == problem.surrogate.sha256:
            physical = _optimum(run, problem)
            return problem.space.to_theta(physical), f"optimum of {folder.relative_to(runs)}"
    return problem.space.to_theta(problem.space.priors[:1]), "prior"


def _finished(runs: Path, site: str) -> Iterator[Path]:
    """Yield the folders of runs that have results of a site, the newest first."""
    for version in reversed(list_versions(runs)):
        folder = version / "sites" / site if (version / "sites.csv").is_file() else version
        is_whole = all((folder / name).is_file() for name in ("parameters.csv", "metrics.json", "provenance.json"))
        if is_whole and Run(folder).metrics.get("status") not in _NO_RESULT:
            yield folder


def _optimum(run: Run, problem: InversionProblem) -> Tensor:
    try:
        found = run.parameters.set_index("name").loc[list(problem.space.table.names), "optimum"].astype(float)
    except (KeyError, ValueError) as error:
        raise ResultsError(f"{run.folder / 'parameters.csv'}: has no optimum of every parameter ({error}). Fit again.") from error
    return torch.tensor(found.to_numpy()).to(problem.space.priors)[None]
