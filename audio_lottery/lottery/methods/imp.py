"""Iterative magnitude pruning: every round comes from the one before (Frankle & Carbin 2019, arXiv:1803.03635)."""

from dataclasses import dataclass
from pathlib import Path

from audio_lottery.lottery.methods.base import Method
from audio_lottery.lottery.run_folder import MASK_FILE
from audio_lottery.pruning import Mask


@dataclass(frozen=True)
class Imp(Method):
    """Round k keeps a share of what round k-1 kept, by the weights that round k-1 trained."""

    trains_before_pruning = True

    def source(self, number: int) -> Path:
        """The round before."""
        return self.folder.round(number - 1)

    def among(self, number: int) -> Mask:
        """The mask of the round before: masks only shrink."""
        return Mask.load(self.source(number) / MASK_FILE)

    def gathers_movement(self, number: int) -> bool:
        """Every round, the last one too: ``search.rounds`` may grow."""
        return True

    def rehearsed(self, made: Mask, among: Mask) -> Mask:
        """The mask that was made."""
        return made
