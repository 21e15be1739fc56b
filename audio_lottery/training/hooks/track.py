"""Scalars of a training, to the experiment trackers that accelerate knows."""

from pathlib import Path

from audio_lottery.training.hook import Hook
from audio_lottery.training.state import Training


class Track(Hook):
    """Sends loss, gradient norm, learning rate and dev WER to the trackers of the accelerator; one run a stage."""

    def begin(self, training: Training) -> None:
        """A new run of every tracker, named after the stage."""
        self._open(training)

    def load(self, training: Training, folder: Path) -> None:
        """As `begin`; points behind the checkpoint, which come again, are dropped where the tracker can."""
        self._open(training)

    def after_step(self, training: Training) -> None:
        """Every ``log_every`` steps."""
        step = training.progress.step
        if step % training.config.log_every == 0:
            values = {
                "train/loss": training.loss,
                "train/gradient_norm": training.gradient_norm,
                "train/learning_rate": training.optimizer.param_groups[0]["lr"],
            }
            training.accelerator.log(values, step=step)

    def after_evaluation(self, training: Training, best: bool) -> None:
        """Dev WER and CER."""
        latest = training.progress.history[-1]
        values = {"dev/wer": latest["wer"], "dev/cer": latest["cer"]}
        training.accelerator.log(values, step=training.progress.step)

    def finish(self, training: Training) -> None:
        """End the run: the next stage has its own."""
        for tracker in training.accelerator.trackers:
            tracker.finish()
        training.accelerator.trackers = []

    def _open(self, training: Training) -> None:
        options = {"tensorboard": {"purge_step": training.progress.step}}
        training.accelerator.init_trackers(training.stage.name, init_kwargs=options)
