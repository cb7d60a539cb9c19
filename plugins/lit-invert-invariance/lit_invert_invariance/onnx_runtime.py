"""The other side of an export: onnxruntime in place of torch.

A runtime computes fluxes alone, with no derivatives, so nothing can be inverted in it. As the network of a
:class:`~lit_invert.FrozenSurrogate` it goes through the same scaling, windows and units as the original, so that whatever differs
between the two differs in the networks.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from types import ModuleType

import torch
from torch import Tensor, nn

from lit_invert import LitInvertError
from lit_invert.errors import SurrogateError

_TYPES = {"tensor(float)": torch.float32, "tensor(double)": torch.float64}


class RuntimeNetwork(nn.Module):
    """A graph that onnxruntime runs on the CPU.

    Args:
        path: The ONNX file.
        inputs: Names of its inputs, in the order in which a surrogate gives them: static parameters, then forcing or its parts.
        output: Name of its output.

    Raises:
        LitInvertError: If onnxruntime is not installed.
        SurrogateError: If it cannot open the file.
    """

    def __init__(self, path: Path, inputs: Sequence[str], output: str) -> None:
        super().__init__()
        runtime = needed("onnxruntime")
        options = runtime.SessionOptions()
        options.log_severity_level = 4  # what goes wrong is raised; it need not be printed too
        options.intra_op_num_threads = torch.get_num_threads()
        try:
            self._session = runtime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime has no base class for its errors
            raise SurrogateError(f"onnxruntime cannot open {path} ({first_line(error)}).") from error
        types = {given.name: _TYPES[given.type] for given in self._session.get_inputs()}
        self._inputs, self._output = {name: types[name] for name in inputs}, output

    def forward(self, static: Tensor, *forcing: Tensor) -> Tensor:
        """Run the graph.

        Args:
            static: Static parameters as the network takes them, a (B, P)-dim tensor.
            forcing: Forcing as the network takes it, (B, T, F), or its parts.

        Returns:
            What the network gives, a (B, T, V)-dim tensor of the parameters' precision, without gradient.

        Raises:
            SurrogateError: If onnxruntime cannot run this many members or days.
        """
        pairs = zip(self._inputs.items(), (static, *forcing), strict=True)
        values = {name: value.detach().cpu().to(dtype).contiguous().numpy() for (name, dtype), value in pairs}
        try:
            (simulated,) = self._session.run([self._output], values)
        except Exception as error:
            sizes = f"{len(static)} members and {forcing[0].shape[1]} days"
            raise SurrogateError(f"onnxruntime cannot run {sizes} through the exported network ({first_line(error)}).") from error
        return torch.from_numpy(simulated).to(static)


def needed(package: str) -> ModuleType:
    """Import one of the packages that ONNX needs.

    Raises:
        LitInvertError: If it is not installed.
    """
    try:
        return import_module(package)
    except ImportError as error:
        raise LitInvertError(f"ONNX needs the package `{package}` ({error}). Run: pip install lit-invert-invariance") from error


def first_line(error: Exception) -> str:
    """Return the first line of an error, short enough to stand inside another message."""
    lines = str(error).strip().splitlines()
    return f"{lines[0]:.200}" if lines else type(error).__name__
