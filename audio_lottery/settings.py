"""Settings from YAML files and command lines, and back into the run folder.

`parse_config` reads ``--config file.yaml`` and ``--section.field value`` with jsonargparse; unknown keys and wrong
types are refused by name. `save_config` writes the resolved settings into the run folder and refuses a folder that
belongs to other settings.
"""

from collections.abc import Sequence, Set
from dataclasses import asdict
from pathlib import Path
from typing import Any

import yaml
from jsonargparse import ArgumentError, ArgumentParser, Namespace

from audio_lottery.config import RunConfig, validate
from audio_lottery.errors import ConfigError, RunError
from audio_lottery.storage import write_bytes

# Settings that change neither masks nor WER of the rounds that exist: a run may be continued with other values.
MAY_CHANGE = {"run_dir", "log_with", "num_processes", "data.num_workers", "search.rounds"} | {
    f"{section}.{name}" for section in ("training", "theta.training") for name in ("save_every", "log_every")
}


def make_parser(
    prog: str | None = None, description: str = "Find winning tickets: train, prune, rewind, evaluate, round by round."
) -> ArgumentParser:
    """The argument parser of a search: ``--config`` and one option per field of `RunConfig`."""
    parser = ArgumentParser(
        prog=prog,
        exit_on_error=False,
        description=description,
    )
    parser.add_argument("--config", action="config", help="YAML file with any of the settings below.")
    parser.add_class_arguments(RunConfig, sub_configs=False)
    return parser


def parse_config(arguments: Sequence[str] | None = None, prog: str | None = None) -> RunConfig:
    """A validated `RunConfig` from command-line arguments (default: those of this process).

    Raises:
        ConfigError: an unknown key, a wrong type or an impossible value; names the key.
    """
    parser = make_parser(prog)
    try:
        namespace = parser.parse_args(None if arguments is None else list(arguments))
        config = to_config(parser, namespace)
    except ArgumentError as error:
        raise ConfigError(f"settings: {error}; --help lists all of them") from error
    validate(config)
    return config


def to_config(parser: ArgumentParser, namespace: Namespace) -> RunConfig:
    """The `RunConfig` in the namespace that a parser of `make_parser` returned."""
    namespace.pop("config", None)
    return RunConfig(**vars(parser.instantiate_classes(namespace)))


def to_yaml(config: RunConfig) -> str:
    """The resolved settings as YAML that ``--config`` reads back."""
    return yaml.safe_dump(asdict(config), sort_keys=False, allow_unicode=True)


def save_config(config: RunConfig, run_dir: Path) -> None:
    """Write ``run_dir/config.yaml``, or check that the one there describes the same run.

    Raises:
        RunError: the folder belongs to other settings (each is listed with both values), or its config is unreadable.
    """
    path = run_dir / "config.yaml"
    if path.exists():
        different = differences(read_config(run_dir), config, MAY_CHANGE)
        if different:
            listed = ", ".join(f"{key} ({there!r} there, {here!r} now)" for key, there, here in different)
            raise RunError(
                f"{run_dir} belongs to a run with other settings: {listed}; "
                "choose another --run_dir, or the settings it was started with"
            )
    elif run_dir.is_dir() and any(p.name != "config.yaml" and not p.name.startswith(".") for p in run_dir.iterdir()):
        raise RunError(
            f"{run_dir} is not empty and holds no config.yaml, so it is not a run folder; choose another --run_dir"
        )
    write_bytes(path, to_yaml(config).encode())


def read_config(run_dir: Path) -> RunConfig:
    """The settings of a run folder; what its version did not have yet has its default.

    Raises:
        RunError: there is no config.yaml, it is damaged, or it holds a setting that does not exist any more (named).
    """
    path = run_dir / "config.yaml"
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise RunError(f"{run_dir} is not a run folder: {path} cannot be read ({error})") from error
    parser = make_parser()
    try:
        settings = yaml.safe_load(text)
        return to_config(parser, parser.parse_object(settings or {}))
    except yaml.YAMLError as error:
        raise RunError(f"{path} is not YAML ({error}); it is the file that the search wrote") from error
    except (ArgumentError, TypeError, AttributeError) as error:
        raise RunError(f"{path} is not the settings of a run that this version knows: {error}") from error


def differences(one: RunConfig, other: RunConfig, but: Set[str] = frozenset()) -> list[tuple[str, Any, Any]]:
    """The settings with two values, in the order of their names: dotted name, value of each.

    Args:
        one: a run.
        other: another.
        but: dotted names that do not matter.
    """
    first, second = (_flatten(yaml.safe_load(to_yaml(config))) for config in (one, other))
    return [
        (key, first.get(key), second.get(key))
        for key in sorted(first.keys() | second.keys())
        if key not in but and first.get(key) != second.get(key)
    ]


def _flatten(value: Any, prefix: str = "") -> dict[str, Any]:
    """Nested mappings as one flat dict with dotted keys; lists and ``model.overrides`` stay whole."""
    flat: dict[str, Any] = {}
    for key, entry in value.items():
        name = f"{prefix}{key}"
        if isinstance(entry, dict) and name != "model.overrides":
            flat |= _flatten(entry, f"{name}.")
        else:
            flat[name] = entry
    return flat
