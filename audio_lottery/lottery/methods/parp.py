"""PARP: prune θ, adjust, re-prune (Lai et al. 2021, arXiv:2106.05933)."""

from dataclasses import dataclass

import numpy as np

from audio_lottery.lottery.methods.base import Method
from audio_lottery.pruning import Mask
from audio_lottery.training.policies import MaskPolicy, Repruned


@dataclass(frozen=True)
class Parp(Method):
    """Pruned weights are zero but go on training, and every n updates the model is pruned again."""

    prunes_in_training = True
    starts_at_theta = True

    def densities(self, number: int) -> tuple[float, ...]:
        """Densities that round ``number`` goes through, the last one its own."""
        return (self.density(number, self.start_mask.density()),)

    def first_density(self, number: int) -> float:
        """The first of `densities`."""
        return self.densities(number)[0]

    def policy(self, number: int, mask: Mask) -> MaskPolicy:
        """A mask that is drawn again and again."""
        if number == 0:
            return super().policy(number, mask)
        # a dense mask allows every weight; None costs nothing
        within = None if self.settings.start is None else self.start_mask
        return Repruned(mask, self.densities(number), self.prune(self.seed + number), self.settings.every, within)


@dataclass(frozen=True)
class ProgressiveParp(Parp):
    """PARP-P: the density falls in equal steps, each of which lasts as long."""

    def densities(self, number: int) -> tuple[float, ...]:
        """In equal steps from the density of round 0 to the target."""
        start = self.start_mask.density()
        steps = np.linspace(start, self.density(number, start), self.settings.stages + 1)
        return tuple(float(step) for step in steps[1:])
