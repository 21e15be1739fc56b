"""When words were said, from when their labels were written."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby


@dataclass(frozen=True, slots=True)
class Word:
    """A word and its time.

    Attributes:
        text: the word.
        start: seconds at which the frame of its first label begins.
        end: seconds at which the last frame of its last label ends.
    """

    text: str
    start: float
    end: float


def words(
    spell: Callable[[Sequence[int]], str], labels: Sequence[int], starts: Sequence[float], ends: Sequence[float]
) -> list[Word]:
    """The words of some labels with their times.

    A model writes a label when it is sure of it, which may be some frames behind the sound, so a time is not the edge
    of a word that a phonetician would draw.

    Args:
        spell: labels → text.
        labels: of the whole text.
        starts: seconds at which the writing of each label began.
        ends: seconds at which it ended.
    """
    found: list[Word] = []
    first, before = 0, ""  # the label that the word in hand begins with, and what has been spelt since
    for index, (start, end) in enumerate(zip(starts, ends, strict=True)):
        text = spell(labels[first : index + 1])
        parts = text.split()
        if parts and parts != before.split():
            if len(parts) > 1:
                first, parts = index, parts[-1:]
                text = parts[0]
            begin = start if first == index or not before.split() else found.pop().start
            found.append(Word(parts[-1], begin, end))
        before = text
    return found


@dataclass(frozen=True, slots=True)
class Written:
    """Labels, and when they were written.

    Attributes:
        labels: ids.
        starts: seconds at which the writing of each began.
        ends: seconds at which it ended.
    """

    labels: tuple[int, ...]
    starts: tuple[float, ...]
    ends: tuple[float, ...]


def merge_repeats(path: Sequence[int], blank: int, frame_seconds: float) -> Written:
    """The labels of a path, repeats merged and blanks left out (Graves et al. 2006, section 3.1, the map B).

    Args:
        path: a label or the blank for every frame.
        blank: its id.
        frame_seconds: length of a frame.
    """
    found, frame = [], 0
    for label, run in groupby(path):
        begin, frame = frame, frame + sum(1 for _ in run)
        if label != blank:
            found.append((label, begin * frame_seconds, frame * frame_seconds))
    labels, starts, ends = zip(*found, strict=True) if found else ((), (), ())
    return Written(labels, starts, ends)
