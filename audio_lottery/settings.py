"""Settings from YAML files and command lines, and back into the run folder.

`parse_config` reads ``--config file.yaml`` and ``--section.field value`` with jsonargparse; unknown keys and wrong
types are refused by name. `save_config` writes the resolved settings into the run folder and refuses a folder that
belongs to other settings. `read_settings` and `differing` are the one comparison of runs: a setting that an older run
did not know yet had its default, and one that is no longer known is a difference of its own.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, is_dataclass
from pathlib import Path, PurePosixPath
from typing import Any, get_args, get_type_hints

import yaml
from jsonargparse import ActionConfigFile, ArgumentError, ArgumentParser, Namespace

from audio_lottery import shipped
from audio_lottery.config import CorpusConfig, RunConfig, validate
from audio_lottery.errors import ConfigError, RunError
from audio_lottery.storage import write_bytes

# Settings that change neither masks nor WER of the rounds that exist: a run may be continued with other values.
# Of all others, a new one must have a default that means what was done before there was the setting.
MAY_CHANGE = {
    "run_dir",
    "num_processes",
    "log_with",
    "data.num_workers",
    "search.rounds",
    "search.keep",
    "search.theta_only",
} | {
    f"{section}.{name}"
    for section in ("training", "theta.training")
    for name in ("save_every", "log_every", "distill.cache_gb")
}


class _ConfigFile(ActionConfigFile):
    """``--config``: a file, the name of a config that comes with the package, or YAML itself."""

    def __call__(self, parser: Any, cfg: Any, values: Any, option_string: str | None = None) -> None:
        if as_mapping(values) is None:
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


def as_mapping(text: str) -> dict[str, Any] | None:
    """The settings that ``text`` itself is, as YAML; None: it is the name of a file of them, or one value."""
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        return None
    return value if isinstance(value, dict) else None


def to_config(parser: ArgumentParser, namespace: Namespace) -> RunConfig:
    """The `RunConfig` in the namespace that a parser of `make_parser` returned.

    Raises:
        ConfigError: a section is not one (``training: 3``).
    """
    namespace.pop("config", None)
    _check_sections(namespace, RunConfig, "")
    return RunConfig(**vars(parser.instantiate_classes(namespace)))


def to_yaml(config: RunConfig) -> str:
    """The resolved settings as YAML that ``--config`` reads back."""
    return yaml.safe_dump(asdict(config), sort_keys=False, allow_unicode=True)


@dataclass(frozen=True)
class Unknown:
    """The value of a setting that this version does not have.

    Attributes:
        value: as the file gives it.
    """

    value: Any

    def __repr__(self) -> str:
        return f"{self.value!r}, no setting of this version"


class _Missing:
    def __repr__(self) -> str:
        return "not set"


_MISSING = _Missing()


@dataclass(frozen=True)
class Difference:
    """A setting with two values.

    Attributes:
        name: dotted.
        one: its value in the first run.
        other: its value in the second.
    """

    name: str
    one: Any
    other: Any

    def __str__(self) -> str:
        return f"{self.name} ({self.one!r} there, {self.other!r} now)"


def read_settings(path: Path) -> dict[str, Any]:
    """The settings in a ``config.yaml`` by dotted name, as the present version understands them.

    Settings that the file lacks have their defaults; a setting that is no longer known is `Unknown`.

    Raises:
        RunError: the file cannot be read, or one of its values means nothing to this version.
    """
    return settings_in(settings_text(path), path)


def settings_in(text: str, path: Path) -> dict[str, Any]:
    """`read_settings` of a file whose text has been read.

    Args:
        text: of the file.
        path: of the file, for the message.

    Raises:
        RunError: it is not a file of settings, or one of its values means nothing to this version.
    """
    return understand(_document(text, path), str(path))


def understand(document: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Settings, nested as in a ``config.yaml``, by dotted name, as `read_settings` gives them.

    Args:
        document: the settings; those that it lacks have their defaults.
        where: they stand, for the message.

    Raises:
        RunError: one of the values means nothing to this version.
    """
    config, unknown = _understand(document, where)
    return flat_settings(config) | {name: Unknown(value) for name, value in unknown.items()}


def read_config(path: Path) -> RunConfig:
    """The settings in a ``config.yaml``, without those that the present version does not have.

    Raises:
        RunError: as `read_settings`.
    """
    return _understand(_document(settings_text(path), path), str(path))[0]


def settings_text(path: Path) -> str:
    """The text of a ``config.yaml``.

    Raises:
        RunError: the file cannot be read.
    """
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise RunError(f"{path.parent} is not a run folder: {path} cannot be read ({reason})") from error


def _document(text: str, path: Path) -> dict[str, Any]:
    try:
        document = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise RunError(f"{path} is not YAML ({error}); it is the file that the search wrote") from error
    if not isinstance(document, dict):
        raise RunError(f"{path} holds no settings; it is the file that the search wrote")
    return document


