"""The utterances with the most errors, printed word under word as NIST's sclite does."""

import unicodedata
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from audio_lottery.evaluation.alignment import DELETION, INSERTION, Operations, align
from audio_lottery.evaluation.counts import ErrorCounts

_LETTERS = " SDI"  # by operation code; a hit is left blank


@dataclass(frozen=True, slots=True)
class BadUtterance:
    """One utterance of `worst`; the texts are normalised, ``alignment`` is three lines of text."""

    id: str
    speaker: str
    errors: int
    reference_words: int
    reference: str
    hypothesis: str
    alignment: str

    def to_dict(self) -> dict[str, Any]:
        """The record as JSON values."""
        return asdict(self)


def worst(counts: ErrorCounts, n: int) -> list[BadUtterance]:
    """The ``n`` utterances with the most errors, those that move the WER most; none without an error.

    Equal numbers: the shorter reference first, then by id.
    """
    errors, words = counts.words.errors, counts.words.reference
    order = sorted(np.flatnonzero(errors).tolist(), key=lambda i: (-errors[i], words[i], counts.ids[i]))
    return [
        BadUtterance(
            id=counts.ids[index],
            speaker=counts.speakers[index],
            errors=int(errors[index]),
            reference_words=int(words[index]),
            reference=counts.references[index],
            hypothesis=counts.hypotheses[index],
            alignment=format_alignment(
                counts.references[index], counts.hypotheses[index], operations=counts.alignments[index]
            ),
        )
        for index in order[:n]
    ]


def format_alignment(
    reference: str, hypothesis: str, costs: str = "jiwer", *, operations: Operations | None = None
) -> str:
    """Three lines, REF, HYP and EVAL: asterisks stand for the missing word, S, D and I mark the errors.

    Columns are as wide as the terminal shows them: East Asian wide characters take two cells, combining marks none.

    Args:
        reference: normalised text.
        hypothesis: normalised text.
        costs: ``jiwer`` or ``nist``.
        operations: the alignment, where it is known already.
    """
    truth, guess = reference.split(), hypothesis.split()
    if operations is None:
        operations = align([truth], [guess], costs)[0]
    remaining_truth, remaining_guess = iter(truth), iter(guess)
    columns = []
    for operation in operations.tolist():
        above = "" if operation == INSERTION else next(remaining_truth)
        below = "" if operation == DELETION else next(remaining_guess)
        above, below = above or "*" * display_width(below), below or "*" * display_width(above)
        columns.append((above, below, _LETTERS[operation]))
    padded = [[pad(cell, max(map(display_width, column))) for cell in column] for column in columns]
    lines = zip(*padded, strict=True) if padded else ([], [], [])
    return "\n".join(
        f"{name:<5} {' '.join(line)}".rstrip() for name, line in zip(("REF:", "HYP:", "EVAL:"), lines, strict=True)
    )


def display_width(text: str) -> int:
    """Terminal cells of a text (Unicode Standard Annex 11)."""
    return sum(_cells(text))


def pad(text: str, width: int) -> str:
    """``text`` with spaces behind it up to ``width`` terminal cells."""
    return text + " " * (width - display_width(text))


def _cells(text: str) -> Iterable[int]:
    for char in text:
        if unicodedata.category(char) in ("Mn", "Me", "Cf"):
            yield 0
        else:
            yield 2 if unicodedata.east_asian_width(char) in "WF" else 1
