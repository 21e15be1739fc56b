"""Gradual magnitude pruning: a round starts dense and is pruned as it trains (Zhu & Gupta 2017, arXiv:1710.01878)."""

from dataclasses import dataclass
from pathlib import Path

from audio_lottery.lottery.methods.base import InputsSource, Method
from audio_lottery.pruning import Mask
from audio_lottery.training.policies import Gradual, MaskPolicy


@dataclass(frozen=True)
class Gmp(Method):
    """Every round starts at θ with the mask of round 0, and ends with its own density."""

    prunes_in_training = True
    starts_at_theta = True

    def ranked(self, number: int) -> Path | None:
        """None: rounds start with the mask of round 0."""
        return None

    def mask(self, number: int, score_inputs: InputsSource) -> Mask:
        """The mask of round 0."""
        return super().mask(0, score_inputs) if number == 0 else self.start_mask

    def policy(self, number: int, mask: Mask) -> MaskPolicy:
        """A mask that shrinks on the cubic schedule."""
        settings = self.settings
        if number == 0:
            return super().policy(number, mask)
        target, prune = self.density(number, self.start_mask.density()), self.prune(self.seed + number)
        return Gradual(mask, target, prune, settings.begin, settings.end, settings.every)