def _understand(document: Mapping[str, Any], where: str) -> tuple[RunConfig, dict[str, Any]]:
    """The settings, and those of them that are not known by dotted name."""
    unknown: dict[str, Any] = {}
    known = _known(document, RunConfig, "", unknown)
    parser = make_parser()
    try:
        return to_config(parser, parser.parse_object(known)), unknown
    except (ArgumentError, ConfigError) as error:
        raise RunError(f"{where} has a value that this version cannot read: {error}") from error


def flat_settings(config: RunConfig) -> dict[str, Any]:
    """All settings by dotted name; lists and ``model.overrides`` stay whole."""
    return _flatten(yaml.safe_load(to_yaml(config)))


def without_places(value: Any) -> Any:
    """A copy in which every absolute or home path is its last part; mappings and lists inside too."""
    if isinstance(value, Mapping):
        return {key: without_places(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [without_places(entry) for entry in value]
    if isinstance(value, str) and value.startswith(("/", "~", "./", "../")):
        return PurePosixPath(value).name
    return value


def differing(
    one: Mapping[str, Any], other: Mapping[str, Any], ignoring: Collection[str] = frozenset()
) -> list[Difference]:
    """The settings, flat, in which two runs differ, by name.

    Args:
        one: as `read_settings` or `flat_settings` gives them.
        other: the same of the other run.
        ignoring: dotted names that may differ.
    """
    pairs = ((name, one.get(name, _MISSING), other.get(name, _MISSING)) for name in sorted(one.keys() | other.keys()))
    return [Difference(name, *values) for name, *values in pairs if name not in ignoring and values[0] != values[1]]


def check_run(config: RunConfig, run_dir: Path) -> bool:
    """Compare the settings with those of the run in ``run_dir``.

    Returns:
        Whether the folder's ``config.yaml`` says exactly these settings; false too where there is none yet.

    Raises:
        RunError: the folder belongs to other settings (each is listed with both values), its config is unreadable, or
            it is not a run folder.
    """
    path = run_dir / "config.yaml"
    if not path.exists():
        if run_dir.is_dir() and any(p.name != path.name and not p.name.startswith(".") for p in run_dir.iterdir()):
            raise RunError(
                f"{run_dir} is not empty and holds no config.yaml, so it is not a run folder; choose another --run_dir"
            )
        return False
    there, here = read_settings(path), flat_settings(config)
    different = differing(there, here, MAY_CHANGE)
    if different:
        raise RunError(
            f"{run_dir} belongs to a run with other settings: {', '.join(map(str, different))}; "
            "choose another --run_dir, or the settings it was started with"
        )
    return not differing(there, here)


def save_config(config: RunConfig, run_dir: Path) -> None:
    """Write ``run_dir/config.yaml``, or check that the one there describes the same run.

    A file that says the same in the words of an older version stays as it is.

    Raises:
        RunError: as `check_run`.
    """
    if not check_run(config, run_dir):
        write_bytes(run_dir / "config.yaml", to_yaml(config).encode())


def _check_sections(namespace: Namespace, kind: type, prefix: str) -> None:
    """jsonargparse takes any value for a section without a word."""
    for name, hint in get_type_hints(kind).items():
        value = namespace.get(name)
        if not is_dataclass(hint):
            continue
        if not isinstance(value, Namespace):
            raise ConfigError(f"settings: {prefix}{name} is {value!r}; it is a section with settings of its own")
        _check_sections(value, hint, f"{prefix}{name}.")  # type: ignore[arg-type]


def _known(document: Mapping[Any, Any], kind: type, prefix: str, unknown: dict[str, Any]) -> dict[str, Any]:
    """The entries of ``document`` that are fields of the dataclass ``kind``; the others go to ``unknown``."""
    hints = get_type_hints(kind)
    kept = {}
    for key, value in document.items():
        name = f"{prefix}{key}"
        if key in hints:
            kept[key] = _known_value(value, hints[key], name, unknown)
        else:
            unknown[name] = value
    return kept


def _known_value(value: Any, hint: Any, name: str, unknown: dict[str, Any]) -> Any:
    if is_dataclass(hint) and isinstance(value, dict):
        return _known(value, hint, f"{name}.", unknown)  # type: ignore[arg-type]
    entry = next(iter(get_args(hint)), None)
    if is_dataclass(entry) and isinstance(value, list):
        return [_known_value(item, entry, f"{name}[{index}]", unknown) for index, item in enumerate(value)]
    return value


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


def named_corpus(named: str, option: str) -> CorpusConfig:
    """The corpus that ``FILE.jsonl`` or ``CORPUS:SPLIT[:PATH]`` means.

    Raises:
        ConfigError: it is neither; names ``option``.
    """
    path = Path(named)
    if path.suffix == ".jsonl":
        return CorpusConfig("jsonl", path.name, str(path.absolute().parent))
    corpus, _, rest = named.partition(":")
    split, _, folder = rest.partition(":")
    if not (corpus and split):
        raise ConfigError(
            f"{option} {named} is neither FILE.jsonl nor CORPUS:SPLIT[:PATH], e.g. librispeech:test-clean"
        )
    return CorpusConfig(corpus, split, folder)
