"""Alignments: NIST's counts by hand and by a literal dynamic programme, jiwer's by jiwer."""

import jiwer
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from audio_lottery.errors import TextError
from audio_lottery.evaluation import alignment
from audio_lottery.evaluation.alignment import align

QUICK = settings(deadline=None, max_examples=80)
SENTENCES = st.lists(st.text("abc ", max_size=16).map(str.split), min_size=1, max_size=6)


def operations(reference: str, hypothesis: str, costs: str) -> str:
    return "".join("HSDI"[code] for code in align([reference.split()], [hypothesis.split()], costs)[0])


def literal_nist(reference: list[str], hypothesis: list[str]) -> list[int]:
    """SCTK's recursion word by word: diagonal if it is not dearer, else deletion if cheaper, else insertion."""
    cost = {(0, 0): 0}
    last: dict[tuple[int, int], int] = {}
    for i in range(len(reference) + 1):
        for j in range(len(hypothesis) + 1):
            if i == j == 0:
                continue
            match = i > 0 and j > 0 and reference[i - 1] == hypothesis[j - 1]
            diagonal = cost.get((i - 1, j - 1), 10**9) + (0 if match else 4)
            deleted, inserted = cost.get((i - 1, j), 10**9) + 3, cost.get((i, j - 1), 10**9) + 3
            cost[i, j] = min(diagonal, deleted, inserted)
            if diagonal <= min(deleted, inserted):
                last[i, j] = 0 if match else 1
            else:
                last[i, j] = 2 if deleted < inserted else 3
    i, j, found = len(reference), len(hypothesis), []
    while i or j:
        found.append(last[i, j])
        i, j = i - (found[-1] != 3), j - (found[-1] != 2)
    return found[::-1]


@pytest.mark.parametrize(
    ("reference", "hypothesis", "nist", "unit_errors"),
    [
        ("a b c", "a b c", "HHH", 0),
        ("a b c", "a x c", "HSH", 1),
        ("a b c", "a c", "HDH", 1),
        ("a c", "a b c", "HIH", 1),
        ("", "a b", "II", 2),
        ("a b", "", "DD", 2),
        ("", "", "", 0),
        # One substitution (4) is cheaper than a deletion and an insertion (6).
        ("a", "b", "S", 1),
        # Two substitutions (8) are dearer than a deletion and an insertion (6).
        ("a b", "b a", "DHI", 2),
        # A tie, 12 = 3 substitutions = 2 deletions + 2 insertions: substitutions, from the end.
        ("x y a", "a z w", "SSS", 3),
        # Five substitutions (20) are dearer than three deletions and three insertions (18): one error *more* than
        # the fewest possible.
        ("x y z a b", "a b p q r", "DDDHHIII", 5),
        # Two equal words: the last one is the hit.
        ("a", "a a", "IH", 1),
        ("a a", "a", "DH", 1),
    ],
)
def test_nist_by_hand(reference: str, hypothesis: str, nist: str, unit_errors: int) -> None:
    assert operations(reference, hypothesis, "nist") == nist
    unit = operations(reference, hypothesis, "jiwer")
    assert len(unit) - unit.count("H") == unit_errors


@QUICK
@given(references=SENTENCES, hypotheses=SENTENCES, cells=st.sampled_from([1, 60, 1 << 22]))
def test_nist_is_the_literal_recursion(references: list[list[str]], hypotheses: list[list[str]], cells: int) -> None:
    count = min(len(references), len(hypotheses))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(alignment, "_CELLS", cells)  # the batches do not matter
        found = align(references[:count], hypotheses[:count], "nist")
    assert [found[i].tolist() for i in range(count)] == [
        literal_nist(*pair) for pair in zip(references, hypotheses, strict=False)
    ]


@QUICK
@given(references=SENTENCES, hypotheses=SENTENCES)
def test_unit_costs_are_jiwers(references: list[list[str]], hypotheses: list[list[str]]) -> None:
    count = min(len(references), len(hypotheses))
    found = align(references[:count], hypotheses[:count]).counts().sum(axis=0)
    theirs = jiwer.process_words(
        [" ".join(words) for words in references[:count]], [" ".join(words) for words in hypotheses[:count]]
    )
    assert found.tolist() == [theirs.hits, theirs.substitutions, theirs.deletions, theirs.insertions]


@pytest.mark.parametrize("costs", ["jiwer", "nist"])
def test_every_word_is_aligned_once(costs: str) -> None:
    rng = np.random.default_rng(0)
    references = [list(rng.choice(list("abcd"), rng.integers(0, 9))) for _ in range(60)]
    hypotheses = [list(rng.choice(list("abcd"), rng.integers(0, 9))) for _ in range(60)]
    found = align(references, hypotheses, costs)
    hits, substitutions, deletions, insertions = found.counts().T
    assert (hits + substitutions + deletions).tolist() == [len(words) for words in references]
    assert (hits + substitutions + insertions).tolist() == [len(words) for words in hypotheses]
    order = np.arange(60)[::-1]
    assert found.take(order)[0].tolist() == found[59].tolist()


def test_ten_thousand_utterances_stay_bounded_in_memory() -> None:
    """Batches hold no more cells than asked for, whatever the mix of lengths."""
    rows, columns = [1, 400, 3, 2, 400, 1], [2, 390, 300, 1, 10, 1]
    batches = list(alignment._batches(rows, columns))
    assert sorted(index for batch in batches for index in batch) == list(range(6))
    for batch in batches:
        cells = (max(rows[i] for i in batch) + 1) * (max(columns[i] for i in batch) + 1) * len(batch)
        assert len(batch) == 1 or cells <= alignment._CELLS


def test_unknown_costs() -> None:
    with pytest.raises(TextError, match="unknown alignment 'sclite'; choose one of: jiwer, nist"):
        align([["a"]], [["a"]], "sclite")
