"""The parsers of `fit` and `train`, and the one way in which both are run."""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import yaml
from jsonargparse import (  # type: ignore[attr-defined]
    ActionConfigFile,
    ArgumentParser,
    Namespace,
    set_parsing_settings,
)
from lightning.pytorch import Trainer, callbacks, loggers

from ..driving import build_trainer, without_banners
from ..errors import ConfigError, LitInvertError
from ..fit import FitConfig
from ..plugins import Registry
from ..training import TrainSettings
from ..trust import DENIED, Trust
from .faults import Sources, explain
from .files import PATHS, check_keys, read_config_file, relate_paths, resolve_paths

#: Fields of a FitConfig that are no keys of the config by themselves.
_NOT_KEYS = {"trainer", "sections", "trust", "text", "values", "command"}


@dataclass(frozen=True)
class _Parsed:
    """A config in two forms: as plain nested values, and with its classes built."""

    values: dict[str, Any]
    built: Namespace


def parse_fit(argv: Sequence[str], registry: Registry, trust: Trust | None = None, *, command: str = "lit-invert fit") -> FitConfig:
    """Parse and check everything that a fit needs; other commands that start from a fit's config use it too.

    Args:
        argv: Arguments of the command: `--config FILE`, and dotted overrides.
        registry: What the plugins registered; their config sections become keys.
        trust: What the user allowed beyond the import policy.
        command: The command, as errors and help name it.

    Returns:
        The config. Its `text`, stored in the run's folder, has paths relative to that folder, to be run again.

    Raises:
        ConfigError: If a key, type, value or path is wrong.
        TrustError: If a class path is not allowed.
    """
    trust = trust or Trust()
    classes = {
        "loss_terms": [term.__name__ for term in registry.loss_terms.values()],
        "trainer.callbacks": callbacks.__all__,
        "logger": loggers.__all__,
    }
    parser = _fit_parser(argv, registry, command)
    parsed = _parse(parser, argv, trust, classes)
    keys = [f.name for f in fields(FitConfig) if f.name not in _NOT_KEYS]
    config = FitConfig(
        **{key: parsed.built[key] for key in keys},
        trainer=parsed.built["trainer"].as_dict(),
        sections={key: parsed.built[key] for key in registry.config_sections},
        trust=trust,
    )
    _check_trainer(config)
    untouched = _untouched_sections(parsed.values, parser, registry)
    config.values = {key: value for key, value in parsed.values.items() if key not in untouched}
    config.text = config_text(config.values, Path(config.logs, config.name, "version_N"))
    return config


def _untouched_sections(values: Mapping[str, Any], parser: ArgumentParser, registry: Registry) -> set[str]:
    """Return the plugins' blocks with nothing but defaults: without them a stored config runs where the plugin is not."""
    defaults = parser.get_defaults(skip_validation=True)
    return {key for key in registry.config_sections if defaults[key].as_dict() == values[key]}


def _fit_parser(argv: Sequence[str], registry: Registry, command: str) -> _Parser:
    parser = _parser(command, argv)
    parser.add_class_arguments(FitConfig, skip=_NOT_KEYS, fail_untyped=False)
    parser.add_class_arguments(Trainer, "trainer", instantiate=False, skip={"logger"}, fail_untyped=False)
    for key, section in registry.config_sections.items():
        _check_free(key, parser)
        parser.add_class_arguments(section.settings, key)
    return parser


def parse_train(argv: Sequence[str], trust: Trust | None = None) -> TrainSettings:
    """Parse and check the settings of a training run.

    Args:
        argv: Arguments of the command: `--config FILE`, and dotted overrides.
        trust: What the user allowed beyond the import policy.

    Raises:
        ConfigError: If a key, type, value or path is wrong.
    """
    parser = _parser("lit-invert train", argv)
    parser.add_class_arguments(TrainSettings, fail_untyped=False)
    parsed = _parse(parser, argv, trust or Trust(), {})
    return TrainSettings(**{f.name: parsed.built[f.name] for f in fields(TrainSettings)})


def _check_trainer(config: FitConfig) -> None:
    """Let Lightning look at the arguments of its Trainer that it can judge without a run, before anything is written.

    Raises:
        ConfigError: If it refuses them, e.g. an accelerator that this machine does not have, or they contradict the inversion.
    """
    plain: dict[str, Any] = {key: value for key, value in config.trainer.items() if isinstance(value, (str, int, float))}
    # a callback that saves belongs to a folder, which is not there yet
    given = config.trainer.get("callbacks") or []
    given = given if isinstance(given, list) else [given]
    plain["callbacks"] = [callback for callback in given if not isinstance(callback, callbacks.Checkpoint)]
    try:
        with warnings.catch_warnings(action="ignore"), without_banners():
            build_trainer(config.inversion, plain, [], False, None, "loss")
    except LitInvertError:
        raise
    except Exception as error:  # Lightning has no class of its own for a wrong argument
        raise ConfigError(f"`trainer`: Lightning refuses these arguments: {' '.join(str(error).split())}") from error


