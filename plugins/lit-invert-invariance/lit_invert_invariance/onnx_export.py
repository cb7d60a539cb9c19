"""A surrogate as an ONNX file, and whether it still says the same there.

Whoever runs a surrogate elsewhere, in a forecast system or a browser, takes an export and trusts it. The export is written by
torch's tracing exporter: it runs the network once and writes down the operations, with any batch and any number of days left open.
(The newer exporter of torch steps a recurrent network through the days of its example, which ties it to them and takes half a
minute.) A trace does not see a choice that Python code made on the way, and an operator may mean something else in ONNX. So the
file is run by another engine, onnxruntime, on the site's real weather, with other numbers of members and days than were traced.
"""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from lit_invert import FrozenSurrogate, InversionProblem, LitInvertError, RunInfo, Site, Verdict
from lit_invert.errors import SurrogateError
from lit_invert.surrogates.base import Forcing, file_hash
from lit_invert.surrogates.onnx.network import OnnxNetwork
from lit_invert.surrogates.windows import WindowedNetwork

from .onnx_runtime import RuntimeNetwork, first_line, needed
from .points import prior_point, prior_points
from .settings import settings_of
from .validator import InvarianceValidator, judge_nan, judge_onnx

FILE, SPEC, OUTPUT = "surrogate.onnx", "spec.json", "flux"
OPSET = 18
#: Members and days that are traced, where the surrogate does not say how many days it takes.
_MEMBERS, _DAYS = 3, 40


def check_onnx(problem: InversionProblem, site: Site, run: RunInfo) -> Verdict | None:
    """Export the surrogate, or take its file if it is one, and hold what onnxruntime simulates against torch.

    It is simulated at the prior and at points of the prior. The export stays in the folder `onnx` of the run, where it has one.

    Returns:
        The worst degradation of a flux [%]; None for a surrogate whose forcing is a dict, which has no one export.

    Raises:
        LitInvertError: If onnx or onnxruntime is not installed.
    """
    if isinstance(problem.forcing, dict):
        return None
    needed("onnx")
    settings, surrogate = settings_of(run), problem.surrogate
    scaled = torch.cat([prior_point(problem), prior_points(problem, settings.points, settings.seed)])
    try:
        with torch.no_grad(), _folder(run) as folder:
            prepared = surrogate.prepare(problem.forcing)
            original = surrogate(scaled, prepared)
            exported = _simulate_exported(surrogate, folder, scaled, prepared)
    except SurrogateError as error:
        return Verdict("onnx", "fail", str(error), threshold=InvarianceValidator.ONNX_DEGRADATION_THRESHOLD)
    return _judge(original, exported, problem.days, surrogate.spec.output_names)


def export_surrogate(surrogate: FrozenSurrogate, folder: Path) -> Path:
    """Write a surrogate as `surrogate.onnx` and `spec.json`, which can be loaded and inverted as it is.

    Args:
        surrogate: The surrogate, of any loader but `onnx`.
        folder: Where to, made if it is not there.

    Returns:
        Path of the spec.

    Raises:
        SurrogateError: If torch cannot export the network, or it is an ONNX file already.
    """
    network, spec = _inner(surrogate), surrogate.spec
    if isinstance(network, OnnxNetwork):
        raise SurrogateError(f"surrogate {spec.name!r} is an ONNX file already: {network.path}. Copy it.")
    folder.mkdir(parents=True, exist_ok=True)
    _trace(network, _example(surrogate), folder / FILE, spec.fixed_length is None and spec.windows is None)
    surrogate.train(False)  # the exporter has put recurrent layers into evaluation mode, in which cuDNN has no gradient
    sha256 = file_hash(folder / FILE)
    replace(spec, loader="onnx", weights=FILE, sha256=sha256, architecture={}).save(folder / SPEC)
    return folder / SPEC


def degradation(original: Tensor, exported: Tensor) -> float:
    r"""Return how far a simulation is from its original, relative to its size.

    .. math:: 100 \sqrt{\sum_i (e_i - o_i)^2 / \sum_i o_i^2}

    Args:
        original: An (n,)-dim tensor [gC m-2 d-1].
        exported: Another one; values that are not finite in both are left out.

    Returns:
        The degradation [%]; 100.0 where the original is zero and the other is not.

    Example:
        >>> degradation(torch.tensor([3.0, 4.0, torch.nan]), torch.tensor([3.0, 4.5, 0.0]))
        10.0
    """
    both = torch.isfinite(original) & torch.isfinite(exported)
    original, exported = original[both].double(), exported[both].double()
    off, size = float((exported - original).norm()), float(original.norm())
    return 100.0 * off / size if size > 0 else 100.0 * (off > 0)


