"""Greedy decoding: the search of the backbone itself, with one hypothesis."""

from dataclasses import dataclass

from audio_lottery.evaluation.decoding.hypothesis import Hypothesis
from audio_lottery.models.base import Backbone, Emission


@dataclass(frozen=True)
class GreedyDecoder:
    """See `Backbone.search`.

    Attributes:
        backbone: how its emissions are read.
        name: see `Decoder`.
    """

    backbone: Backbone
    name: str = "greedy"

    def __call__(self, emission: Emission) -> list[list[Hypothesis]]:
        """One hypothesis per utterance."""
        return self.backbone.search(emission, beam=1)
