"""What every decoder takes and gives."""

from typing import Protocol

from audio_lottery.models.base import Emission, Hypothesis

NOTHING = Hypothesis("", 0.0, 0.0, 0.0)
"""The hypothesis of an utterance that is too short for a frame."""


class Decoder(Protocol):
    """From emissions to the n best hypotheses of each utterance. Runs on the CPU; safe to call from another thread.

    Attributes:
        name: goes into ``metrics.json``: the method and every setting that its output depends on.
        beam: hypotheses that the backbone follows where it writes by itself (`Backbone.emit`).
    """

    @property
    def name(self) -> str: ...

    @property
    def beam(self) -> int: ...

    def __call__(self, emission: Emission) -> list[list[Hypothesis]]:
        """Decode a batch.

        Args:
            emission: of the batch; frames behind the end of an utterance are not read.

        Returns:
            For each utterance its hypotheses, best first, no text twice; at least one.
        """
        ...
