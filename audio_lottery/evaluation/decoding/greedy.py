"""Greedy decoding of CTC outputs."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from audio_lottery.evaluation.decoding.hypothesis import Hypothesis
from audio_lottery.models.ctc import Recogniser


@dataclass(frozen=True)
class GreedyDecoder:
    """Best character of each frame, repeats merged, blanks removed.

    Source: Graves et al. 2006, "Connectionist Temporal Classification", section 3.2, best path decoding.

    Attributes:
        recogniser: gives the blank and the characters.
        name: see `Decoder`.
    """

    recogniser: Recogniser
    name: str = "greedy"

    def __call__(self, logits: Tensor, frames: Sequence[int]) -> list[list[Hypothesis]]:
        """One hypothesis per utterance; arguments as in `Decoder`."""
        best = logits.argmax(dim=-1)  # of the logits: log_softmax rounds close ones to a tie
        values = logits.log_softmax(dim=-1).gather(-1, best.unsqueeze(-1)).squeeze(-1)
        for row, score, count in zip(best, values, frames, strict=True):
            row[count:] = self.recogniser.blank
            score[count:] = 0.0
        texts = self.recogniser.processor.batch_decode(best)
        totals = values.sum(dim=-1, dtype=torch.float64).tolist()
        return [[Hypothesis(text, total, total, 0.0)] for text, total in zip(texts, totals, strict=True)]


def greedy_decoder(recogniser: Recogniser) -> GreedyDecoder:
    """The greedy decoder of a recogniser."""
    return GreedyDecoder(recogniser)
