"""The search of the backbone itself: with one hypothesis, or, where its outputs are not CTC logits, with a beam."""

from dataclasses import dataclass

from audio_lottery.evaluation.decoding.hypothesis import Hypothesis
from audio_lottery.models.base import Backbone, Emission


@dataclass(frozen=True)
class GreedyDecoder:
    """See `Backbone.search`.

    Attributes:
        backbone: how its emissions are read.
        name: see `Decoder`.
        beam: see `Decoder`.
    """

    backbone: Backbone
    name: str = "greedy"
    beam: int = 1

    def __call__(self, emission: Emission) -> list[list[Hypothesis]]:
        """One hypothesis per utterance."""
        return self.backbone.search(emission, beam=1)


@dataclass(frozen=True)
class OwnBeamDecoder:
    """Beam search of a backbone that has its own, without a language model.

    Attributes:
        backbone: how its emissions are read.
        beam: hypotheses that are followed.
        nbest: hypotheses kept per utterance.
    """

    backbone: Backbone
    beam: int
    nbest: int

    @property
    def name(self) -> str:
        """See `Decoder`."""
        return f"beam(beam_size={self.beam})"

    def __call__(self, emission: Emission) -> list[list[Hypothesis]]:
        """The n best hypotheses per utterance; of those with the same text, the best."""
        found = []
        for hypotheses in self.backbone.search(emission, beam=self.beam):
            distinct: dict[str, Hypothesis] = {}
            for hypothesis in hypotheses:
                distinct.setdefault(hypothesis.text, hypothesis)
            found.append(list(distinct.values())[: self.nbest])
        return found
