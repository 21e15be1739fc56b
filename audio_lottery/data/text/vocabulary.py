"""What a vocabulary is to data: a table from transcripts to labels, and which transcripts it cannot write."""

from collections.abc import Iterable, Sequence
from typing import Protocol

from audio_lottery.data.text.characters import show
from audio_lottery.errors import TextError


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


def out_of_vocabulary(texts: Iterable[tuple[str, str]], vocabulary: Vocabulary) -> dict[str, tuple[int, str]]:
    """Count the characters that the vocabulary cannot write.

    Args:
        texts: pairs of utterance id and normalised text.
        vocabulary: what can be written.

    Returns:
        Character to (how often it occurs, id of the first utterance with it), most frequent first.
    """
    found: dict[str, tuple[int, str]] = {}
    for utterance_id, text in texts:
        for char in vocabulary.unknown(text):
            count, first = found.get(char, (0, utterance_id))
            found[char] = (count + 1, first)
    return dict(sorted(found.items(), key=lambda item: (-item[1][0], item[0])))


def check_vocabulary(texts: Iterable[tuple[str, str]], vocabulary: Vocabulary, where: str = "the corpus") -> None:
    """Refuse texts that the vocabulary cannot write.

    Args:
        texts: pairs of utterance id and normalised text.
        vocabulary: what can be written.
        where: the corpus and split, for the message.

    Raises:
        TextError: lists every such character with its count, the first utterance that holds it, and what to do.
    """
    found = out_of_vocabulary(texts, vocabulary)
    if found:
        listed = ", ".join(f"{show(char)} ({count}×, first in {first})" for char, (count, first) in found.items())
        raise TextError(f"{where} holds characters outside the vocabulary: {listed}; {REMEDY}")


REMEDY = (
    "choose another --data.normalizer, add them to --model.characters, or leave such utterances out with "
    "--data.out_of_vocabulary drop"
)


def require_writable(unknown: Sequence[str], text: str, remedy: str = REMEDY) -> None:
    """Refuse a text that a vocabulary cannot write.

    Args:
        unknown: its characters that have no label, as `Vocabulary.unknown` gives them.
        text: the text.
        remedy: what the user can do.

    Raises:
        TextError: there are such characters; each is named once.
    """
    if unknown:
        listed = ", ".join(map(show, dict.fromkeys(unknown)))
        raise TextError(f"the vocabulary has no {listed}, which occurs in '{text}'; {remedy}")
