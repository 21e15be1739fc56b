"""Greedy decoding: best path, padding unread."""

import pytest
import torch

from audio_lottery.errors import ModelError
from audio_lottery.evaluation.decoding import GreedyDecoder
from audio_lottery.models.base import Emission


def one_hot(path: list[int], characters: int = 6) -> torch.Tensor:
    return 10.0 * torch.nn.functional.one_hot(torch.tensor(path), characters).float()


@pytest.mark.parametrize(
    ("path", "frames", "text"),
    [
        ([3, 3, 0, 3, 2, 4, 0], 7, "aa b"),
        ([0, 0, 0, 0, 0, 0, 0], 7, ""),
        ([3, 4, 5, 5, 5, 5, 5], 2, "ab"),  # frames behind the end are not read
        ([2, 3, 2, 2, 0, 0, 0], 7, "a"),
        ([3, 3, 3, 3, 3, 3, 3], 0, ""),
    ],
)
def test_best_path(backbone, path, frames, text):
    [[best]] = GreedyDecoder(backbone)(Emission(one_hot(path).unsqueeze(0), [frames]))
    assert best.text == text


def test_score_is_the_log_probability_of_the_best_path(backbone):
    logits = torch.randn(2, 5, 6, generator=torch.Generator().manual_seed(0))
    found = GreedyDecoder(backbone)(Emission(logits, [5, 3]))
    log_probs = torch.log_softmax(logits, -1)
    for row, (count, [best]) in enumerate(zip([5, 3], found, strict=True)):
        assert best.score == pytest.approx(sum(float(log_probs[row, t].max()) for t in range(count)), rel=1e-5)
        assert (best.acoustic, best.lm) == (best.score, 0.0)


def test_close_logits_are_no_tie(backbone):
    """In float32, log_softmax rounds these two to the same value."""
    logits = torch.tensor([[[0.0, 0.0, 0.0, 1e-3, 1e-3 * (1 + 1e-6), 0.0]]]) + torch.tensor([0.0] * 5 + [0.0])
    [[best]] = GreedyDecoder(backbone)(Emission(logits, [1]))
    assert best.text == "b"


def test_no_frames_are_an_empty_hypothesis(backbone):
    found = GreedyDecoder(backbone)(Emission(torch.zeros(2, 0, 6), [0, 0]))
    assert [(best.text, best.score) for [best] in found] == [("", 0.0), ("", 0.0)]


def test_outputs_that_are_no_numbers_are_refused(backbone):
    logits = torch.zeros(2, 3, 6)
    logits[1, 1] = float("nan")
    with pytest.raises(ModelError, match="not a number for 1 of 2 utterances"):
        GreedyDecoder(backbone)(Emission(logits, [3, 3]))
