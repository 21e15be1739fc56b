"""Speech while it is spoken: raw samples in, lines out that grow until somebody pauses."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from audio_lottery.data.audio import SAMPLE_RATE
from audio_lottery.errors import AudioError
from audio_lottery.models.base import Hypothesis

# Samples that are asked for at a time: a tenth of a second.
_CHUNK = SAMPLE_RATE // 10
# A line ends when nothing was written for so many seconds.
_PAUSE = 1.0

_CONTAINERS = {b"RIFF": "WAV", b"fLaC": "FLAC", b"OggS": "Ogg", b"NIST": "SPHERE", b"ID3\x03": "MP3", b"ID3\x04": "MP3"}


@dataclass(frozen=True, slots=True)
class Line:
    """What was said since the line before.

    Attributes:
        text: so far.
        final: whether that is all of it; the next line begins behind it.
        start: seconds from the start at which its first label was written.
        end: those at which its last was.
    """

    text: str
    final: bool
    start: float
    end: float


def read_pcm(read: Callable[[int], bytes]) -> Iterator[np.ndarray]:
    """Chunks of 16 kHz mono speech in 16 bits, little-endian, without a header.

    Args:
        read: gives up to so many bytes as soon as there are some, and none at the end.

    Raises:
        AudioError: it begins like a file with a header, or ends within a sample.
    """
    rest, first = b"", True
    while data := read(2 * _CHUNK):
        data = rest + data
        if first and len(data) >= 4:
            kind = _CONTAINERS.get(data[:4])
            if kind is not None:
                raise AudioError(
                    f"standard input is a {kind} file and not raw samples; name the file instead of --stream, or pipe "
                    "it through `ffmpeg -i - -f s16le -ac 1 -ar 16000 -`"
                )
            first = False
        whole = len(data) // 2 * 2
        data, rest = data[:whole], data[whole:]
        if data:
            yield np.frombuffer(data, "<i2").astype(np.float32) / 32768
    if rest:
        raise AudioError("standard input ends within a sample: it must be 16-bit mono PCM at 16 kHz")


def lines(
    hypotheses: Iterable[Hypothesis], seconds: Callable[[], float], spell: Callable[[Sequence[int]], str]
) -> Iterator[Line]:
    """The lines of a stream: each again whenever it grows, and once when it is final.

    The final lines are the text of the last hypothesis, with a line's end at every long pause.

    Args:
        hypotheses: what a stream gives, with labels and times.
        seconds: how much audio has come in.
        spell: labels → text.

    Raises:
        AudioError: of what came in; what was said before it is made final first.
    """
    done = shown = 0  # labels that are in final lines, and in any line
    last, fault = None, None

    def line(hypothesis: Hypothesis, final: bool) -> Iterator[Line]:
        text, times = spell(hypothesis.labels[done:]).strip(), hypothesis.times[done:]
        if text:
            yield Line(text, final, times[0], times[-1])

    try:
        for last in hypotheses:
            if len(last.labels) > shown:
                shown = len(last.labels)
                yield from line(last, False)
            elif shown > done and seconds() - last.times[-1] >= _PAUSE:
                yield from line(last, True)
                done = shown
    except AudioError as error:
        fault = error
    if last is not None and shown > done:
        yield from line(last, True)
    if fault is not None:
        raise fault
