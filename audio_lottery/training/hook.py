"""What may hang on a training."""

from pathlib import Path

from audio_lottery.training.state import Training


class Hook:
    """Called by `audio_lottery.training.loop` at its places; does nothing unless a subclass says so.

    The order of calls: ``start``; ``load`` where a checkpoint is continued, ``begin`` where not; for every step
    ``before_step``, ``after_backward``, ``after_step``; around an evaluation ``before_evaluation``, ``may_keep``,
    ``after_evaluation``; with every checkpoint ``save``; at the end ``finish``. Every process calls all of them except
    ``save``, which only the main process does.
    """

    def start(self, training: Training) -> None:
        """The model is on its device and the optimiser is made; weights and state are not yet those of a checkpoint."""

    def load(self, training: Training, folder: Path) -> None:
        """Go on from the checkpoint in ``folder``, whose weights and optimiser state are loaded."""

    def begin(self, training: Training) -> None:
        """There is no checkpoint: the training starts."""

    def before_step(self, training: Training) -> None:
        """Before the forward pass of step ``training.progress.step``, which counts from 0."""

    def after_backward(self, training: Training) -> None:
        """Gradients are complete, before they are clipped."""

    def after_step(self, training: Training) -> None:
        """After the optimiser's step; ``training.progress.step`` counts it."""

    def before_evaluation(self, training: Training) -> None:
        """Make the model what will be evaluated, and kept if it is the best."""

    def may_keep(self, training: Training) -> bool:
        """Whether the evaluated model may be the training's result."""
        return True

    def after_evaluation(self, training: Training, best: bool) -> None:
        """The latest entry of ``training.progress.history`` is new; ``best`` says whether its model is kept."""

    def save(self, training: Training, folder: Path) -> None:
        """Write into the checkpoint ``folder`` what `load` needs: safetensors or JSON under names of one's own."""

    def finish(self, training: Training) -> None:
        """The training is over; the model has the weights of the best."""
