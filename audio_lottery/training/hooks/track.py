"""Scalars of a training, to the experiment trackers of the run."""

from pathlib import Path

from audio_lottery.training.hook import Hook
from audio_lottery.training.state import Training
from audio_lottery.training.tracking import StageTracker


class Track(Hook):
    """Sends loss, gradient norm, learning rate and dev WER to the trackers.

    Args:
        tracker: of this training.
    """

    def __init__(self, tracker: StageTracker) -> None:
        self._tracker = tracker

    def begin(self, training: Training) -> None:
        """Open the trackers."""
        self._tracker.start(training.progress.step)

    def load(self, training: Training, folder: Path) -> None:
        """Open the trackers to go on from the checkpoint."""
        self._tracker.start(training.progress.step)

    def after_step(self, training: Training) -> None:
        """Every ``log_every`` steps."""
        step = training.progress.step
        if step % training.config.log_every == 0:
            values = {
                "train/loss": training.loss,
                "train/gradient_norm": training.gradient_norm,
                "train/learning_rate": training.optimizer.param_groups[0]["lr"],
            }
            self._tracker.log(values, step)

    def after_evaluation(self, training: Training, best: bool) -> None:
        """Dev WER."""
        self._tracker.log({"dev/wer": training.progress.history[-1]["wer"]}, training.progress.step)

    def finish(self, training: Training) -> None:
        """Close the trackers."""
        self._tracker.finish()
