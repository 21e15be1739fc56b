"""Movement scores of one training: gathered at every optimiser step, kept with checkpoints and with the best model."""

from collections.abc import Mapping, Sequence

from torch import Tensor, nn
from torch.optim import Optimizer

from audio_lottery.pruning import MovementAccumulator


class MovementKeeper:
    """Gathers the movement of a training's weights (Sanh et al. 2020, arXiv:2005.07683); without names it does nothing.

    A round keeps its best model on dev, so the scores to prune it by are those up to its step, not up to the last one.

    Args:
        names: parameters to score.
        model: the model in training.
        optimizer: the torch optimiser that trains it.
        saved: what `state` gave, to go on from; None starts at zero.

    Raises:
        MaskError: a name is no parameter, the optimiser does not train it, or ``saved`` is of other parameters.
    """

    def __init__(
        self,
        names: Sequence[str],
        model: nn.Module,
        optimizer: Optimizer,
        saved: Mapping[str, dict[str, Tensor]] | None = None,
    ) -> None:
        self._accumulator = MovementAccumulator(model, names, optimizer) if names else None
        self.best: dict[str, Tensor] | None = None
        if self._accumulator is not None and saved is not None:
            self._accumulator.load_state_dict(saved.get("now", {}))
            self.best = saved.get("best")

    def keep(self) -> None:
        """The scores so far are those of the best model."""
        if self._accumulator is not None:
            self.best = self._accumulator.state_dict()

    def state(self) -> dict[str, dict[str, Tensor]]:
        """Everything a checkpoint needs: ``now`` and, once there is a best model, ``best``; empty without names."""
        if self._accumulator is None:
            return {}
        return {"now": self._accumulator.state_dict()} | ({} if self.best is None else {"best": self.best})

    def remove(self) -> None:
        """Stop reading steps; ``best`` stays."""
        if self._accumulator is not None:
            self._accumulator.remove()
