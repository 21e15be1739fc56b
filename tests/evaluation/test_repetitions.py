"""Loops: what counts as one, and what of it is beyond the reference."""

import pytest

from audio_lottery.evaluation.repetitions import count_loops, repeated_ngrams
from audio_lottery.evaluation.wer import score

TABLE = [
    # hypothesis, reference, (words, copies, surplus words) of each loop
    ("no no is speech", "no is speech", []),
    ("so so so", "so", [("so", 3, 2)]),
    ("so so so", "", [("so", 3, 3)]),
    # said so, and so written; one more than was said is a loop
    ("ha ha ha ha", "he went ha ha ha ha", []),
    ("ha ha ha ha", "ha ha ha", [("ha", 4, 1)]),
    ("i think i think i think so", "i think so", [("i think", 3, 4)]),
    # the shortest n-gram counts: six times a, and not three times a a
    ("a a a a a a", "a", [("a", 6, 5)]),
    ("a b c d a b c d a b c d", "a b c d", [("a b c d", 3, 8)]),
    ("a b c d e a b c d e a b c d e", "a b c d e", [("a b c d e", 3, 10)]),
    # whole sentences, which is what Whisper falls into
    (
        "so i can at least assure you of it " * 4,
        "so i can at least assure you of it",
        [("so i can at least assure you of it", 4, 27)],
    ),
    ("a b a c a b a c a b a c", "a b a c", [("a b a c", 3, 8)]),
    ("x x x y y y y", "x y", [("x", 3, 2), ("y", 4, 3)]),
    # a copy that is cut off is none
    ("go on go on go on go", "go on", [("go on", 3, 4)]),
    ("", "a", []),
]


@pytest.mark.parametrize(("hypothesis", "reference", "expected"), TABLE)
def test_loops_of_a_hypothesis(hypothesis, reference, expected):
    loops = repeated_ngrams(reference.split(), hypothesis.split())
    assert [(" ".join(loop.words), loop.copies, loop.surplus) for loop in loops] == expected


def test_loops_of_a_test_set_stand_beside_its_insertions():
    counts = count_loops((reference, hypothesis) for hypothesis, reference, _ in TABLE)
    assert counts.loops == sum(len(expected) for _, _, expected in TABLE)
    assert counts.loop_words == sum(surplus for _, _, expected in TABLE for _, _, surplus in expected)
    result = score(["a", "b"], ["So it is.", "yes"], ["so, so, SO it is", "yes"], "basic")
    assert (result.insertions, result.loops, result.loop_words) == (2, 1, 2)
    assert score(["a"], ["so it is"], ["so, so, SO it is"], "none").loops == 0, "counted on the normalised words"
