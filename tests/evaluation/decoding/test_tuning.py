"""Weights are chosen by WER, ties go to the smaller ones, and the grid is what single searches give."""

import logging

import numpy as np
import pytest

pytest.importorskip("flashlight.lib.text")

from audio_lottery.config import DecoderConfig
from audio_lottery.evaluation.decoding import load_search
from audio_lottery.evaluation.decoding.tuning import (
    Point,
    References,
    _around,
    _warn_of_edges,
    best_point,
    keep_log_probs,
    tune,
)
from audio_lottery.evaluation.wer import score
from audio_lottery.report.tuning import format_grid
from tests.evaluation.decoding.conftest import random_logits

FRAMES = [12, 30, 1, 0, 25, 18, 9, 22, 30, 4, 7]


@pytest.fixture
def utterances() -> list[np.ndarray]:
    logits = random_logits(1, 30, batch=len(FRAMES)).log_softmax(-1).numpy()
    return [row[:count] for row, count in zip(logits, FRAMES, strict=True)]


def test_log_probs_are_kept_bit_for_bit_in_the_order_of_the_rows(utterances):
    shuffled = [(row, utterances[row]) for row in (3, 0, 10, 2, 1, 9, 8, 4, 5, 6, 7)]
    kept = keep_log_probs(iter(shuffled))
    assert all(np.array_equal(one, other) for one, other in zip(kept, utterances, strict=True))
    assert all(row.dtype == np.float32 and row.shape[1] == 6 for row in kept)
    assert keep_log_probs([]) == []


def test_every_point_is_the_wer_of_that_search(backbone, lm, utterances):
    search = load_search(DecoderConfig(kind="beam", lm=lm.name, nbest=3), backbone, lm.parent)
    texts = ["ab a", "cab", "a", "", "ab ab cab", "a cab", "ab", "cab cab", "a a a", "a", "ab"]
    references = References([f"u{row}" for row in range(len(texts))], texts, "none")
    points = tune(search, utterances, references, [0.5, 2.0], [-1.0, 1.0], processes=2)
    pairs = {(point.lm_weight, point.word_score) for point in points}
    assert {(0.5, -1.0), (0.5, 1.0), (2.0, -1.0), (2.0, 1.0)} < pairs
    coarse = best_point(
        [point for point in points if point.lm_weight in (0.5, 2.0) and point.word_score in (-1.0, 1.0)]
    )
    assert pairs >= {(weight, coarse.word_score) for weight in _around([0.5, 2.0], coarse.lm_weight, 0.0)}
    assert len(pairs) == len(points)
    for point in points:
        weighted = search.weighted(point.lm_weight, point.word_score)
        found = [weighted.decode(utterance)[0].text for utterance in utterances]
        assert point.wer == score(references.ids, texts, found, "none").wer
    assert len({point.wer for point in points}) > 1


def test_a_single_pair_is_not_refined(backbone, lm, utterances):
    search = load_search(DecoderConfig(kind="beam", lm=lm.name), backbone, lm.parent)
    references = References([f"u{row}" for row in range(len(FRAMES))], ["ab"] * len(FRAMES), "none")
    [point] = tune(search, utterances, references, [1.0], [0.0], processes=1)
    assert (point.lm_weight, point.word_score) == (1.0, 0.0)


@pytest.mark.parametrize(
    ("points", "best"),
    [
        ([(2, 0, 0.3), (1, 0, 0.3), (3, 0, 0.4)], (1, 0)),
        ([(1, -1, 0.3), (1, 0.5, 0.3)], (1, 0.5)),
        ([(1, 1, 0.3), (1, -1, 0.3)], (1, -1)),
        ([(0, 0, 0.3), (9, 9, 0.2)], (9, 9)),
    ],
)
def test_ties_go_to_the_smaller_weights(points, best):
    for order in (points, points[::-1]):
        found = best_point([Point(*point) for point in order])
        assert (found.lm_weight, found.word_score) == best


@pytest.mark.parametrize(
    ("axis", "best", "least", "around"),
    [
        ([1, 2, 4], 2, 0, [1.5, 2, 3]),
        ([1, 2, 4], 4, 0, [3, 4, 5]),
        ([1, 2, 4], 1, 0, [0.5, 1, 1.5]),
        ([0, 2], 0, 0, [0, 0, 1]),
        ([-1, 1], -1, float("-inf"), [-2, -1, 0]),
        ([3], 3, 0, [3]),
    ],
)
def test_the_fine_grid_goes_halfway_to_the_neighbours(axis, best, least, around):
    assert _around(axis, best, least) == around


def test_table():
    table = format_grid([Point(1, 0, 0.25), Point(1, 1, 0.125), Point(2, 0, 0.5)])
    assert [line.split() for line in table.splitlines()] == [
        ["lm_weight", "\\", "word_score", "0", "1"],
        ["1", "25.00", "12.50*"],
        ["2", "50.00", "-"],
    ]


@pytest.mark.parametrize(
    ("points", "warning"),
    [
        (
            [(1, -1, 0.1), (1, 0, 0.2)],
            "the best word_score, -1, is at the edge of what was tried; try smaller ones too",
        ),
        ([(1, 0, 0.2), (2, 0, 0.1)], "the best lm_weight, 2, is at the edge of what was tried; try larger ones too"),
        ([(0, 0, 0.1), (1, 0, 0.2)], None),  # there is no smaller weight
        ([(1, 0, 0.2), (2, 0, 0.1), (3, 0, 0.2)], None),
        ([(1, 0, 0.2)], None),
    ],
)
def test_a_best_point_at_the_edge_is_warned_of(points, warning, caplog):
    with caplog.at_level(logging.WARNING):
        _warn_of_edges([Point(*point) for point in points])
    assert [record.message for record in caplog.records] == ([warning] if warning else [])
