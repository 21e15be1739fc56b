"""When words were said, from when their labels were written."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from audio_lottery.models.base import Hypothesis


@dataclass(frozen=True, slots=True)
class Word:
    """A word and its time.

    Attributes:
        text: the word.
        start: seconds at which the frame of its first label begins.
        end: seconds at which the frame of its last label ends.
    """

    text: str
    start: float
    end: float


def words(spell: Callable[[Sequence[int]], str], hypothesis: Hypothesis, frame_seconds: float) -> list[Word]:
    """The words of a hypothesis with their times.

    A transducer writes a label when it is sure of it, which may be some frames behind the sound, so a time is not the
    edge of a word that a phonetician would draw.

    Args:
        spell: labels → text.
        hypothesis: with labels and times.
        frame_seconds: length of a frame.
    """
    found: list[Word] = []
    for index, time in enumerate(hypothesis.times):
        text = spell(hypothesis.labels[: index + 1])
        parts = text.split()
        if not parts or text != text.rstrip():
            continue
        first = len(parts) > len(found)
        begin = time if first else found.pop().start
        found.append(Word(parts[-1], begin, time + frame_seconds))
    return found