def _judge(original: Tensor, exported: Tensor, days: Tensor, outputs: tuple[str, ...]) -> Verdict:
    """Compare both simulations, (B, T, V), on the days that count."""
    counts = days.expand(original.shape[:2])
    original, exported = original[counts], exported[counts]
    rows = [
        {
            "flux": name,
            "degradation": degradation(o, e),
            "largest_difference": (e - o).abs().nan_to_num(0.0, 0.0).max().item(),
        }
        for name, o, e in zip(outputs, original.unbind(-1), exported.unbind(-1), strict=True)
    ]
    worst = max(rows, key=lambda row: float(row["degradation"]))
    value = float(worst["degradation"])
    lost = max(0.0, _missing(exported) - _missing(original))
    message = f"onnxruntime simulates the fluxes to within {value:.2g} % of their size (worst: {worst['flux']})"
    if lost > 0:
        message += f"; {lost:.2%} of the values are numbers in torch alone"
    outcome = judge_onnx(value) if judge_nan(lost) == "pass" else "fail"
    threshold = InvarianceValidator.ONNX_DEGRADATION_THRESHOLD
    return Verdict("onnx", outcome, f"{message}.", value, threshold, {"table": rows, "lost": lost})


def _simulate_exported(surrogate: FrozenSurrogate, folder: Path, scaled: Tensor, prepared: Forcing) -> Tensor:
    """Simulate with the export; one that is tied to the batch or the days of its trace is an error of the surrogate's."""
    exported = FrozenSurrogate(_runtime(surrogate, folder), surrogate.spec).to(scaled)
    try:
        simulated: Tensor = exported(scaled, prepared)
    except SurrogateError:
        raise
    except (LitInvertError, RuntimeError) as error:
        raise SurrogateError(f"the export runs only for as many members or days as were traced ({first_line(error)}).") from error
    return simulated


def _missing(values: Tensor) -> float:
    return 1.0 - torch.isfinite(values).double().mean().item()


def _runtime(surrogate: FrozenSurrogate, folder: Path) -> RuntimeNetwork:
    """Return what onnxruntime makes of a surrogate: of its own file, or of its export."""
    network = _inner(surrogate)
    if isinstance(network, OnnxNetwork):
        return RuntimeNetwork(network.path, network.inputs, network.output)
    export_surrogate(surrogate, folder)
    return RuntimeNetwork(folder / FILE, list(_example(surrogate)), OUTPUT)


def _inner(surrogate: FrozenSurrogate) -> nn.Module:
    """Return the network itself, without what cuts time into windows around it."""
    network = surrogate.network
    return network.network if isinstance(network, WindowedNetwork) else network


def _example(surrogate: FrozenSurrogate) -> dict[str, Tensor]:
    """Return what the network takes for a few average members and days, by the names that the ONNX loader knows."""
    spec, like = surrogate.spec, surrogate.static_scaler.mean
    static = like.new_zeros(_MEMBERS, len(spec.statics))
    days = spec.fixed_length or max(_DAYS, spec.warmup_days + 1)
    days = days if spec.windows is None else spec.windows.days
    weather = surrogate.forcing_scaler.to_physical(like.new_zeros(_MEMBERS, days, len(spec.drivers)))
    example = {"static": static if spec.static_scaled else surrogate.static_scaler.to_physical(static)}
    forcing = surrogate.prepare(weather)
    assert isinstance(forcing, Tensor)
    if spec.windows is None or spec.windows.inputs == "joined":
        return {**example, "forcing": forcing}
    context, horizon = forcing.split([spec.windows.context_days, spec.windows.horizon_days], dim=1)
    return {**example, "context": context, "horizon": horizon}


def _trace(network: nn.Module, example: dict[str, Tensor], path: Path, any_days: bool) -> None:
    """Write a network as ONNX, with any batch, and any number of days where it takes that."""
    batch, both = {0: "batch"}, {0: "batch", 1: "days"}
    try:
        # it announces its successor, and names every line of Python that a trace cannot see: the comparison judges that
        with warnings.catch_warnings(action="ignore"):
            torch.onnx.export(
                network,
                tuple(example.values()),
                path,
                dynamo=False,
                opset_version=OPSET,
                input_names=list(example),
                output_names=[OUTPUT],
                dynamic_axes={name: both if any_days and name != "static" else batch for name in (*example, OUTPUT)},
            )
    except Exception as error:  # whatever the network's own code raises while it is traced
        raise SurrogateError(f"the network cannot be exported to ONNX ({first_line(error)}).") from error


@contextmanager
def _folder(run: RunInfo) -> Iterator[Path]:
    """Give the run's folder `onnx`, or one that is gone afterwards."""
    if run.folder is not None:
        yield run.folder / "onnx"
        return
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)
