"""What was said in a recording: words with times, and segments that are short enough to read."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from audio_lottery.models.words import Word

# A segment ends at a pause of so many seconds, or before it would be longer, or hold more characters, than a subtitle
# of two lines may.
_PAUSE, _LONGEST, _CHARACTERS = 0.8, 7.0, 84


@dataclass(frozen=True, slots=True)
class Segment:
    """Words that belong together.

    Attributes:
        text: what was said, words separated by single spaces.
        start: seconds from the start of the recording.
        end: likewise.
        words: its words; empty where the model gives them no times.
    """

    text: str
    start: float
    end: float
    words: tuple[Word, ...] = ()


@dataclass(frozen=True, slots=True)
class Transcript:
    """What was said in a recording.

    Attributes:
        source: the file; empty of an array.
        duration: seconds.
        segments: in order; none where nothing was said.
    """

    source: str
    duration: float
    segments: tuple[Segment, ...]

    @property
    def text(self) -> str:
        """All that was said."""
        return " ".join(segment.text for segment in self.segments)

    @property
    def words(self) -> list[Word]:
        """All words with their times; none where the model gives them no times."""
        return [word for segment in self.segments for word in segment.words]

    @property
    def finest(self) -> list[Word | Segment]:
        """The words, or, of segments without words, the segments."""
        return [part for segment in self.segments for part in (segment.words or (segment,))]

    def to_dict(self) -> dict[str, Any]:
        """As transformers' ``pipeline`` gives it with ``return_timestamps="word"``: ``text`` and ``chunks``."""
        chunks = [{"text": part.text, "timestamp": (round(part.start, 3), round(part.end, 3))} for part in self.finest]
        return {"text": self.text, "chunks": chunks}


def segments_of(words: Iterable[Word]) -> Iterator[Segment]:
    """Words in segments that a subtitle has room for, cut where somebody pauses."""
    waiting: list[Word] = []
    for word in words:
        if waiting:
            characters = sum(len(one.text) + 1 for one in waiting) + len(word.text)
            pause, length = word.start - waiting[-1].end, word.end - waiting[0].start
            if pause >= _PAUSE or length > _LONGEST or characters > _CHARACTERS:
                yield _segment(waiting)
                waiting = []
        waiting.append(word)
    if waiting:
        yield _segment(waiting)


def _segment(words: list[Word]) -> Segment:
    text = " ".join(word.text for word in words)
    return Segment(text, words[0].start, words[-1].end, tuple(words))
