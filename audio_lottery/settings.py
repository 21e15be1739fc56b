"""Settings from YAML files and command lines, and back into the run folder.

`parse_config` reads ``--config file.yaml`` and ``--section.field value`` with jsonargparse; unknown keys and wrong
types are refused by name. `save_config` writes the resolved settings into the run folder and refuses a folder that
belongs to other settings.
"""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import yaml
from jsonargparse import ActionConfigFile, ArgumentError, ArgumentParser, Namespace

from audio_lottery import shipped
from audio_lottery.config import RunConfig, validate
from audio_lottery.errors import ConfigError, RunError
from audio_lottery.storage import write_bytes

# Settings that change neither masks nor WER of the rounds that exist: a run may be continued with other values.
MAY_CHANGE = {"run_dir", "num_processes", "data.num_workers", "search.rounds"} | {
    f"{section}.{name}" for section in ("training", "theta.training") for name in ("save_every", "log_every")
}


class _ConfigFile(ActionConfigFile):
    """``--config``: a file, the name of a config that comes with the package, or YAML itself."""

    def __call__(self, parser: Any, cfg: Any, values: Any, option_string: str | None = None) -> None:
        if not _is_mapping(values):
            values = str(shipped.resolve("config", values))
        super().__call__(parser, cfg, values, option_string)


def make_parser(
    prog: str | None = None, description: str = "Find winning tickets: train, prune, rewind, evaluate, round by round."
) -> ArgumentParser:
    """The argument parser of a search: ``--config`` and one option per field of `RunConfig`."""
    parser = ArgumentParser(
        prog=prog,
        exit_on_error=False,
        description=description,
    )
    parser.add_argument(
        "--config",
        action=_ConfigFile,
        help="YAML file with any of the settings below, or the name of one that comes with the package "
        "(`audio-lottery recipes` lists them); of several, later ones win.",
    )
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
        try:
            there = _flatten(yaml.safe_load(path.read_text(encoding="utf-8")) or {})
        except (OSError, yaml.YAMLError, AttributeError) as error:
            raise RunError(f"{path} cannot be read ({error}); choose another --run_dir") from error
        here = _flatten(yaml.safe_load(to_yaml(config)))
        different = [
            f"{key} ({there.get(key)!r} there, {here.get(key)!r} now)"
            for key in sorted(there.keys() | here.keys())
            if key not in MAY_CHANGE and there.get(key) != here.get(key)
        ]
        if different:
            raise RunError(
                f"{run_dir} belongs to a run with other settings: {', '.join(different)}; "
                "choose another --run_dir, or the settings it was started with"
            )
    elif run_dir.is_dir() and any(p.name != "config.yaml" and not p.name.startswith(".") for p in run_dir.iterdir()):
        raise RunError(
            f"{run_dir} is not empty and holds no config.yaml, so it is no run folder; choose another --run_dir"
        )
    write_bytes(path, to_yaml(config).encode())


def _is_mapping(text: str) -> bool:
    """Whether ``text`` is itself YAML of settings, and not the name of a file of them."""
    try:
        return isinstance(yaml.safe_load(text), dict)
    except yaml.YAMLError:
        return False


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
