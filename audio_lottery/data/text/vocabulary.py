"""What a vocabulary is to the rest of the package; `LabelEncoder` is the one of characters."""

from collections.abc import Sequence
from typing import Protocol


class Vocabulary(Protocol):
    """Transcripts to labels. Pickles: loader workers hold a copy."""

    def unknown(self, text: str) -> list[str]:
        """The characters of a normalised ``text`` that cannot be written, repeats included, in their order."""
        ...

    def encode(self, text: str) -> list[int]:
        """Label ids of a normalised text; never the id of an unknown, and no start or end marks.

        Raises:
            TextError: a character cannot be written.
        """
        ...

    def decode(self, labels: Sequence[int]) -> str:
        """The text of label ids, repeats kept."""
        ...
