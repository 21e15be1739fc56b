"""Recordings of any length: cut into windows that a recogniser can take, and their words joined again.

Windows end in the middle of a pause where there is one. Where nobody pauses they share some seconds of speech, and
`join` finds the place where one window's words give way to the next one's.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from audio_lottery.data.audio import SAMPLE_RATE
from audio_lottery.data.levels import active_power, is_silent
from audio_lottery.errors import ConfigError
from audio_lottery.models.words import Word

# Samples whose power is looked at together, and how many of these are smoothed: a closed mouth before a p is no pause.
_FRAME, _SMOOTHED = SAMPLE_RATE // 50, 5
# A pause lies no further up from the quietest moment to the speech than this share of the dB between them. The quietest
# counts as no more than so many dB below the speech: recordings may hold digital silence.
_SHARE, _DEEPEST = 0.35, 40.0
# Speech that stands out less than this has no pauses that could be told from it, in dB.
_LEAST = 9.0
# Digital silence at the ends of a window that it keeps, in seconds.
_KEPT = 0.25

# Seconds that one word may lie apart in two windows.
_APART = 0.2
# Words that come so near to the edge of their window may be halves, in seconds.
_EDGE = 0.1


@dataclass(frozen=True)
class Windowing:
    """How long recordings are cut.

    Attributes:
        longest: seconds of a window at most; what is no longer is not cut.
        sentence: seconds of silence that end a window wherever they are, but for its first second.
        shortest: seconds behind which the longest of shorter pauses ends a window.
        pause: seconds of silence that are one.
        overlap: seconds that two windows share where nobody pauses.
    """

    longest: float = 20.0
    sentence: float = 0.3
    shortest: float = 5.0
    pause: float = 0.25
    overlap: float = 4.0

    def __post_init__(self) -> None:
        if not (0 < self.overlap < self.shortest <= self.longest and 0 < self.pause <= self.sentence):
            raise ConfigError(
                f"windows of {self.shortest:g} to {self.longest:g} s cannot be cut with an overlap of {self.overlap:g} "
                "s: overlap < shortest <= longest, and all above 0"
            )

    @classmethod
    def up_to(cls, seconds: float) -> "Windowing":
        """Windows of at most so many seconds, the rest in proportion."""
        pause = min(cls.pause, seconds / 8)
        return cls(seconds, max(pause, cls.sentence), seconds / 4, pause, min(cls.overlap, seconds / 5))

    @classmethod
    def long(cls, seconds: float) -> "Windowing":
        """Windows of at most so many seconds, with several sentences: each ends at its longest pause."""
        return replace(cls.up_to(seconds), sentence=seconds)


@dataclass(frozen=True)
class Window:
    """A piece of a recording.

    Attributes:
        start: seconds from the start of the recording.
        samples: at `SAMPLE_RATE`.
    """

    start: float
    samples: np.ndarray

    @property
    def end(self) -> float:
        """Seconds from the start of the recording at which it ends."""
        return self.start + len(self.samples) / SAMPLE_RATE


def cut(blocks: Iterable[np.ndarray], windowing: Windowing, *, share: bool = True) -> Iterator[Window]:
    """The windows of a recording; digital silence is in none of them.

    Args:
        blocks: mono samples at `SAMPLE_RATE`, of any lengths.
        windowing: how they are cut.
        share: whether windows may overlap: their words must have times then. Without, a window begins where the one
            before ended, and a word is cut in two where nobody pauses.
    """
    longest = round(windowing.longest * SAMPLE_RATE)
    waiting, begin = np.zeros(0, np.float32), 0
    for block in blocks:
        waiting = np.concatenate([waiting, block])
        while len(waiting) > longest:
            at = 0
            for end, after in _places(waiting[:longest], windowing, share):
                yield from _trimmed(waiting[at:end], begin + at)
                at = after
            waiting, begin = waiting[at:], begin + at
    at = 0
    # what is left of a long recording ends sentences as the rest did; a short one goes through whole
    for middle in _sentences(_pauses(waiting, windowing.pause), windowing) if begin else ():
        yield from _trimmed(waiting[at:middle], begin + at)
        at = middle
    yield from _trimmed(waiting[at:], begin + at)


def _trimmed(samples: np.ndarray, begin: int) -> Iterator[Window]:
    """The window, less digital silence at its ends that is longer than what windows keep of it; none of silence alone.

    Recognisers scale what they hear to its own mean and spread, and long zeros would make all the rest loud.
    """
    frames = -(-len(samples) // _FRAME)
    heard = [index for index in range(frames) if not is_silent(samples[index * _FRAME : (index + 1) * _FRAME])]
    if heard:
        kept = round(_KEPT * SAMPLE_RATE)
        first, last = max(0, heard[0] * _FRAME - kept), (heard[-1] + 1) * _FRAME + kept
        yield Window(
            (begin + first) / SAMPLE_RATE, samples[first:last].copy()
        )  # a view would keep all of the recording's last seconds


def _places(samples: np.ndarray, windowing: Windowing, share: bool) -> list[tuple[int, int]]:
    """Where windows end and where the next ones begin, in samples from the start of the first; at least one."""
    if is_silent(samples):
        return [(len(samples), len(samples))]
    pauses = _pauses(samples, windowing.pause)
    sentences = _sentences([pause for pause in pauses if pause.end < len(samples) - _FRAME], windowing)
    if sentences:
        return [(middle, middle) for middle in sentences]
    late = [pause for pause in pauses if pause.end > windowing.shortest * SAMPLE_RATE]
    if late:
        middle = max(late, key=lambda one: one.length).middle
        return [(middle, middle)]
    return [(len(samples), len(samples) - (round(windowing.overlap * SAMPLE_RATE) if share else 0))]


@dataclass(frozen=True, slots=True)
class _Pause:
    """Silence, in samples."""

    begin: int
    end: int

    @property
    def length(self) -> int:
        return self.end - self.begin

    @property
    def middle(self) -> int:
        return (self.begin + self.end) // 2


def _sentences(pauses: Sequence[_Pause], windowing: Windowing) -> list[int]:
    """The middles of the pauses between sentences; none before a second of speech."""
    middles: list[int] = []
    for pause in pauses:
        spoken = pause.begin - (middles[-1] if middles else 0)
        if spoken >= SAMPLE_RATE and pause.length >= windowing.sentence * SAMPLE_RATE:
            middles.append(pause.middle)
    return middles


def _pauses(samples: np.ndarray, least: float) -> list[_Pause]:
    """The pauses of a piece of speech that last for ``least`` seconds, in order.

    A pause is where the power, smoothed over 0.1 s, is nearer to that of the quietest moment than to the active speech
    level (ITU-T P.56), in dB: noise in the background moves both ends of that scale.
    """
    frames = len(samples) // _FRAME
    moment = max(_SMOOTHED, round(least * SAMPLE_RATE / _FRAME))
    if frames < moment or is_silent(samples):
        return []
    power = np.square(samples[: frames * _FRAME].reshape(frames, _FRAME), dtype=np.float64).mean(axis=1)
    speech = 10 * np.log10(active_power(samples))
    level, longer = (
        np.maximum(10 * np.log10(np.maximum(_smooth(power, width), 1e-12)), speech - _DEEPEST)
        for width in (_SMOOTHED, moment)
    )
    floor = float(longer.min())
    if speech - floor < _LEAST:
        return []
    quiet = np.r_[False, level < floor + _SHARE * (speech - floor), False]
    edges = np.flatnonzero(quiet[1:] != quiet[:-1]).reshape(-1, 2) * _FRAME
    found = [_Pause(int(begin), int(end)) for begin, end in edges]
    return [one for one in found if one.length >= least * SAMPLE_RATE]


def _smooth(power: np.ndarray, width: int) -> np.ndarray:
    padded = np.pad(power, (width // 2, (width - 1) // 2), mode="edge")
    return np.convolve(padded, np.full(width, 1 / width), mode="valid")


def join(left: Sequence[Word], right: Sequence[Word], begin: float, end: float) -> list[Word]:
    """The words of two windows as one: those of both count once, and none is left out.

    The left window's words go on up to a word that both have at the same time, of several the one nearest to the middle
    of what they share; behind it the right window's follow. Where they agree on no word, one gives way to the other at
    a time that lies within no word. Words at the edge of their window decide nothing: they may be halves.

    Args:
        left: words of the earlier window, in order, with times in the recording.
        right: those of the later one.
        begin: where the later window begins, in seconds.
        end: where the earlier one ends.
    """
    if begin >= end:
        return [*left, *right]
    middle = (begin + end) / 2
    ours = [index for index, word in enumerate(left) if word.end > begin - _EDGE and word.end < end - _EDGE]
    theirs = [index for index, word in enumerate(right) if word.start < end + _EDGE and word.start > begin + _EDGE]
    pairs = [(ours[i], theirs[j]) for i, j in _matched([left[i] for i in ours], [right[j] for j in theirs])]
    if pairs:
        i, j = min(pairs, key=lambda pair: abs(_middle(left[pair[0]]) - middle))
        return [*left[: i + 1], *right[j + 1 :]]
    # what begins at the later window's edge may be whole in the earlier one alone, and no seam may lie left of it; the
    # other way round at the end
    shared = [(-np.inf if word.start < begin + _EDGE else word.start, word.end) for word in left if word.end > begin]
    shared += [(word.start, np.inf if word.end > end - _EDGE else word.end) for word in right if word.start < end]
    seam = _seam(shared, begin, end)
    return [word for word in left if _middle(word) < seam] + [word for word in right if _middle(word) >= seam]


def _matched(left: Sequence[Word], right: Sequence[Word]) -> list[tuple[int, int]]:
    """The pairs of equal words that lie nearest together, none crossing another."""
    best = np.zeros((len(left) + 1, len(right) + 1))
    gains = np.array([[_alike(one, other) for other in right] for one in left]).reshape(len(left), len(right))
    for i in range(len(left)):
        for j in range(len(right)):
            best[i + 1, j + 1] = max(best[i, j + 1], best[i + 1, j], best[i, j] + gains[i, j])
    pairs, i, j = [], len(left), len(right)
    while i and j:
        if gains[i - 1, j - 1] > 0 and best[i, j] == best[i - 1, j - 1] + gains[i - 1, j - 1]:
            i, j = i - 1, j - 1
            pairs.append((i, j))
        elif best[i, j] == best[i - 1, j]:
            i -= 1
        else:
            j -= 1
    return pairs[::-1]


def _alike(one: Word, other: Word) -> float:
    """1 for the same word at the same time, 0 for others."""
    apart = abs(_middle(one) - _middle(other)) / _APART
    return max(0.0, 1.0 - apart**2) if one.text == other.text else 0.0


def _seam(spans: Sequence[tuple[float, float]], begin: float, end: float) -> float:
    """The time that lies least deep within a word, and of several the one nearest to the middle.

    Args:
        spans: when the words begin and end.
        begin: the earliest time.
        end: the latest.
    """
    middle = (begin + end) / 2
    edges = sorted({min(max(edge, begin), end) for span in spans for edge in span} | {begin, end})
    between = [(one + other) / 2 for one, other in pairwise(edges)]

    def cost(time: float) -> tuple[float, float]:
        depth = max((min(time - first, last - time) for first, last in spans), default=0.0)
        return max(0.0, depth), abs(time - middle)

    return min([middle, *edges, *between], key=cost)


def _middle(word: Word) -> float:
    return (word.start + word.end) / 2
