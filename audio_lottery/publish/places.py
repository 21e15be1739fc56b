"""Settings without the places of the machine they were used on."""

from dataclasses import asdict
from typing import Any

from audio_lottery.config import RunConfig
from audio_lottery.settings import without_places

_OWN = ("run_dir", "num_processes", "log_with")


def public_settings(config: RunConfig) -> dict[str, Any]:
    """What another machine needs to search again, nested as in a YAML file of settings.

    Folders of this machine are cut to their last part: user names and mounts are nobody's business.
    """
    settings = {name: value for name, value in asdict(config).items() if name not in _OWN}
    settings["data"] = {name: value for name, value in settings["data"].items() if name not in ("root", "num_workers")}
    cut: dict[str, Any] = without_places(settings)
    return cut
