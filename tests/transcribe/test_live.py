"""Speech while it is spoken: the lines of a stream, and raw samples that are none."""

import io

import numpy as np
import pytest

from audio_lottery.errors import AudioError, ModelError
from audio_lottery.models.base import Hypothesis
from audio_lottery.transcribe import Recogniser
from audio_lottery.transcribe.live import lines, read_pcm
from tests.models.test_transducer import STREAMED, WHOLE


def spell(labels):
    return "".join(" abcdefgh"[label] for label in labels)


def said(labels, times):
    return Hypothesis(spell(labels), 0, 0, 0, tuple(labels), tuple(times))


def test_lines_grow_and_end_at_a_pause():
    clock = iter([0.5, 1.0, 1.5, 2.2, 3.0, 4.0, 4.5])
    stream = [([], []), ([1], [0.9]), ([1, 2], [0.9, 1.1]), ([1, 2], [0.9, 1.1]), ([1, 2], [0.9, 1.1])]
    stream += [([1, 2, 0, 3], [0.9, 1.1, 3.9, 3.9])] * 2
    now = 0.0

    def hypotheses():
        nonlocal now
        for labels, times in stream:
            now = next(clock)
            yield said(labels, times)

    found = [(line.text, line.final, line.start, line.end) for line in lines(hypotheses(), lambda: now, spell)]
    assert found == [
        ("a", False, 0.9, 0.9),
        ("ab", False, 0.9, 1.1),
        ("ab", True, 0.9, 1.1),
        ("c", False, 3.9, 3.9),
        ("c", True, 3.9, 3.9),
    ]


@pytest.mark.parametrize("size", [333, 3_200, 60_000])
def test_final_lines_are_the_text_of_the_whole(size):
    """Read in pieces of any number of bytes, odd ones too."""
    pcm = (np.clip(WHOLE, -1, 1) * 32767).astype("<i2").tobytes()
    source = io.BytesIO(pcm)
    recogniser = Recogniser(STREAMED)
    found = list(recogniser.live(lambda count: source.read(min(size, count))))
    *_, whole = STREAMED.stream(list(read_pcm(io.BytesIO(pcm).read)))
    assert len(whole.labels) > 5
    final = [line.text for line in found if line.final]
    assert "".join(final).replace(" ", "") == whole.text.replace(" ", "")
    assert found[-1].final


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"RIFF\x00\x00\x00\x00WAVE", "standard input is a WAV file and not raw samples; name the file instead"),
        (b"fLaC\x00\x00", "is a FLAC file"),
        (b"\x00\x00\x00", "standard input ends within a sample: it must be 16-bit mono PCM at 16 kHz"),
    ],
)
def test_what_is_no_raw_audio(data, message):
    with pytest.raises(AudioError, match=message):
        list(read_pcm(io.BytesIO(data).read))


def test_what_was_said_before_a_fault_is_final():
    def hypotheses():
        yield said([1], [0.1])
        raise AudioError("broken")

    found = lines(hypotheses(), lambda: 1.0, spell)
    assert [(line.text, line.final) for line in (next(found), next(found))] == [("a", False), ("a", True)]
    with pytest.raises(AudioError, match="broken"):
        next(found)


def test_a_model_of_both_directions_is_refused_before_anything_is_read():
    recogniser = Recogniser(STREAMED)
    STREAMED.module.config.bidirectional = True
    try:
        with pytest.raises(ModelError, match="reads utterances from both ends and cannot stream"):
            next(recogniser.live(lambda count: pytest.fail("read")))
    finally:
        STREAMED.module.config.bidirectional = False
