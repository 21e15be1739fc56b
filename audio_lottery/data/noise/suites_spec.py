"""Test suites from short words on the command line, or from a YAML file."""

import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import yaml

from audio_lottery.config import SuiteConfig
from audio_lottery.data.noise.rir import GENERATED
from audio_lottery.data.noise.sources import NOISE_NAMES
from audio_lottery.errors import ConfigError
from audio_lottery.shipped import find, resolve

_FORMS = (
    "clean, NOISE@20,10,5,0 (white, pink, babble or a folder), rir, rir:FOLDER, rir+NOISE@10, a YAML file, or a name "
    "that `audio-lottery recipes` lists"
)
_NAME = re.compile(r"[A-Za-z0-9_-]+")
_PARTS = ("test", "all")


def parse_suites(specs: Sequence[str], root: Path) -> tuple[SuiteConfig, ...]:
    """The suites that a command names.

    Each spec is one of::

        clean
        pink@10dB  babble@20,10,5,0  FOLDER@20,10     one suite a level: pink10, babble20 ... (white@-5 is white-5)
        rir  rir:FOLDER                               generated responses, or a folder: rir, rir-FOLDER
        rir+pink@10  rir:FOLDER+NOISE@10              both: rir-pink10, rir-FOLDER-NOISE10
        FILE.yaml                                     suites: [{name, noise, snr_db, rir, noise_part}, ...]
        generated  babble  musan                      a file of suites that comes with the package

    A suite is named after the last part of its folder's path. In YAML ``snr_db`` may be a list, which makes a suite a
    level, the level added to the name. A path with a + in it goes into YAML.

    Args:
        specs: the words.
        root: folder that relative noise and RIR folders start from; a YAML file is looked for as it is given.

    Raises:
        ConfigError: a spec has no known form, a folder is missing, a YAML file or a field in it is wrong, or two suites
            have one name; one line that names the spec or the file and suite.
    """
    suites: list[SuiteConfig] = []
    for spec in specs:
        if spec.lower().endswith((".yaml", ".yml")) or find("suite", spec) is not None:
            suites += _from_yaml(resolve("suite", spec), root)
        else:
            suites += _from_words(spec.strip(), root)
    if not suites:
        raise ConfigError(f"no test suite is named; give one or more of: {_FORMS}")
    twice = [name for name, count in Counter(suite.name for suite in suites).items() if count > 1]
    if twice:
        raise ConfigError(f"two test suites are named {', '.join(twice)}; name them yourself in a YAML file of suites")
    return tuple(suites)


def _from_words(spec: str, root: Path) -> list[SuiteConfig]:
    where = f"test suite '{spec}'"
    if spec == "clean":
        return [SuiteConfig("clean")]
    rir, noise, levels = _split(spec)
    if rir is None and noise is None:
        raise ConfigError(f"{where}: not understood; give {_FORMS}")
    if "" in (rir, noise):
        raise ConfigError(f"{where}: names no folder; give {_FORMS}")
    _check_folders(noise, rir, root, where)
    name = "-".join([*_rir_words(rir), *([] if noise is None else [_slug(noise)])])
    if noise is None:
        return [SuiteConfig(name, rir=rir)]
    return [
        SuiteConfig(name + _level_name(level), noise=noise, snr_db=level, rir=rir)
        for level in (_level(word, where) for word in levels.split(","))
    ]


def _split(spec: str) -> tuple[str | None, str | None, str]:
    """RIRs, noise and levels of a spec; None for what it does not ask for."""
    body, at, levels = spec.rpartition("@")
    if not at:
        if spec == "rir":
            return GENERATED, None, ""
        return (spec.removeprefix("rir:") if spec.startswith("rir:") else None), None, ""
    if body.startswith("rir+"):
        return GENERATED, body.removeprefix("rir+"), levels
    if body.startswith("rir:"):
        folder, _, noise = body.removeprefix("rir:").rpartition("+")
        return folder, noise, levels
    return None, body, levels


