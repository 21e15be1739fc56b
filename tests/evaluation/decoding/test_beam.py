"""Beam search against sums over all alignments and back-off by definition, each literally."""

import math
import threading
from collections import defaultdict

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("flashlight.lib.text")

from audio_lottery.config import DecoderConfig
from audio_lottery.errors import ModelError
from audio_lottery.evaluation.decoding import GreedyDecoder, load_search, make_decoder
from audio_lottery.models.base import Emission
from tests.evaluation.decoding.conftest import CHARACTERS, arpa, label_probabilities, lm_score, random_logits

WIDE = {"kind": "beam", "beam_size": 5000, "beam_threshold": 1000.0, "nbest": 5000}


@pytest.fixture(scope="module")
def lm_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("lm") / "lm.arpa"
    path.write_text(arpa())
    return path


def log_softmax(logits: torch.Tensor) -> np.ndarray:
    return torch.log_softmax(logits, -1)[0].double().numpy()


@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 10_000), frames=st.integers(0, 4))
def test_prefix_search_gives_the_sum_over_all_alignments(backbone, seed, frames):
    logits = random_logits(seed, frames)
    search = load_search(DecoderConfig(**WIDE), backbone, None)
    best = search.decode(torch.log_softmax(logits, -1)[0].numpy())[0]
    truth = label_probabilities(log_softmax(logits))
    labels, probability = max(truth.items(), key=lambda item: item[1])
    assert best.acoustic == pytest.approx(math.log(probability), abs=1e-4)
    assert best.text == backbone.processor.tokenizer.decode(labels, group_tokens=False)
    # and so never less than the whole of what the greedy path belongs to
    [[greedy]] = GreedyDecoder(backbone)(Emission(logits, [frames]))
    assert best.acoustic >= greedy.acoustic - 1e-4


def texts_with_lexicon(log_probs: np.ndarray, words: set[str]) -> dict[str, float]:
    """Probability of every text of these words: delimiters at the ends and repeated ones change nothing."""
    characters = dict(enumerate(["", "?", " ", *CHARACTERS]))
    texts: dict[str, float] = defaultdict(float)
    for labels, probability in label_probabilities(log_probs).items():
        text = " ".join("".join(characters[label] for label in labels).split())
        if set(text.split()) <= words:
            texts[text] += probability
    return dict(texts)


@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 10_000), frames=st.integers(0, 5), weight=st.floats(0, 3), bonus=st.floats(-2, 2))
def test_lexicon_and_lm_give_the_literal_score(backbone, lm_file, seed, frames, weight, bonus):
    logits = random_logits(seed, frames)
    config = DecoderConfig(**WIDE, lm=str(lm_file), lm_weight=weight, word_score=bonus)
    found = load_search(config, backbone, lm_file.parent).decode(torch.log_softmax(logits, -1)[0].numpy())
    truth = texts_with_lexicon(log_softmax(logits), {"a", "ab", "cab"})
    assert {hypothesis.text for hypothesis in found} == set(truth)
    for hypothesis in found:
        words = hypothesis.text.split()
        assert hypothesis.lm == pytest.approx(lm_score(words), abs=1e-4)
        assert hypothesis.acoustic == pytest.approx(math.log(truth[hypothesis.text]), abs=1e-3)
        expected = hypothesis.acoustic + weight * hypothesis.lm + bonus * len(words)
        assert hypothesis.score == pytest.approx(expected, abs=1e-3)
    scores = [hypothesis.score for hypothesis in found]
    assert scores == sorted(scores, reverse=True)


def test_the_last_word_needs_no_delimiter_behind_it(backbone, lm):
    path = [5, 3, 4, 0]  # c a b
    logits = 10.0 * torch.nn.functional.one_hot(torch.tensor([path]), 6).float()
    decode = make_decoder(DecoderConfig(kind="beam", lm=lm.name), backbone, lm.parent, processes=0)
    assert decode(Emission(logits, [4]))[0][0].text == "cab"


def test_an_utterance_cut_within_a_word_loses_that_word_only(backbone, lm):
    path = [3, 2, 5, 5]  # a | c
    logits = 40.0 * torch.nn.functional.one_hot(torch.tensor([path]), 6).float()
    decode = make_decoder(DecoderConfig(kind="beam", lm=lm.name), backbone, lm.parent, processes=0)
    assert decode(Emission(logits, [4]))[0][0].text == "a"


def test_the_language_model_decides_between_words_that_sound_alike(backbone, lm):
    logits = torch.zeros(1, 3, 6)
    logits[0, 0, 3] = logits[0, 1, 4] = 6.0
    logits[0, 2, [0, 4]] = 5.0
    logits[0, 0, 5] = 5.9  # "cb" is nearly as likely as "ab", and no word
    spell = make_decoder(DecoderConfig(kind="beam"), backbone, lm.parent, processes=0)
    words = make_decoder(DecoderConfig(kind="beam", lm=lm.name, nbest=3), backbone, lm.parent, processes=0)
    assert spell(Emission(logits, [3]))[0][0].text == "ab"
    found = words(Emission(logits, [3]))[0]
    assert found[0].text == "ab"
    assert 1 < len(found) <= 3
    assert len({hypothesis.text for hypothesis in found}) == len(found)


def test_padding_is_not_read_and_processes_change_nothing(backbone, lm):
    logits = random_logits(3, 30, batch=5)
    frames = [30, 21, 0, 7, 30]
    garbage = logits.clone()
    for row, count in enumerate(frames):
        garbage[row, count:] = 1e4
    config = DecoderConfig(kind="beam", lm=lm.name, nbest=4)
    here = make_decoder(config, backbone, lm.parent, processes=0)
    there = make_decoder(config, backbone, lm.parent, processes=2)
    expected = here(Emission(logits, frames))
    assert expected[2][0].text == ""
    assert here(Emission(garbage, frames)) == expected
    found = []
    thread = threading.Thread(target=lambda: found.extend(there(Emission(garbage, frames))))
    thread.start()
    thread.join()
    assert found == expected
    there.close()


def test_the_name_holds_what_decides_the_output(backbone, lm):
    config = DecoderConfig(kind="beam", lm=lm.name, lm_weight=1.5, word_score=-0.5, beam_size=7)
    name = make_decoder(config, backbone, lm.parent, processes=0).name
    assert "lm=lm.arpa sha256:" in name
    assert "lm_weight=1.5, word_score=-0.5, beam_size=7, beam_size_token=all, beam_threshold=25" in name
    assert make_decoder(DecoderConfig(), backbone, lm.parent).name == "greedy"


def test_nan_is_refused(backbone, lm):
    logits = random_logits(0, 4)
    logits[0, 1, 2] = float("nan")
    decode = make_decoder(DecoderConfig(kind="beam"), backbone, lm.parent, processes=0)
    with pytest.raises(ModelError, match="not a number for 1 of 1"):
        decode(Emission(logits, [4]))
    assert decode(Emission(logits, [1]))


@pytest.mark.parametrize("processes", [0, 1])
@pytest.mark.parametrize("with_lm", [False, True])
def test_no_frames_are_an_empty_hypothesis(backbone, lm, with_lm, processes):
    config = DecoderConfig(kind="beam", lm=str(lm) if with_lm else None)
    decoder = make_decoder(config, backbone, lm.parent, processes=processes)
    for logits, frames in ((torch.zeros(2, 0, 6), [0, 0]), (torch.full((2, 3, 6), float("nan")), [0, 0])):
        assert [[hypothesis.text for hypothesis in found] for found in decoder(Emission(logits, frames))] == [
            [""],
            [""],
        ]