class _StrictConfig(ActionConfigFile):
    """`--config FILE`: read strictly, with paths relative to the file, before jsonargparse takes the values."""

    def __call__(self, parser: Any, cfg: Any, values: Any, option_string: str | None = None) -> None:
        file = read_config_file(Path(values))
        parser.sources.files.append(file)
        check_keys(file, _known(parser))
        resolved = resolve_paths(file.values, file.path.parent)
        super().__call__(parser, cfg, yaml.safe_dump(resolved, sort_keys=False), option_string)


class _Parser(ArgumentParser):
    """A parser that remembers where its values come from."""

    sources: Sources


def _parser(command: str, argv: Sequence[str]) -> _Parser:
    wants_help = not {"-h", "--help"}.isdisjoint(argv)  # reading docstrings takes longer than all the rest
    set_parsing_settings(docstring_parse_attribute_docstrings=wants_help, instantiate_subclass_spec_in_any=False)
    parser = _Parser(prog=command, usage=f"{command} --config FILE [--KEY VALUE ...]", exit_on_error=False, default_env=False)
    parser.add_argument("-c", "--config", action=_StrictConfig, help="YAML file with the keys below; later files and options win.")
    return parser


def _known(parser: ArgumentParser) -> dict[str, Any]:
    """Return every key with its default."""
    defaults = dict(parser.get_defaults(skip_validation=True).items())
    return {key: value for key, value in defaults.items() if key != "config"}


def _check_free(key: str, parser: ArgumentParser) -> None:
    if key in {known.partition(".")[0] for known in _known(parser)} | {"config"}:
        raise ConfigError(
            f"config section `{key}` of a plugin has the name of another key. Disable the plugin, or rename its section."
        )


def _parse(parser: _Parser, argv: Sequence[str], trust: Trust, classes: Mapping[str, Sequence[str]]) -> _Parsed:
    """Run a parser and build its classes; every mistake becomes one of our errors."""
    _limit_imports(trust)
    parser.sources = Sources(argv, trust, _known(parser), classes)
    try:
        namespace = parser.parse_args(list(argv))
    except argparse.ArgumentError as error:
        raise _ours(error) or explain(str(error), parser.sources) from error
    values = resolve_paths(_plain(parser, namespace), Path.cwd())
    for key in PATHS:
        if key in namespace and namespace[key] is not None:
            namespace[key] = _get(values, key)
    try:
        return _Parsed(values, parser.instantiate(namespace))
    except LitInvertError as error:
        raise type(error)(_with_place(str(error), parser.sources)) from error
    except Exception as error:  # whatever the constructor of a class in the config raises
        cause = _root(error)
        reason = f"{type(cause).__name__}: {' '.join(str(cause).split())}"
        raise ConfigError(f"{parser.sources.last()}a class that the config names cannot be built ({reason}).") from error


def _limit_imports(trust: Trust) -> None:
    """Let values name classes of allowed packages alone."""
    for package in trust.imports:
        if not trust.is_import_allowed(package):
            raise ConfigError(f"`--allow-import {package}`: expected the name of a package whose import is not closed for good.")
    set_parsing_settings(import_path_denylist=["*", *DENIED], import_path_allowlist=list(trust.packages))


def _ours(error: BaseException | None) -> LitInvertError | None:
    """Return our own error behind the parser's, if there is one."""
    while error is not None and not isinstance(error, LitInvertError):
        error = error.__cause__
    return error


def _root(error: BaseException) -> BaseException:
    while error.__cause__ is not None:
        error = error.__cause__
    return error


def _with_place(message: str, sources: Sources) -> str:
    """Put file and line before a message that starts with a key."""
    key = message.split("`")[1] if message.startswith("`") else ""
    return f"{sources.place(key) if key else ''}{message}"


def _plain(parser: ArgumentParser, namespace: Namespace) -> dict[str, Any]:
    try:
        values: dict[str, Any] = yaml.safe_load(parser.dump(namespace, skip_validation=True))
    except yaml.representer.RepresenterError as error:  # the config of a run is stored as YAML, so that it can be run again
        found = error.args[-1] if error.args else error
        raise ConfigError(
            f"a class that the config names has a value that YAML cannot hold: {found!r:.80}. Give it as plain text."
        ) from error
    return values


def _get(values: dict[str, Any], key: str) -> Any:
    for part in key.split("."):
        values = values[part]
    return values


def config_text(values: dict[str, Any], folder: Path) -> str:
    """Return a resolved config as YAML, for a file in that folder."""
    return yaml.safe_dump(relate_paths(values, folder.absolute()), sort_keys=False, allow_unicode=True)
