"""Long recordings: every sample is in a window, cuts lie in pauses, and joined words are those that were said."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from audio_lottery.data.audio import SAMPLE_RATE
from audio_lottery.errors import ConfigError
from audio_lottery.models.words import Word
from audio_lottery.transcribe.windows import Window, Windowing, cut, join

WINDOWING = Windowing()


def noise(seconds: float, level: float, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng([seed, round(1000 * seconds)])
    return rng.normal(0, level, round(seconds * SAMPLE_RATE)).astype(np.float32)


def speech(seconds: float, seed: int = 0) -> np.ndarray:
    """Syllables: noise that swells four times a second, without a pause."""
    samples = noise(seconds, 0.1, seed)
    return samples * np.abs(np.sin(4 * np.pi * np.arange(len(samples)) / SAMPLE_RATE)).astype(np.float32)


def blocks(samples: np.ndarray, size: int = 7_001) -> list[np.ndarray]:
    return np.split(samples, range(size, len(samples), size))


@settings(max_examples=25, deadline=None)
@given(
    parts=st.lists(st.tuples(st.booleans(), st.floats(0.1, 9)), max_size=8),
    share=st.booleans(),
    size=st.integers(500, 40_000),
)
def test_windows_hold_every_sample_that_is_not_silent(parts, share, size):
    samples = np.concatenate(
        [np.zeros(0, np.float32), *(speech(s, i) if loud else noise(s, 0) for i, (loud, s) in enumerate(parts))]
    )
    found = list(cut(blocks(samples, size), WINDOWING, share=share))
    seen = np.zeros(len(samples), int)
    for window in found:
        begin = round(window.start * SAMPLE_RATE)
        np.testing.assert_array_equal(window.samples, samples[begin : begin + len(window.samples)])
        seen[begin : begin + len(window.samples)] += 1
        assert len(window.samples) <= 20 * SAMPLE_RATE
    assert (seen[samples != 0] >= 1).all()
    assert share or seen.max(initial=0) <= 1
    for before, after in pairwise(found):
        assert after.start > before.start
        assert after.start >= before.end - 4 - 1e-9


@pytest.mark.parametrize("level", [0.0, 1e-4, 0.01])
def test_cuts_lie_in_the_pauses(level):
    """In rooms without and with noise, 20 dB below the speech."""
    pauses = [8.0, 17.0, 26.0, 31.0]
    samples = speech(40)
    for at in pauses:
        samples[round(at * SAMPLE_RATE) : round((at + 0.4) * SAMPLE_RATE)] = 0
    samples += noise(40, level)
    found = list(cut(blocks(samples), WINDOWING))
    for before, after in pairwise(found):
        assert after.start == pytest.approx(before.end)
        assert any(at < after.start < at + 0.4 for at in pauses), after.start
    assert len(found) > 2


def test_without_a_pause_windows_share_speech():
    found = list(cut(blocks(speech(50)), WINDOWING))
    assert [(window.start, window.end) for window in found] == [(0, 20), (16, 36), (32, 50)]
    found = list(cut(blocks(speech(50)), WINDOWING, share=False))
    assert [(window.start, window.end) for window in found] == [(0, 20), (20, 40), (40, 50)]


def test_silence():
    assert list(cut(blocks(np.zeros(60 * SAMPLE_RATE, np.float32)), WINDOWING)) == []
    assert list(cut([], WINDOWING)) == []
    late = np.concatenate([np.zeros(60 * SAMPLE_RATE, np.float32), speech(3)])
    [window] = cut(blocks(late), WINDOWING)
    assert (window.start, window.end) == (60, 63)
    assert len(list(cut(blocks(noise(30, 0.1)), WINDOWING))) == 2, "noise that never pauses"
    long = np.concatenate([speech(7), np.zeros(40 * SAMPLE_RATE, np.float32), speech(7)])
    assert [(round(one.start, 1), round(one.end, 1)) for one in cut(blocks(long), WINDOWING)] == [(0, 7.2), (46.8, 54)]


def test_impossible_windows():
    with pytest.raises(ConfigError, match="windows of 5 to 3 s cannot be cut with an overlap of 4 s"):
        Windowing(longest=3)


VOCABULARY = st.sampled_from(["no", "yes", "one", "two"])


@st.composite
def conversations(draw):
    """What was said, and what two windows heard of it: each word within 30 ms, and halves at their edges."""
    said, time = [], 0.0
    for _ in range(draw(st.integers(0, 40))):
        time += draw(st.sampled_from([0.0, 0.0, 0.05, 0.1, 0.3, 2.0, 5.0]))
        length = draw(st.floats(0.15, 1.0))
        said.append(Word(draw(VOCABULARY), time, time + length))
        time += length
    end = draw(st.floats(0.0, max(time, 1.0)))
    begin = end - draw(st.floats(1.2, 5.0))

    def heard(word: Word) -> Word:
        early, late = (draw(st.floats(-0.03, 0.03)) for _ in range(2))
        return Word(word.text, word.start + early, word.end + late)

    left = [heard(word) for word in said if word.end <= end]
    right = [heard(word) for word in said if word.start >= begin]
    for word in said:
        if word.start < end < word.end and end - word.start > 0.1 and draw(st.booleans()):
            left.append(Word(draw(VOCABULARY), word.start, end))
        if word.start < begin < word.end and word.end - begin > 0.1 and draw(st.booleans()):
            right.insert(0, Word(draw(VOCABULARY), begin, word.end))
    return said, left, right, begin, end


@settings(max_examples=200, deadline=None)
@given(conversations())
def test_no_word_is_lost_and_none_doubled(conversation):
    said, left, right, begin, end = conversation
    assert [word.text for word in join(left, right, begin, end)] == [word.text for word in said]


def test_words_that_only_one_window_has_whole():
    """The same word twice, each at an edge of what the windows share: a seam at that edge would lose or double one."""
    first, second = Word("no", 0.0, 1.0), Word("no", 1.0, 2.0)
    for early, late in ((0.004, 1.2), (0.004, 1.996), (0.8, 1.996)):
        assert [word.text for word in join([Word("no", 0.0, 1.016)], [second], early, late)] == ["no", "no"]
        assert [word.text for word in join([first], [Word("no", 0.984, 2.0)], early, late)] == ["no", "no"]


@pytest.mark.parametrize(
    ("left", "right", "expected"),
    [
        ([], [], []),
        ([("a", 0, 1)], [("b", 9, 10)], "a b"),
        ([("a", 0, 1), ("b", 6, 6.4)], [("b", 6.1, 6.4), ("c", 7, 8)], "a b c"),
        # heard in two ways: once
        ([("a", 0, 1), ("bee", 6, 6.4)], [("be", 6.05, 6.4), ("c", 9, 10)], "a bee c"),
        ([("a", 0, 1), ("foot", 6, 6.4), ("ball", 6.4, 6.9)], [("football", 6, 6.9)], "a foot ball"),
        # the end of the left window turned the last word into another
        ([("a", 5.5, 6), ("bar", 7.6, 8)], [("a", 5.5, 6), ("barn", 7.6, 8.2), ("c", 9, 10)], "a barn c"),
        # three times the same
        (
            [("no", 5.3, 5.5), ("no", 6, 6.2), ("no", 6.7, 6.9)],
            [("no", 6, 6.2), ("no", 6.7, 6.9), ("no", 8, 9)],
            "no no no no",
        ),
    ],
)
def test_joined_words(left, right, expected):
    """Windows that share 5 to 8 s."""
    found = join([Word(*word) for word in left], [Word(*word) for word in right], 5.0, 8.0)
    assert " ".join(word.text for word in found) == (expected or "")


def test_windows_that_share_nothing_are_put_together():
    assert join([Word("a", 0, 1)], [Word("a", 1, 2)], 1.0, 1.0) == [Word("a", 0, 1), Word("a", 1, 2)]
    assert Window(2.0, np.zeros(16_000, np.float32)).end == 3.0
