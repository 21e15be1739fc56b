"""What every decoder takes and gives."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor


@dataclass(frozen=True, slots=True)
class Hypothesis:
    """One way to read an utterance.

    Attributes:
        text: what was said, words separated by single spaces (greedy: exactly as the tokenizer writes it).
        score: what hypotheses are ordered by: acoustic + lm_weight × lm + word_score × words.
        acoustic: natural log-probability of the text: of its best path (greedy), or summed over the alignments that
            the beam kept.
        lm: log10 probability of the text and its end under the language model; 0 without one.
    """

    text: str
    score: float
    acoustic: float
    lm: float


class Decoder(Protocol):
    """From logits to the n best hypotheses of each utterance. Runs on the CPU; safe to call from another thread.

    Attributes:
        name: goes into ``metrics.json``: the method and every setting that its output depends on.
    """

    @property
    def name(self) -> str: ...

    def __call__(self, logits: Tensor, frames: Sequence[int]) -> list[list[Hypothesis]]:
        """Decode a batch.

        Args:
            logits: [batch, frames, characters] in float32 on the CPU.
            frames: frames of each utterance without padding; frames behind its end are not read.

        Returns:
            For each utterance its hypotheses, best first, no text twice; at least one.
        """
        ...
