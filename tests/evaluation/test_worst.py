"""Worst utterances and their alignments as text."""

import pytest

from audio_lottery.evaluation.counts import count_errors
from audio_lottery.evaluation.worst import format_alignment, worst


@pytest.mark.parametrize(
    ("reference", "hypothesis", "lines"),
    [
        ("the cat sat", "the bat", ["REF:  the cat sat", "HYP:  the bat ***", "EVAL:     S   D"]),
        ("a", "a big dog", ["REF:  a *** ***", "HYP:  a big dog", "EVAL:   I   I"]),
        ("same", "same", ["REF:  same", "HYP:  same", "EVAL:"]),
        ("", "", ["REF:", "HYP:", "EVAL:"]),
        # Wide characters take two cells, a combining mark none.
        ("東京 e\u0301 b", "tokyo x c", ["REF:  東京  e\u0301 b", "HYP:  tokyo x c", "EVAL: S     S S"]),
        ("東京", "", ["REF:  東京", "HYP:  ****", "EVAL: D"]),
    ],
)
def test_three_lines(reference: str, hypothesis: str, lines: list[str]) -> None:
    assert format_alignment(reference, hypothesis).split("\n") == lines


def test_most_errors_first() -> None:
    ids = ["d", "c", "b", "a"]
    counts = count_errors(ids, ["a b c d", "a b", "a b", "a"], ["x y c d", "x y", "x y", "a"], "none")
    found = worst(counts, 3)
    assert [(entry.id, entry.errors, entry.reference_words) for entry in found] == [
        ("b", 2, 2),
        ("c", 2, 2),
        ("d", 2, 4),
    ]
    assert found[0].alignment == format_alignment("a b", "x y")
    assert len(worst(counts, 99)) == 3  # the one without an error is not shown


def test_the_alignment_is_the_one_that_was_counted() -> None:
    counts = count_errors(["u"], ["a b"], ["b a"], "none", alignment="nist")
    assert worst(counts, 1)[0].alignment == format_alignment("a b", "b a", "nist")
