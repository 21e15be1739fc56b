"""AC/DC: a training that is sparse and dense in turns (Peste et al. 2021, arXiv:2106.12379)."""

from dataclasses import dataclass

from audio_lottery.lottery.methods.gradual import Gmp
from audio_lottery.pruning import Mask
from audio_lottery.training.policies import Alternating, MaskPolicy


@dataclass(frozen=True)
class Acdc(Gmp):
    """Every round starts at θ with the mask of round 0; its last phase is sparse, with a mask that stays."""

    spans = 2
    pace = "a compressed and a decompressed phase of {every} steps each (pruning.every)"

    def policy(self, number: int, mask: Mask) -> MaskPolicy:
        """A mask that comes and goes."""
        settings = self.settings
        if number == 0:
            return super().policy(number, mask)
        target, prune = self.density(number, self.start_mask.density()), self.prune(self.seed + number)
        return Alternating(mask, target, prune, settings.begin, settings.end, settings.every)
