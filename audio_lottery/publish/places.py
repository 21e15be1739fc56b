"""Settings without the places of the machine they were used on."""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import PurePosixPath
from typing import Any

from audio_lottery.config import RunConfig

_OWN = ("run_dir", "num_processes", "log_with")


def public_settings(config: RunConfig) -> dict[str, Any]:
    """What another machine needs to search again, nested as in a YAML file of settings.

    Folders of this machine are cut to their last part: user names and mounts are nobody's business.
    """
    settings = {name: value for name, value in asdict(config).items() if name not in _OWN}
    settings["data"] = {name: value for name, value in settings["data"].items() if name not in ("root", "num_workers")}
    cut: dict[str, Any] = without_places(settings)
    return cut


def without_places(value: Any) -> Any:
    """A copy in which every absolute or home path is its last part; mappings and lists inside too."""
    if isinstance(value, Mapping):
        return {key: without_places(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [without_places(entry) for entry in value]
    if isinstance(value, str) and value.startswith(("/", "~", "./", "../")):
        return PurePosixPath(value).name
    return value
