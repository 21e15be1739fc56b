"""Scalars of a training, through accelerate's trackers: TensorBoard, W&B, MLflow, or one of the user's own.

A tracker of the user's own is a `accelerate.tracking.GeneralTracker` class that was registered with
`accelerate.tracking.register_tracker_class`; then ``log_with`` knows it by its name.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from accelerate import Accelerator
from accelerate.tracking import LOGGER_TYPE_TO_CLASS, get_available_trackers
from accelerate.utils import LoggerType

from audio_lottery.errors import ConfigError

# Tracker → (stage, folder of its files, first step to come) → what its own library calls the run.
_OPTIONS: dict[str, Callable[[str, Path, int], dict[str, Any]]] = {
    # What was written after the checkpoint that a training goes on from will be written again.
    "tensorboard": lambda stage, folder, step: {"purge_step": step},
    "wandb": lambda stage, folder, step: {"name": stage},
    "trackio": lambda stage, folder, step: {"name": stage},
    "swanlab": lambda stage, folder, step: {"experiment_name": stage},
    "mlflow": lambda stage, folder, step: {"run_name": stage},
    "clearml": lambda stage, folder, step: {"task_name": stage},
    "dvclive": lambda stage, folder, step: {"dir": str(folder / stage), "resume": True},
}


def tracker_names(log_with: str | Sequence[str] | None) -> tuple[str, ...]:
    """The trackers that ``log_with`` names, once each; ``all`` stands for all that are installed.

    Raises:
        ConfigError: accelerate knows no such tracker, or its package is not installed.
    """
    if log_with is None or log_with == "none":
        return ()
    names = [log_with] if isinstance(log_with, str) else list(log_with)
    installed = [str(kind) for kind in get_available_trackers()]
    if "all" in names:
        return tuple(dict.fromkeys([*(name for name in names if name != "all"), *installed]))
    for name in names:
        if name not in LOGGER_TYPE_TO_CLASS:
            known = ", ".join(sorted(LOGGER_TYPE_TO_CLASS))
            raise ConfigError(f"log_with: accelerate knows no tracker '{name}'; there are {known}, all and none")
        if name in LoggerType.list() and name not in installed:
            raise ConfigError(
                f"log_with: the tracker '{name}' is not installed; pip install {name}, or choose another "
                f"(installed: {', '.join(installed) or 'none'})"
            )
    return tuple(dict.fromkeys(names))


class StageTracker:
    """Logs the scalars of one training to the trackers of a run; on the main process only.

    Trackers that keep files get ``RUN_DIR/TRACKER/STAGE``; to others the run folder's name is the project and the stage
    is the run. A training that is continued goes on counting its steps: in TensorBoard in the same folder, elsewhere in
    a further run of the same name.

    Args:
        names: trackers, as `tracker_names` gives them.
        accelerator: holds them while the training runs.
        run_dir: folder of the run.
        stage: theta, round_03 ...
        settings: of the run, by dotted name; trackers without a folder of their own get them as the configuration.
    """

    def __init__(
        self,
        names: Sequence[str],
        accelerator: Accelerator,
        run_dir: Path,
        stage: str,
        settings: Mapping[str, Any],
    ) -> None:
        self._names = names
        self._accelerator = accelerator
        self._run_dir = run_dir
        self._stage = stage
        self._settings = {name: _scalar(value) for name, value in settings.items()}

    def start(self, step: int) -> None:
        """Open the trackers; ``step`` optimiser steps are done.

        Raises:
            ConfigError: a tracker cannot start; says which and why.
        """
        accelerator = self._accelerator
        if not accelerator.is_main_process:
            return
        try:
            accelerator.log_with = [self._make(name, step) for name in self._names]
            accelerator.init_trackers(self._run_dir.absolute().name)
            for tracker in accelerator.trackers:
                if not tracker.requires_logging_directory:  # the files of the others lie beside config.yaml
                    tracker.store_init_configuration(self._settings)
        except Exception as error:  # whatever the package of a tracker raises: no login, no network, a full disk
            raise ConfigError(
                f"log_with: {', '.join(self._names)} cannot start: {error or type(error).__name__}; "
                "set it up, or choose another tracker or none"
            ) from error

    def log(self, values: Mapping[str, float], step: int) -> None:
        """Scalars by name, after ``step`` optimiser steps."""
        self._accelerator.log(dict(values), step=step)

    def finish(self) -> None:
        """Close the trackers; the accelerator is free for those of the next training."""
        for tracker in self._accelerator.trackers:
            tracker.finish()
        self._accelerator.trackers.clear()

    def _make(self, name: str, step: int) -> Any:
        kind, folder = LOGGER_TYPE_TO_CLASS[name], self._run_dir / name
        options = _OPTIONS[name](self._stage, folder, step + 1) if name in _OPTIONS else {}
        if kind.requires_logging_directory:
            return kind(self._stage, str(folder), **options)
        return kind(self._run_dir.absolute().name, **options)


def _scalar(value: Any) -> Any:
    """Trackers take numbers, texts and None."""
    return value if isinstance(value, bool | int | float | str | None) else json.dumps(value, ensure_ascii=False)
