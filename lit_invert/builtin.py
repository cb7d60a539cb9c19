"""What lit-invert brings itself, through the same hooks as any plugin."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .checks import CHECKS
from .extensions import HOOK_API as HOOK_API
from .hookspecs import hookimpl
from .losses import Boundary, LossTerm, Misfit, Prior
from .netcdf import NetcdfReader
from .process import SimCycle
from .solvers import SOLVERS
from .surrogates.loaders import LOADERS
from .surrogates.neuralhydrology.loader import NeuralHydrologyLoader
from .surrogates.onnx.loader import OnnxLoader
from .tables import CsvReader, ParquetReader
from .transforms import LogTransform, ScaledTransform, SigmoidTransform, SoftplusTransform, Transform

if TYPE_CHECKING:
    from .extensions import Check, Solver
    from .process import ProcessModel
    from .surrogates.loaders import SurrogateLoader
    from .tables import DataReader


@hookimpl
def register_loss_terms() -> list[type[LossTerm]]:
    """Misfit, prior and boundary hinge."""
    return [Misfit, Prior, Boundary]


@hookimpl
def register_transforms() -> list[type[Transform]]:
    """The scaled space with clipping, and three bijections."""
    return [ScaledTransform, SigmoidTransform, SoftplusTransform, LogTransform]


@hookimpl
def register_surrogate_loaders() -> list[SurrogateLoader]:
    """Our LSTM, import paths, TorchScript, torch.export, runs of neuralhydrology, and ONNX."""
    return [*LOADERS, NeuralHydrologyLoader(), OnnxLoader()]


@hookimpl
def register_process_models() -> list[ProcessModel]:
    """The process model behind the shipped surrogate."""
    return [SimCycle()]


@hookimpl
def register_solvers() -> list[Solver]:
    """Adam and AdamW."""
    return list(SOLVERS)


@hookimpl
def register_data_readers() -> list[DataReader]:
    """CSV, Parquet and NetCDF."""
    return [CsvReader(), ParquetReader(), NetcdfReader()]


@hookimpl
def register_checks() -> list[Check]:
    """What can be said of an inversion before it starts."""
    return list(CHECKS)
