"""A process model outside of Python, as the rest of lit-invert sees any other: parameters and drivers in, fluxes out.

For every set of parameters it gets a folder of its own with two files, the parameters in the user's template and the weather as CSV
(`date` and a column a driver, in the units of the surrogate's spec), and leaves a third, its daily fluxes. The folder is deleted
afterwards.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..errors import ConfigError, LitInvertError, ProcessModelError, suggest
from ..observations import FLUX_UNITS, Sign, to_carbon
from ..sites import DataSettings, Site
from ..tables import DailyTable, DataReader, load_table
from ..trust import Trust
from .program import find_program, run_program
from .template import Template, template_values

#: Files that a command may name, in the folder it runs in; the ending of the output is that of its format.
_FILES = ("parameters", "forcing", "output")
_ENDINGS: Mapping[str, str] = {"csv": ".csv", "netcdf": ".nc", "parquet": ".parquet"}


@dataclass
class OutputColumn:
    """Where one flux is found in what the program writes."""

    column: str
    """Column, or variable, with the daily values."""
    sign: Sign = "nep"
    """`nee` if a net flux is positive where it is released."""
    unit: str = "gC m-2 d-1"
    """One of gC m-2 d-1, umol m-2 s-1 (of CO2), MgC, kgC or gC ha-1 d-1, kgC m-2 s-1."""


@dataclass
class ExternalSettings:
    """How a process model outside of Python is run."""

    command: list[str]
    """Program and arguments; `{parameters}`, `{forcing}` and `{output}` are the paths of its files, `{site}` the site's name.
    What starts with ./ or ../ is seen from the config."""
    template: str
    """Its parameter file, with `{pmax}` or `{pmax:.4f}` where a number belongs."""
    outputs: dict[str, OutputColumn]
    """Where each flux of the surrogate is in the output."""
    timeout: float = 600.0
    """Longest time that a run may take [s]."""
    format: Literal["csv", "netcdf", "parquet"] = "csv"
    """What the program writes: a column `date` (in NetCDF `time`) and a column a flux."""


@dataclass
class ExternalModel:
    """A program as a process model of one site.

    Args:
        settings: The block `resimulate:` of the config, with absolute paths.
        statics: Names of the static parameters, in order.
        site: The site; its days are those of every forcing that the model is given.
        readers: Readers of files by name.
        trust: What the user allowed.

    Raises:
        ConfigError: If a setting makes no sense, the program or the template is missing, or a placeholder is not known.
        TrustError: If the program may not be run.
    """

    settings: ExternalSettings
    statics: Sequence[str]
    site: Site
    readers: Mapping[str, DataReader]
    trust: Trust = field(default_factory=Trust)

    def __post_init__(self) -> None:
        _check_values(self.settings)
        self._program = find_program(self.settings.command[0], self.trust)
        self._template = Template.load(Path(self.settings.template))
        self._template.check([*self.statics, "latitude"], ["site"])
        self._arguments = [Template(text, "`resimulate.command`") for text in self.settings.command[1:]]
        for argument in self._arguments:
            argument.check([], [*_FILES, "site"])

    @property
    def name(self) -> str:
        """Name of the program."""
        return self._program.name

    @property
    def drivers(self) -> Sequence[str]:
        """Names of the drivers; the program gets all of the site's."""
        return self.site.drivers

    @property
    def outputs(self) -> Sequence[str]:
        """Names of the fluxes, in order."""
        return list(self.settings.outputs)

    def __call__(self, static_physical: Tensor, forcing: Tensor) -> Tensor:
        """Run the program once for every set of parameters.

        Raises:
            ProcessModelError: If it fails, takes too long, or its output is not what the config says.
        """
        weather = forcing.expand(len(static_physical), -1, -1).double().cpu().numpy()
        runs = zip(static_physical.double().cpu().numpy(), weather, strict=True)
        return torch.as_tensor(np.stack([self._run(parameters, drivers) for parameters, drivers in runs]))

    def _run(self, parameters: NDArray[np.float64], drivers: NDArray[np.float64]) -> NDArray[np.float64]:
        with tempfile.TemporaryDirectory(prefix="lit-invert-", ignore_cleanup_errors=True) as name:
            folder = Path(name)
            output = folder / f"output{_ENDINGS[self.settings.format]}"
            files = {"parameters": folder / f"parameters{Path(self.settings.template).suffix}", "forcing": folder / "forcing.csv"}
            values = dict(zip(self.statics, parameters.tolist(), strict=True))
            filled = self._template.fill(template_values(values, self.site.name, self.site.latitude))
            files["parameters"].write_text(filled, encoding="utf-8")
            self._weather(drivers).to_csv(files["forcing"], index=False)
            words = {**{key: str(path) for key, path in {**files, "output": output}.items()}, "site": self.site.name}
            command = [str(self._program), *(argument.fill(words) for argument in self._arguments)]
            run_program(command, folder, self.settings.timeout)
            return self._read(output, len(drivers))

    def _weather(self, drivers: NDArray[np.float64]) -> pd.DataFrame:
        table = pd.DataFrame(drivers, columns=list(self.site.drivers))
        table.insert(0, "date", np.datetime_as_string(self.site.dates[: len(drivers)], unit="D"))
        return table

    def _read(self, output: Path, days: int) -> NDArray[np.float64]:
        """Return the fluxes that the program left, (T, V) [gC m-2 d-1]."""
        if not output.is_file():
            raise ProcessModelError(f"{self.name}: ended well but wrote no {output.name}. Pass `{{output}}` to it in the command.")
        try:
            table = load_table(output, DataSettings(), self.readers)
            self._check_days(table, self.site.dates[:days])
            return np.stack([self._flux(table, name, column) for name, column in self.settings.outputs.items()], axis=1)
        except ProcessModelError:
            raise
        except LitInvertError as error:
            raise ProcessModelError(
                f"{self.name}: its output cannot be read: {str(error).replace(f'{output.parent}/', '')}"
            ) from error

    def _check_days(self, table: DailyTable, dates: NDArray[np.datetime64]) -> None:
        if len(table.dates) != len(dates) or (table.dates != dates).any():
            raise ProcessModelError(
                f"{self.name}: its output has {len(table.dates)} days, {table.dates[0]} to {table.dates[-1]}, expected the "
                f"{len(dates)} days {dates[0]} to {dates[-1]} of the forcing."
            )

    def _flux(self, table: DailyTable, name: str, output: OutputColumn) -> NDArray[np.float64]:
        key = f"resimulate.outputs.{name}"
        values = to_carbon(table.numbers(output.column, f"`{key}.column`"), output.unit, output.sign, f"{key}.unit")
        gaps = np.flatnonzero(np.isnan(values))
        if gaps.size:
            raise ProcessModelError(
                f"{self.name}: {output.column!r} of its output has no value on {gaps.size} days, first on {table.dates[gaps[0]]}."
            )
        return values


def _check_values(settings: ExternalSettings) -> None:
    # Not by the settings themselves: of a key that takes a name or a block, the parser would not pass their words on.
    if not settings.command or not settings.outputs:
        raise ConfigError("`resimulate`: `command` or `outputs` is empty. Name the program, and what it writes.")
    if not settings.timeout > 0:
        raise ConfigError(f"`resimulate.timeout` is {settings.timeout!r}, expected a positive number of seconds.")
    for name, output in settings.outputs.items():
        if output.unit not in FLUX_UNITS:
            known = suggest(output.unit, FLUX_UNITS)
            raise ConfigError(f"`resimulate.outputs.{name}.unit`: {output.unit!r} is not a carbon flux unit.{known}")
