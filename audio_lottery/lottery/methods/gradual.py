"""Gradual magnitude pruning: a round starts dense and is pruned as it trains (Zhu & Gupta 2017, arXiv:1710.01878)."""

import math
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path

from audio_lottery.config import TrainingConfig
from audio_lottery.errors import ConfigError
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

    def training(self, number: int, training: TrainingConfig) -> TrainingConfig:
        """Round 0 has no hold: the rate stays at its peak for as long as weights are being pruned."""
        return super().training(number, replace(training, hold_ratio=0.0) if number == 0 else training)

    def check_steps(self, steps: int) -> None:
        """The schedule has two prunings at least, else it is not gradual, and a step after the last of them.

        Raises:
            ConfigError: it has not.
        """
        settings = self.settings
        first, last = self._span(steps)
        if last - first < settings.every:
            shortest = math.ceil(settings.every / (settings.end - settings.begin))
            needed = next(n for n in count(shortest) if self._span(n)[1] - self._span(n)[0] >= settings.every)
            remedy = f"raise training.max_steps to {needed} or more (epochs likewise), or lower pruning.every"
        elif last >= steps:
            remedy = "lower pruning.end, so that the weights recover under the final mask"
        else:
            return
        what = f"steps {first} to {last} of {steps}" if last > first else f"no step of {steps}"
        raise ConfigError(
            f"pruning.method gmp: the training is too short for its schedule: every {settings.every} steps "
            f"(pruning.every) in {what} (pruning.begin {settings.begin:g}, end {settings.end:g}); {remedy}"
        )

    def _span(self, steps: int) -> tuple[int, int]:
        return round(self.settings.begin * steps), round(self.settings.end * steps)
