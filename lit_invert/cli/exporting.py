"""The command that hands a finished fit on to other programs: export."""

from __future__ import annotations

import argparse
from pathlib import Path

from ..atomic import write_text
from ..errors import ConfigError
from ..exports import CalLMIP, check_callmip, run_dataset, write_callmip, write_tables
from ..external.template import Template, template_values
from ..netcdf import write_dataset
from ..netcdf.extra import check_extra
from ..results import Run, read_run
from . import FAILED, OK, OneLineParser, Options

FORMATS = ("callmip", "netcdf", "parquet", "csv", "template")


def export(argv: list[str], options: Options) -> int:
    """Write a run in another format, or check a CalLMIP file."""
    arguments = _parser().parse_args(argv)
    if arguments.check is not None:
        return _check([arguments.check])
    if arguments.run is None or arguments.format is None:
        raise ConfigError(f"command line: expected RUN and `--format` ({', '.join(FORMATS)}), or `--check FILE`.")
    run = read_run(arguments.run)
    if arguments.format == "template":
        return _export_template(run, arguments)
    folder = _folder(arguments.out or run.folder / "export")
    if arguments.format in ("parquet", "csv"):
        return _show(write_tables(run, folder, arguments.format))
    check_extra(folder)
    if arguments.longitude is None:
        raise ConfigError(
            "`--longitude` is missing: a run knows its latitude alone. Give the site's degrees east, as --longitude 7.06."
        )
    if arguments.format == "netcdf":
        path = folder / f"{run.metrics['site']}.nc"
        write_dataset(path, run_dataset(run, arguments.longitude))
        return _show([path])
    site = arguments.site or run.metrics["site"]
    submission = CalLMIP(site, arguments.model, arguments.version, arguments.longitude, arguments.phase, arguments.scenario)
    return _check(write_callmip(run, submission, folder))


def _export_template(run: Run, arguments: argparse.Namespace) -> int:
    """Fill the user's parameter file with the optimum."""
    if arguments.template is None:
        raise ConfigError("`--template` is missing. Name the parameter file with {pmax} or {pmax:.4f} where a number belongs.")
    values = dict(zip(run.parameters["name"], run.parameters["optimum"], strict=True))
    filled = Template.load(arguments.template).fill(template_values(values, run.metrics["site"], run.metrics["latitude"]))
    out = arguments.out or _folder(run.folder / "export") / arguments.template.name
    if out.is_dir() or not out.parent.is_dir():
        raise ConfigError(f"`--out`: expected the path of a file in a folder that exists, found {str(out)!r}.")
    if out.exists() and out.samefile(arguments.template):
        raise ConfigError("`--out` is the template itself. Choose another file.")
    write_text(out, filled)
    return _show([out])


def _check(paths: list[Path]) -> int:
    """Show every file with its faults."""
    code = OK
    for path in paths:
        faults = check_callmip(path)
        print(f"{path}: {'complete' if not faults else f'{len(faults)} faults'}")
        for fault in faults:
            print(f"  {fault}")
        code = FAILED if faults else code
    return code


def _show(paths: list[Path]) -> int:
    for path in paths:
        print(path)
    return OK


def _folder(folder: Path) -> Path:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"`--out`: folder {str(folder)!r} cannot be made ({error.strerror}). Choose another place.") from error
    return folder


def _parser() -> OneLineParser:
    parser = OneLineParser("lit-invert export", allow_abbrev=False)
    parser.add_argument("run", type=Path, nargs="?", help="folder of a finished fit, logs/<name>/version_N")
    parser.add_argument("--format", choices=FORMATS, help="what to write")
    parser.add_argument("--out", type=Path, help="folder to write to (default: RUN/export); with `template` the file")
    parser.add_argument("--longitude", type=float, help="longitude of the site [degrees east], for callmip and netcdf")
    parser.add_argument("--template", type=Path, help="parameter file with {pmax} or {pmax:.4f} where a number belongs")
    parser.add_argument("--site", help="name of the site in CalLMIP (default: that of the run)")
    parser.add_argument("--model", default="LitInvert", help="name of the model in CalLMIP (default: LitInvert)")
    parser.add_argument("--version", default="1.0", help="its version (default: 1.0)")
    parser.add_argument("--phase", default="1b", help="phase of CalLMIP (default: 1b)")
    parser.add_argument("--scenario", default="2", help="scenario of CalLMIP (default: 2, net exchange alone)")
    parser.add_argument("--check", type=Path, metavar="FILE", help="look for faults of a CalLMIP file")
    return parser
