"""MAPSSWE: the matched-pairs sentence-segment word error test.

Gillick & Cox 1989, "Some statistical issues in the comparison of speech recognition algorithms", ICASSP; Pallett et
al. 1990, "Tools for the analysis of benchmark speech recognition tests", ICASSP. The segmentation is that of NIST's
``sc_stats`` (SCTK, ``mtchprs.c``): a segment is a stretch with errors, bounded by the ends of the utterance or by at
least two successive reference words that both systems have right with nothing inserted between them. Segments are
close to independent where utterances of continuous speech are not short, which is what the test needs.

One difference is meant: ``mtchprs.c`` stops at the last reference word of the first system and so forgets words that
the second system inserts at the end of an utterance. Here they count for either system, and the test is symmetric.
"""

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from audio_lottery.evaluation.alignment import HIT, INSERTION, Alignments
from audio_lottery.evaluation.counts import UtteranceErrors, match_utterances

ALPHA = 0.05
BUFFER_WORDS = 2
"""Words that both systems must have right between two segments (NIST's default)."""

FEW_SEGMENTS = 50
"""Below this the normal approximation of the test is poor."""

Counts = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Mapsswe:
    """The outcome of the test.

    Attributes:
        segments: how many segments hold an error of either system.
        mean_difference: errors of the system minus errors of the baseline, mean per segment; positive is worse.
        z: mean divided by its standard error (variance with n - 1); None where it is not defined.
        p: two-tailed; None where z is.
        verdict: ``better``, ``worse`` (the system against the baseline, p < 0.05), ``no difference`` or ``undefined``.
        note: what to mind.
    """

    segments: int
    mean_difference: float
    z: float | None
    p: float | None
    verdict: str
    note: str = ""

    def to_dict(self) -> dict[str, Any]:
        """The record as JSON values."""
        return asdict(self)


def mapsswe(
    system: UtteranceErrors, baseline: UtteranceErrors, *, buffer_words: int = BUFFER_WORDS, alpha: float = ALPHA
) -> Mapsswe:
    """Test whether two systems differ in word errors, on the same utterances.

    NIST's tool aligns with the weights 4, 3, 3: pass counts of ``alignment="nist"`` (or ``counts.realigned("nist")``).

    Args:
        system: errors of the system.
        baseline: errors of what it is compared with.
        buffer_words: words that both must have right between two segments.
        alpha: level of the verdict.

    Raises:
        TextError: the two do not hold the same utterances, references, normaliser and alignment.
    """
    baseline = match_utterances(system, baseline)
    ours, theirs = segment_errors(
        system.alignments, baseline.alignments, system.words.reference, buffer_words=buffer_words
    )
    return z_test(ours - theirs, alpha)


def z_test(differences: Counts, alpha: float = ALPHA) -> Mapsswe:
    """The two-tailed z test of the differences per segment against a mean of zero.

    No segment (neither system errs) and all differences zero are no difference, p = 1. All differences equal and not
    zero have no variance to test with: z and p are None. (``sc_stats`` prints z = 0 there, which reads as equality.)
    """
    n = len(differences)
    if not differences.any():
        note = "neither system makes an error" if n == 0 else "both make as many errors in every segment"
        return Mapsswe(n, 0.0, 0.0, 1.0, "no difference", note)
    mean = float(differences.mean())
    deviation = float(differences.std(ddof=1)) if n > 1 else 0.0
    if deviation == 0:
        note = "only one segment" if n == 1 else "every segment differs by the same number of errors"
        return Mapsswe(n, mean, None, None, "undefined", f"{note}: there is no variance to test with")
    z = mean / (deviation / math.sqrt(n))
    p = math.erfc(abs(z) / math.sqrt(2))
    verdict = "no difference" if p >= alpha else "better" if z < 0 else "worse"
    note = f"fewer than {FEW_SEGMENTS} segments: the normal approximation is poor" if n < FEW_SEGMENTS else ""
    return Mapsswe(n, mean, z, p, verdict, note)


def segment_errors(
    first: Alignments, second: Alignments, reference_words: Counts, *, buffer_words: int = BUFFER_WORDS
) -> tuple[Counts, Counts]:
    """Errors of both systems in every segment.

    Args:
        first: alignments of one system.
        second: alignments of the other, same utterances in the same order.
        reference_words: words of each reference, [utterances].
        buffer_words: words that both must have right between two segments.

    Returns:
        Errors of the first and of the second system, [segments] each.
    """
    # A line of places: in each utterance the gap before word 0, word 0, the gap before word 1, ..., the gap at the
    # end, and one unused place. Gaps are even and words odd.
    starts = 2 * np.concatenate([[0], np.cumsum(reference_words + 1)])
    ours, theirs = (_errors_by_place(alignments, starts) for alignments in (first, second))
    places = np.flatnonzero(ours + theirs)
    if not len(places):
        return np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64)
    before, after = places[:-1], places[1:]
    right_between = after // 2 - (before + 1) // 2  # words strictly between two neighbouring places with errors
    utterance = np.searchsorted(starts, places, side="right")
    split = (right_between >= buffer_words) | (utterance[:-1] != utterance[1:])
    begins = np.concatenate([[0], np.flatnonzero(split) + 1])
    return np.add.reduceat(ours[places], begins), np.add.reduceat(theirs[places], begins)


def _errors_by_place(alignments: Alignments, starts: Counts) -> Counts:
    """Errors at every place of the line, [places]."""
    operations, utterance = alignments.operations, alignments.utterances()
    consumed = np.cumsum(operations != INSERTION)  # reference words up to and with this operation, all utterances
    # Utterances before this one hold starts/2 - utterance reference words.
    word = consumed - (starts[utterance] // 2 - utterance)  # 1-based within the utterance; 0 before its first word
    place = starts[utterance] + np.where(operations == INSERTION, 2 * word, 2 * word - 1)
    return np.bincount(place[operations != HIT], minlength=int(starts[-1]))