def _from_yaml(path: Path, root: Path) -> list[SuiteConfig]:
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(
            f"{path}: cannot be read ({error.strerror}); give a YAML file with a list of suites"
        ) from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not YAML: {error}") from error
    if not isinstance(document, dict) or set(document) != {"suites"} or not isinstance(document["suites"], list):
        raise ConfigError(f"{path}: must hold one key, suites, with a list of suites")
    if not document["suites"]:
        raise ConfigError(f"{path}: the list of suites is empty")
    return [
        suite
        for number, entry in enumerate(document["suites"], start=1)
        for suite in _from_entry(entry, root, f"{path}: suite {number}")
    ]


def _from_entry(entry: Any, root: Path, where: str) -> list[SuiteConfig]:
    known = [field.name for field in fields(SuiteConfig)]
    if not isinstance(entry, dict):
        raise ConfigError(f"{where}: must have the fields {', '.join(known)}, and is {entry!r}")
    where += f" ('{entry['name']}')" if "name" in entry else ""
    unknown = [str(key) for key in entry if key not in known]
    if unknown:
        raise ConfigError(f"{where}: unknown field {', '.join(unknown)}; there are {', '.join(known)}")
    name = entry.get("name")
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise ConfigError(f"{where}: name must be text of letters, digits, - and _, and is {name!r}")
    noise, rir, part = entry.get("noise"), entry.get("rir"), entry.get("noise_part", "test")
    for key, value in (("noise", noise), ("rir", rir)):
        if value is not None and (not isinstance(value, str) or not value.strip()):
            raise ConfigError(f"{where}: {key} must be text, and is {value!r}")
    if part not in _PARTS:
        raise ConfigError(f"{where}: noise_part must be {' or '.join(_PARTS)}, and is {part!r}")
    levels = entry.get("snr_db")
    if (noise is None) != (levels is None):
        raise ConfigError(f"{where}: noise and snr_db go together")
    _check_folders(noise, rir, root, where)
    if levels is None:
        return [SuiteConfig(name, rir=rir, noise_part=part)]
    if not isinstance(levels, list):
        return [SuiteConfig(name, noise, _number(levels, where), rir, part)]
    if not levels:
        raise ConfigError(f"{where}: snr_db is an empty list")
    numbers = [_number(level, where) for level in levels]
    return [SuiteConfig(name + _level_name(level), noise, level, rir, part) for level in numbers]


def _check_folders(noise: str | None, rir: str | None, root: Path, where: str) -> None:
    """Refuse a folder that is not there, before anything is run."""
    for value, names in ((noise, NOISE_NAMES), (rir, (GENERATED,))):
        if value is not None and value not in names and not (root / Path(value).expanduser()).is_dir():
            raise ConfigError(
                f"{where}: no such folder: {root / Path(value).expanduser()}; give a folder, or {', '.join(names)}"
            )


def _level(word: str, where: str) -> float:
    """The number of ``10`` or ``10dB``."""
    try:
        return _number(float(re.sub(r"\s*db$", "", word.strip(), flags=re.IGNORECASE)), where)
    except ValueError as error:
        raise ConfigError(f"{where}: '{word}' is not a signal-to-noise ratio in dB; write e.g. 10 or 10dB") from error


def _number(value: Any, where: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ConfigError(f"{where}: snr_db must be a number of dB, or in YAML a list of them, and is {value!r}")
    return float(value)


def _level_name(level: float) -> str:
    """``10``, ``-5`` or ``2_5``."""
    return f"{level:g}".replace(".", "_").replace("+", "")


def _rir_words(rir: str | None) -> list[str]:
    if rir is None:
        return []
    return ["rir"] if rir == GENERATED else ["rir", _slug(rir)]


def _slug(path: str) -> str:
    """The last part of a path, with characters that a suite's name may have."""
    last = Path(path).name or "noise"
    return re.sub(r"[^A-Za-z0-9_-]", "_", last)
