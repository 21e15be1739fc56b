"""When words were said: from labels and frames, against transformers' own word offsets."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from audio_lottery.config import DecoderConfig, ModelConfig
from audio_lottery.errors import ModelError
from audio_lottery.evaluation.decoding import load_search
from audio_lottery.models.base import Emission
from audio_lottery.models.load import load_backbone
from audio_lottery.models.words import Word, merge_repeats, words
from tests.conftest import TINY_MODEL
from tests.lottery.test_backbones import TINY

FRAMES = {
    "w2v2": (ModelConfig("w2v2-mini", overrides=TINY_MODEL), None),
    "conformer": (TINY["conformer"], 0.04),
    "cnn_lstm": (TINY["cnn_lstm"], 0.02),
    "transducer": (TINY["transducer"], 0.06),
    "parakeet_transducer": (TINY["parakeet_transducer"], 0.08),
}


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        ([1, 2, 0, 3], [Word("ab", 0, 2), Word("c", 3, 4)]),
        ([0, 1, 0, 0, 2, 0], [Word("a", 1, 2), Word("b", 4, 5)]),
        ([4, 4, 1, 0], [Word("xyxya", 0, 3)]),
        ([5, 5], [Word("a", 0, 1), Word("a", 1, 2)]),
        ([0, 0], []),
        ([], []),
    ],
)
@pytest.mark.parametrize("strips", [False, True])
def test_words_of_labels(labels, expected, strips):
    """Of tokenizers that keep the blank at the end of a text, and of those that do not."""

    def spell(labels):
        text = "".join([" ", "a", "b", "c", "xy", " a"][label] for label in labels)
        return text.strip() if strips else text

    times = list(range(len(labels)))
    assert words(spell, labels, times, [time + 1 for time in times]) == expected


def test_repeats_are_merged():
    found = merge_repeats([0, 3, 3, 0, 3, 2, 2], 0, 0.5)
    assert (found.labels, found.starts, found.ends) == ((3, 3, 2), (0.5, 2.0, 2.5), (1.5, 2.5, 3.5))
    assert merge_repeats([0, 0], 0, 0.5).labels == ()


@pytest.fixture(scope="module")
def backbone():
    return load_backbone(FRAMES["w2v2"][0], 3)


@settings(max_examples=60, deadline=None)
@given(path=st.lists(st.sampled_from([0, 0, 2, 2, 3, 4, 5]), min_size=1, max_size=40))
@pytest.mark.filterwarnings("ignore::hypothesis.errors.HypothesisWarning")
def test_times_are_transformers_offsets(backbone, path):
    logits = 10.0 * torch.nn.functional.one_hot(torch.tensor(path), 30).float()
    [[found]] = backbone.search(Emission(logits[None], [len(path)]))
    theirs = backbone.processor.tokenizer.decode(path, output_word_offsets=True)
    step = backbone.frame_seconds
    expected = [(one["word"], one["start_offset"], one["end_offset"]) for one in theirs.word_offsets]
    words = backbone.word_times(found)
    assert [(word.text, round(word.start / step), round(word.end / step)) for word in words] == expected
    assert [word.text for word in words] == found.text.split()


@pytest.mark.parametrize("family", FRAMES)
def test_a_frame_lasts_as_long_as_outputs_are_apart(family):
    """What comes a while later in the audio comes as much later in the outputs."""
    config, seconds = FRAMES[family]
    backbone = load_backbone(config, 1)
    step = backbone.frame_seconds
    assert seconds is None or step == pytest.approx(seconds)
    more = backbone.frames(torch.tensor([32_000, 32_000 + round(50 * step * 16_000)])).tolist()
    assert more[1] - more[0] == 50


@pytest.mark.parametrize("lexicon", [None, "ab\ta b |\nAB\ta a |\nc\tc |\n"])
def test_beam_search_has_the_times_of_its_words(backbone, lexicon, tmp_path):
    """A lexicon's words are those of the text, at the times of their letters."""
    ids = backbone.vocabulary.ids
    spelt = "ab" if lexicon is None else "aa"
    path = [0, ids[spelt[0]], 0, ids[spelt[1]], ids[" "], 0, ids["c"], ids["c"], 0, 0]
    logits = 20.0 * torch.nn.functional.one_hot(torch.tensor(path), 30).float()
    config = DecoderConfig("beam")
    if lexicon is not None:
        (tmp_path / "lexicon").write_text(lexicon)
        config = DecoderConfig("beam", lexicon="lexicon")
    [best] = load_search(config, backbone, tmp_path).decode(logits.log_softmax(-1).numpy())
    step = backbone.frame_seconds
    first, second = backbone.word_times(best)
    assert (first.text, second.text) == (("ab", "c") if lexicon is None else ("AB", "c"))
    assert (round(first.start / step), round(first.end / step)) == (1, 4)
    assert (round(second.start / step), round(second.end / step)) == (6, 8)


def test_what_reads_whole_utterances_does_not_stream(backbone):
    with pytest.raises(ModelError, match=r"^Wav2Vec2ForCTC reads whole utterances and cannot stream; transducers of"):
        backbone.stream([np.zeros(100, np.float32)])
