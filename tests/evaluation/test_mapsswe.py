"""MAPSSWE against an example worked by hand, and the cases where the test has nothing to say."""

import math

import numpy as np
import pytest

from audio_lottery.errors import TextError
from audio_lottery.evaluation.counts import ErrorCounts, count_errors
from audio_lottery.evaluation.mapsswe import mapsswe, segment_errors, z_test


def system(references: list[str], hypotheses: list[str], alignment: str = "nist") -> ErrorCounts:
    ids = [f"u{i}" for i in range(len(references))]
    return count_errors(ids, references, hypotheses, "none", alignment=alignment)


def segments(references: list[str], ours: list[str], theirs: list[str], **options: int) -> list[tuple[int, int]]:
    first, second = system(references, ours), system(references, theirs)
    counted = segment_errors(first.alignments, second.alignments, first.words.reference, **options)
    return list(zip(*(part.tolist() for part in counted), strict=True))


REFERENCES = ["a b c d e f g h", "a b c d e", "a b c d", "a b c", "a b"]
OURS = ["a X c d e f g h", "X b Y d e", "a b Q c d", "a b c", ""]
THEIRS = ["a b c d e f Y h", "a b c d e", "a b c d Z", "a b c", "a b"]
# Utterance 0: errors at words 1 (ours) and 6 (theirs), four right words between: two segments, (1, 0) and (0, 1).
# Utterance 1: errors at words 0 and 2, one right word between, too few to split: one segment, (2, 0).
# Utterance 2: we insert before word 2, they insert behind word 3, two right words between: (1, 0) and (0, 1).
# Utterance 3: no error, no segment.
# Utterance 4: two deletions: (2, 0).
SEGMENTS = [(1, 0), (0, 1), (2, 0), (1, 0), (0, 1), (2, 0)]
# Differences 1, -1, 2, 1, -1, 2: sum 4, n 6, mean 2/3, sum of squares 12.
# Variance (12 - 6 · 4/9) / 5 = 28/15. z = (2/3) / sqrt(28/15 / 6) = sqrt(10/7) = 1.1952.
# Normal table: Φ(1.1952) = 0.8840, so p = 2 · 0.1160 = 0.2320.


def test_the_worked_example() -> None:
    assert segments(REFERENCES, OURS, THEIRS) == SEGMENTS
    result = mapsswe(system(REFERENCES, OURS), system(REFERENCES, THEIRS))
    assert result.segments == 6
    assert result.mean_difference == pytest.approx(2 / 3)
    assert result.z == pytest.approx(math.sqrt(10 / 7))
    assert result.p == pytest.approx(0.2320, abs=1e-4)
    assert result.verdict == "no difference"
    assert "fewer than 50 segments" in result.note


def test_twenty_times_the_example_is_significant() -> None:
    """n grows to 120: z² = (4/9) · 120 / (120 · (2 - 4/9) / 119) = 34; z = 5.83."""
    ours, theirs = system(REFERENCES * 20, OURS * 20), system(REFERENCES * 20, THEIRS * 20)
    result = mapsswe(ours, theirs)
    assert (result.segments, result.verdict, result.note) == (120, "worse", "")
    assert result.z == pytest.approx(math.sqrt(34))
    back = mapsswe(theirs, ours)
    assert (back.z, back.p, back.verdict) == (pytest.approx(-math.sqrt(34)), result.p, "better")


@pytest.mark.parametrize(
    ("reference", "ours", "theirs", "found"),
    [
        # Two right words split, one does not; both systems must have them right.
        ("a b c d", "X b c Y", "a b c d", [(1, 0), (1, 0)]),
        ("a b c", "X b Y", "a b c", [(2, 0)]),
        ("a b c d", "X b c Y", "a Z c d", [(2, 1)]),
        # An insertion between two right words breaks their row, before it and behind it.
        ("a b c d", "X b q c Y", "a b c d", [(3, 0)]),
        # Insertions before the first word and behind the last, of either system.
        ("a b", "q a b", "a b q", [(1, 0), (0, 1)]),
        ("a", "q a", "a q", [(1, 1)]),
        # Words invented where nothing was said.
        ("", "a b", "c", [(2, 1)]),
        ("a b", "", "", [(2, 2)]),
    ],
)
def test_segmentation(reference: str, ours: str, theirs: str, found: list[tuple[int, int]]) -> None:
    # A second utterance: segments never cross utterances.
    references = [reference, "k l m"]
    assert segments(references, [ours, "k l m"], [theirs, "Z l m"]) == [*found, (0, 1)]


def test_buffer_words() -> None:
    assert segments(["a b c d"], ["X b c Y"], ["a b c d"], buffer_words=3) == [(2, 0)]
    assert segments(["a b c"], ["X b Y"], ["a b c"], buffer_words=1) == [(1, 0), (1, 0)]


def test_segments_hold_every_error() -> None:
    rng = np.random.default_rng(0)

    def texts() -> list[str]:
        return [" ".join(rng.choice(list("abc"), rng.integers(0, 12))) for _ in range(300)]

    references = texts()
    first, second = system(references, texts()), system(references, texts())
    ours, theirs = segment_errors(first.alignments, second.alignments, first.words.reference)
    assert (ours.sum(), theirs.sum()) == (first.words.errors.sum(), second.words.errors.sum())
    assert (ours + theirs).min() > 0


def test_the_same_system_twice() -> None:
    result = mapsswe(system(REFERENCES, OURS), system(REFERENCES, OURS))
    assert (result.mean_difference, result.z, result.p, result.verdict) == (0.0, 0.0, 1.0, "no difference")


def test_neither_errs() -> None:
    result = mapsswe(system(REFERENCES, REFERENCES), system(REFERENCES, REFERENCES))
    assert (result.segments, result.p, result.verdict) == (0, 1.0, "no difference")
    assert result.note == "neither system makes an error"


@pytest.mark.parametrize(("differences", "reason"), [([1], "only one segment"), ([2, 2, 2], "same number of errors")])
def test_no_variance(differences: list[int], reason: str) -> None:
    result = z_test(np.array(differences))
    assert (result.z, result.p, result.verdict) == (None, None, "undefined")
    assert reason in result.note


def test_alignments_must_be_of_one_kind() -> None:
    with pytest.raises(TextError, match="different alignments: 'nist' and 'jiwer'"):
        mapsswe(system(["a"], ["b"]), system(["a"], ["b"], "jiwer"))
