"""Decoders that write by themselves get stuck and write the same again and again: counted beside insertions.

A word error rate does not tell one utterance with two hundred invented words from two hundred with one. Radford et al.
2022 (arXiv:2212.04356, section 4.5) describe the failure, and Koenecke et al. 2024 (arXiv:2402.08021) what it does.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

LEAST = 3
"""Copies in a row from which on it is a loop: "no no" and "very very" are speech."""


@dataclass(frozen=True, slots=True)
class Loop:
    """An n-gram that a hypothesis repeats.

    Attributes:
        words: the n-gram.
        copies: how often it stands in a row.
        surplus: words of the copies that the reference does not have in a row.
    """

    words: tuple[str, ...]
    copies: int
    surplus: int


@dataclass(frozen=True, slots=True)
class LoopCounts:
    """Loops of a set of hypotheses; see `repeated_ngrams`.

    Attributes:
        loops: how many there are.
        loop_words: words of their copies beyond those of the references.
    """

    loops: int
    loop_words: int


def repeated_ngrams(reference: Sequence[str], hypothesis: Sequence[str]) -> list[Loop]:
    """The loops of a hypothesis, from left to right.

    A loop is an n-gram, of any length, that stands at least `LEAST` times in a row in the hypothesis, and more
    often in a row than anywhere in the reference. Of the n-grams that begin at a word the shortest that loops counts,
    and the search goes on behind its last copy, so that no word is in two loops.

    Args:
        reference: words, normalised.
        hypothesis: words, normalised the same way.
    """
    loops, place = [], 0
    while place < len(hypothesis):
        loop = next(_loops_at(reference, hypothesis, place), None)
        if loop is not None:
            loops.append(loop)
        place += 1 if loop is None else len(loop.words) * loop.copies
    return loops


def count_loops(pairs: Iterable[tuple[str, str]]) -> LoopCounts:
    """Count the loops of a test set.

    Args:
        pairs: normalised reference and hypothesis of each utterance.
    """
    found = [loop for truth, guess in pairs for loop in repeated_ngrams(truth.split(), guess.split())]
    return LoopCounts(len(found), sum(loop.surplus for loop in found))


def _loops_at(reference: Sequence[str], hypothesis: Sequence[str], place: int) -> Iterator[Loop]:
    for size in range(1, (len(hypothesis) - place) // LEAST + 1):
        if any(hypothesis[place + copy * size] != hypothesis[place] for copy in range(1, LEAST)):
            continue  # most n-grams are ruled out by their first word
        words = tuple(hypothesis[place : place + size])
        copies = _copies(hypothesis, place, words)
        if copies >= LEAST:
            said = max((_copies(reference, start, words) for start in range(len(reference))), default=0)
            if copies > said:
                yield Loop(words, copies, (copies - said) * size)


def _copies(text: Sequence[str], place: int, words: tuple[str, ...]) -> int:
    """How often ``words`` stand in a row from ``place`` on."""
    copies = 0
    while words and tuple(text[place : place + len(words)]) == words:
        copies += 1
        place += len(words)
    return copies
