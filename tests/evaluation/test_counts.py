"""Counts per utterance, and the matching of two sets of them."""

import numpy as np
import pytest

from audio_lottery.errors import TextError
from audio_lottery.evaluation.counts import check_same_ids, count_errors, match_utterances

IDS, REFERENCES, HYPOTHESES = ["u0", "u1", "u2"], ["a b c", "", "d"], ["a x c", "e", ""]


def test_one_row_per_utterance() -> None:
    counts = count_errors(IDS, REFERENCES, HYPOTHESES, "none", speakers=["s", None, "t"])
    assert counts.words.hits.tolist() == [2, 0, 0]
    assert counts.words.substitutions.tolist() == [1, 0, 0]
    assert counts.words.deletions.tolist() == [0, 0, 1]
    assert counts.words.insertions.tolist() == [0, 1, 0]
    assert counts.words.reference.tolist() == [3, 0, 1]
    assert counts.characters.errors.tolist() == [1, 1, 1]
    assert counts.characters.reference.tolist() == [5, 0, 1]
    assert counts.speakers == ("s", "", "t")
    assert counts.empty_references == 1
    assert (counts.wer, counts.cer) == (3 / 4, 3 / 6)


def test_take_keeps_rows_together() -> None:
    counts = count_errors(IDS, REFERENCES, HYPOTHESES, "none", speakers=["s", "r", "t"])
    taken = counts.take(np.array([2, 0]))
    assert (taken.ids, taken.speakers, taken.references) == (("u2", "u0"), ("t", "s"), ("d", "a b c"))
    assert taken.words.errors.tolist() == [1, 1]
    assert taken.alignments.counts().tolist() == counts.alignments.counts()[[2, 0]].tolist()


def test_match_puts_the_baseline_in_order() -> None:
    counts = count_errors(IDS, REFERENCES, HYPOTHESES, "none")
    assert match_utterances(counts, counts.take(np.array([1, 2, 0]))).ids == counts.ids


def test_same_ids_lists_five() -> None:
    expected, found = [f"r{i}" for i in range(7)], ["h0"]
    with pytest.raises(TextError) as error:
        check_same_ids(expected, found, "ref.txt", "hyp.txt")
    assert str(error.value) == (
        "hyp.txt lacks 7 utterances (r0, r1, r2, r3, r4, …) of ref.txt; hyp.txt has 1 utterance (h0) that ref.txt has "
        "not; both sides must hold the same utterances"
    )


def test_speakers_must_be_as_many() -> None:
    with pytest.raises(TextError, match="2 speakers were given for 3 utterances"):
        count_errors(IDS, REFERENCES, HYPOTHESES, "none", speakers=["s", "t"])
