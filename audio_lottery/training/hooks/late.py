"""Late rewinding: a checkpoint of an early step is kept, and later trainings go on from it.

Source: Frankle et al. 2020, "Linear Mode Connectivity and the Lottery Ticket Hypothesis", arXiv:1912.05671.
"""

from dataclasses import replace
from pathlib import Path

from audio_lottery.errors import RunError
from audio_lottery.training.checkpoint import load_checkpoint, save_checkpoint
from audio_lottery.training.hook import Hook
from audio_lottery.training.state import Progress, Training


class KeepLate(Hook):
    """Keeps the checkpoint of one step as a rewind point: no best model, no history.

    Args:
        step: optimiser steps after which it is kept.
        folder: where.
    """

    def __init__(self, step: int, folder: Path) -> None:
        self._step = step
        self._folder = folder

    def after_step(self, training: Training) -> None:
        """Write it when the step has come."""
        progress = training.progress
        if progress.step != self._step:
            return
        if training.accelerator.is_main_process:
            point = Progress(progress.step, progress.micro_step, progress.world_size)
            save_checkpoint(self._folder, replace(training, progress=point), best={}, hooks=())
        training.accelerator.wait_for_everyone()


class StartLate(Hook):
    """Starts a training at a rewind point: weights, optimiser, schedule and data order. Comes before the mask's hook.

    Args:
        folder: what `KeepLate` wrote.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def begin(self, training: Training) -> None:
        """Go on from the rewind point.

        Raises:
            RunError: it is not there, or damaged.
        """
        loaded = load_checkpoint(self._folder, training)
        if loaded is None:
            raise RunError(f"the rewind point {self._folder} is missing; remove round_00 to train it again")
        training.progress = loaded.progress
