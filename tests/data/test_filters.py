"""What is trained on: every utterance that is not is counted under its reason."""

import pytest

from audio_lottery.config import DataConfig
from audio_lottery.data.filters import prepare_training
from audio_lottery.data.manifest import Utterance, build_manifest
from audio_lottery.errors import CorpusError, TextError
from audio_lottery.models.characters import DEFAULT_CHARACTERS, CharacterVocabulary, build_processor, min_frames

VOCABULARY = CharacterVocabulary.from_processor(build_processor(DEFAULT_CHARACTERS))


def manifest(*rows: tuple[str, float]):
    utterances = [
        Utterance(f"u{i}", "a.flac", 1.0, 1.0 + seconds, text, "s", seconds, "c")
        for i, (text, seconds) in enumerate(rows)
    ]
    return build_manifest(utterances, "c")


def can_align(labels, samples: int) -> bool:
    """Of a CTC model with a frame every 20 ms."""
    return min_frames(labels) <= samples // 320


def test_reasons_are_counted():
    rows = manifest(("Hello, world!", 2.0), ("", 2.0), ("hi", 0.05), ("hi", 30.0), ("h4i", 2.0), ("aaaa", 0.12))
    data = prepare_training(rows, VOCABULARY, can_align, DataConfig(out_of_vocabulary="drop"))
    assert data.manifest["id"][:] == ["u0"]
    assert data.seconds == 2.0
    assert len(data.encode("Hello world")) == len("hello world")
    assert data.dropped == {
        "empty transcript": 1,
        "shorter than 0.1 s": 1,
        "longer than 20 s": 1,
        "characters outside the vocabulary": 1,
        "more labels than fit": 1,
    }


@pytest.mark.parametrize(("seconds", "kept"), [(7 * 0.02, 1), (7 * 0.02 - 0.001, 0)])
def test_repeated_labels_need_a_blank_between_them(seconds, kept):
    """'aaaa' is four labels and three blanks: seven frames of 20 ms."""
    rows = manifest(("aaaa", seconds), ("a", 1.0))
    assert len(prepare_training(rows, VOCABULARY, can_align, DataConfig()).manifest) == 1 + kept


@pytest.mark.parametrize("seconds", [0.005, 1 / 16_000])
def test_what_is_too_short_for_a_frame_is_dropped_and_counted(seconds):
    data = prepare_training(manifest(("a", seconds), ("a", 1.0)), VOCABULARY, can_align, DataConfig(min_seconds=0))
    assert (len(data.manifest), data.dropped) == (1, {"more labels than fit": 1})


def test_the_default_policy_lists_unknown_characters():
    with pytest.raises(TextError, match=r"(?s)'4'.*u1|4.*u1"):
        prepare_training(manifest(("fine", 1.0), ("h4i", 1.0)), VOCABULARY, can_align, DataConfig())


def test_nothing_left_says_why():
    with pytest.raises(CorpusError, match=r"no speech is left to train on after filtering: 2 empty transcript"):
        prepare_training(manifest(("", 1.0), ("...", 1.0)), VOCABULARY, can_align, DataConfig())
