"""One shot: every round is pruned from one dense model, each to its own density."""

from dataclasses import dataclass
from pathlib import Path

from audio_lottery.lottery.methods.base import Method


@dataclass(frozen=True)
class Omp(Method):
    """One-shot magnitude pruning of the trained dense model (round 0)."""

    trains_before_pruning = True

    def source(self, number: int) -> Path:
        """The trained dense model."""
        return self.folder.round(0)

    def gathers_movement(self, number: int) -> bool:
        """Round 0, which all others are pruned from."""
        return number == 0


@dataclass(frozen=True)
class Mpi(Method):
    """One-shot magnitude pruning of the pretrained weights θ, before any fine-tuning."""

    starts_at_theta = True
