"""The dense control: round k trains as long as rounds 0 to k of a search together, and prunes nothing."""

from dataclasses import dataclass
from pathlib import Path

from audio_lottery.config import PruningConfig, TrainingConfig
from audio_lottery.lottery.methods.base import InputsSource, Method, prolonged
from audio_lottery.pruning import Mask


@dataclass(frozen=True)
class Dense(Method):
    """θ, trained without a mask with the budget of a search."""

    @classmethod
    def problems(cls, settings: PruningConfig) -> list[str]:
        """It starts from θ and takes no masks."""
        checks = [
            (
                settings.ticket is None and settings.rewind == "theta",
                "pruning.control dense trains θ without a mask: no pruning.ticket, and pruning.rewind theta",
            ),
            (
                settings.dense_steps is None,
                "pruning.dense_steps: with pruning.control dense every round is a multiple of round 0",
            ),
            (
                not settings.equal_budget,
                "pruning.equal_budget: with pruning.control dense every round has that budget",
            ),
        ]
        return [message for holds, message in checks if not holds]

    def density(self, number: int, start: float = 1.0) -> float:
        """That of round 0."""
        return start

    def ranked(self, number: int) -> Path | None:
        """None: rounds start with the mask of round 0."""
        return None

    def mask(self, number: int, score_inputs: InputsSource) -> Mask:
        """The mask of round 0."""
        return super().mask(0, score_inputs) if number == 0 else self.start_mask

    def training(self, number: int, training: TrainingConfig) -> TrainingConfig:
        """As long as rounds 0 to ``number`` together."""
        return prolonged(training, number + 1)

    def rehearse(self, rounds: int) -> None:
        """Nothing is pruned."""
