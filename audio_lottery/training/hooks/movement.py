"""Movement scores of one training: gathered at every optimiser step, kept with checkpoints and with the best model."""

from collections.abc import Sequence
from pathlib import Path

from safetensors.torch import load_file, save_file
from torch import Tensor

from audio_lottery.pruning import MovementAccumulator
from audio_lottery.training.hook import Hook
from audio_lottery.training.state import Training

_NOW, _BEST = "movement_now.safetensors", "movement_best.safetensors"


class GatherMovement(Hook):
    """Gathers the movement of a training's weights (Sanh et al. 2020, arXiv:2005.07683).

    A round keeps its best model on dev, so the scores to prune it by are those up to its step, not up to the last one.

    Args:
        names: parameters to score.

    Attributes:
        best: scores of the best model, from the training's first step to its step.

    Raises:
        MaskError: when the training starts: a name is not a parameter, or the optimiser does not train it.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self._names = list(names)
        self._accumulator: MovementAccumulator | None = None
        self.best: dict[str, Tensor] | None = None

    def start(self, training: Training) -> None:
        """Read every step from now on."""
        self._accumulator = MovementAccumulator(training.backbone.module, self._names, training.optimizer)

    def load(self, training: Training, folder: Path) -> None:
        """The scores of the checkpoint."""
        self._gatherer.load_state_dict(load_file(folder / _NOW))
        if (folder / _BEST).exists():
            self.best = load_file(folder / _BEST)

    def after_evaluation(self, training: Training, best: bool) -> None:
        """The scores so far are those of the best model."""
        if best:
            self.best = self._gatherer.state_dict()

    def save(self, training: Training, folder: Path) -> None:
        """Both."""
        save_file(self._gatherer.state_dict(), folder / _NOW)
        if self.best is not None:
            save_file(self.best, folder / _BEST)

    def finish(self, training: Training) -> None:
        """Stop reading steps."""
        self._gatherer.remove()

    @property
    def _gatherer(self) -> MovementAccumulator:
        if self._accumulator is None:
            raise RuntimeError("the training has not started")
        return self._accumulator
