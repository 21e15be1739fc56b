"""Word alignments: which words are right, substituted, deleted and inserted, for a whole test set at once.

Two cost tables. ``jiwer`` is the unit-cost Levenshtein alignment of jiwer (rapidfuzz): the fewest errors. ``nist`` has
sclite's weights (substitution 4, deletion 3, insertion 3, NIST SCTK), which published counts use. At those weights
three substitutions cost as much as two deletions and two insertions, so the costs alone do not give the counts, and
the number of errors can exceed the minimum. Ties are broken as sclite breaks them: going back from the end of both
sides, a match or substitution first, then an insertion, then a deletion (``calculate_internal_cells`` in SCTK's
``net_dp.c``).
"""

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from rapidfuzz.distance import Levenshtein

from audio_lottery.errors import TextError

HIT, SUBSTITUTION, DELETION, INSERTION = range(4)
"""The codes of `Alignments.operations`."""

NIST_SUBSTITUTION, NIST_DELETION, NIST_INSERTION = 4, 3, 3
"""sclite's weights."""

_CODES = {
    "equal": bytes([HIT]),
    "replace": bytes([SUBSTITUTION]),
    "delete": bytes([DELETION]),
    "insert": bytes([INSERTION]),
}
_CELLS = 1 << 22  # cells of a batch of dynamic programmes, one byte each

Operations = NDArray[np.uint8]
Integers = NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Alignments:
    """The alignment of every utterance, end to end in one array.

    Attributes:
        costs: ``jiwer`` or ``nist``.
        operations: `HIT`, `SUBSTITUTION`, `DELETION` or `INSERTION`, [operations of all utterances].
        offsets: utterance ``i`` is ``operations[offsets[i]:offsets[i + 1]]``, [utterances + 1].
    """

    costs: str
    operations: Operations
    offsets: Integers

    def __len__(self) -> int:
        """How many utterances."""
        return len(self.offsets) - 1

    def __getitem__(self, index: int) -> Operations:
        """The operations of one utterance, in the order of the words."""
        return self.operations[self.offsets[index] : self.offsets[index + 1]]

    def utterances(self) -> Integers:
        """The utterance of every operation, [operations]."""
        return np.repeat(np.arange(len(self)), np.diff(self.offsets))

    def counts(self) -> Integers:
        """How often each operation occurs, [utterances, 4] in the order hit, substitution, deletion, insertion."""
        return np.bincount(self.utterances() * 4 + self.operations, minlength=4 * len(self)).reshape(-1, 4)

    def take(self, order: Integers) -> "Alignments":
        """The alignments of the utterances ``order``, in that order."""
        return _join(self.costs, [self[index] for index in order])


def align(references: Sequence[Sequence[str]], hypotheses: Sequence[Sequence[str]], costs: str = "jiwer") -> Alignments:
    """Align every hypothesis with its reference.

    Args:
        references: words (or characters) of each reference.
        hypotheses: words of each hypothesis, in the same order.
        costs: ``jiwer`` (all errors cost 1) or ``nist`` (4, 3, 3).

    Raises:
        TextError: unknown ``costs``.
    """
    if costs not in COSTS:
        raise TextError(f"unknown alignment '{costs}'; choose one of: {', '.join(COSTS)}")
    # As jiwer does: rapidfuzz compares strings in a list by hash, and numbers by value.
    vocabulary: defaultdict[str, int] = defaultdict(lambda: len(vocabulary))
    truth = [[vocabulary[word] for word in words] for words in references]
    guess = [[vocabulary[word] for word in words] for words in hypotheses]
    return _join(costs, COSTS[costs](truth, guess))


def _join(costs: str, parts: list[Operations]) -> Alignments:
    operations = np.concatenate(parts) if parts else np.zeros(0, dtype=np.uint8)
    offsets = np.concatenate([[0], np.cumsum([len(part) for part in parts], dtype=np.int64)]).astype(np.int64)
    return Alignments(costs, operations, offsets)


def _align_unit(references: list[list[int]], hypotheses: list[list[int]]) -> list[Operations]:
    aligned = []
    for truth, guess in zip(references, hypotheses, strict=True):
        runs = [
            _CODES[run.tag] * max(run.src_end - run.src_start, run.dest_end - run.dest_start)
            for run in Levenshtein.opcodes(truth, guess)
        ]
        aligned.append(np.frombuffer(b"".join(runs), dtype=np.uint8))
    return aligned


def _align_nist(references: list[list[int]], hypotheses: list[list[int]]) -> list[Operations]:
    found: dict[int, Operations] = {}
    for batch in _batches([len(words) for words in references], [len(words) for words in hypotheses]):
        aligned = _align_nist_batch([references[i] for i in batch], [hypotheses[i] for i in batch])
        found.update(zip(batch, aligned, strict=True))
    return [found[index] for index in range(len(references))]


COSTS: dict[str, Callable[[list[list[int]], list[list[int]]], list[Operations]]] = {
    "jiwer": _align_unit,
    "nist": _align_nist,
}
"""The cost tables by name."""


def _batches(rows: list[int], columns: list[int]) -> Iterator[list[int]]:
    """Utterances of similar size together, at most `_CELLS` padded cells a batch unless one alone is larger."""
    batch: list[int] = []
    height = width = 0
    for index in sorted(range(len(rows)), key=lambda i: (rows[i], columns[i])):
        higher, wider = max(height, rows[index] + 1), max(width, columns[index] + 1)
        if batch and (len(batch) + 1) * higher * wider > _CELLS:
            yield batch
            batch, higher, wider = [], rows[index] + 1, columns[index] + 1
        batch.append(index)
        height, width = higher, wider
    if batch:
        yield batch


def _align_nist_batch(references: list[list[int]], hypotheses: list[list[int]]) -> list[Operations]:
    """Dynamic programmes of many utterances side by side, a row at a time.

    Within a row each cell depends on its left neighbour; ``c[j] = min over k <= j of (b[k] + 3 (j - k))`` is a running
    minimum, so the whole row is one numpy call.
    """
    reference, rows = _pad(references, -1)
    hypothesis, columns = _pad(hypotheses, -2)
    batch, height, width = len(references), reference.shape[1], hypothesis.shape[1]
    ramp = NIST_INSERTION * np.arange(width + 1, dtype=np.int32)
    previous = np.tile(ramp, (batch, 1))
    # Which operation ends the best alignment of the first i reference and j hypothesis words: [i, utterance, j].
    last = np.full((height + 1, batch, width + 1), INSERTION, dtype=np.uint8)
    last[1:, :, 0] = DELETION
    for i in range(1, height + 1):
        match = hypothesis == reference[:, i - 1 : i]
        diagonal = previous[:, :-1] + np.where(match, np.int32(0), np.int32(NIST_SUBSTITUTION))
        deleted = previous + np.int32(NIST_DELETION)
        best = deleted.copy()
        np.minimum(best[:, 1:], diagonal, out=best[:, 1:])
        previous = np.minimum.accumulate(best - ramp, axis=1) + ramp
        inserted = previous[:, :-1] + np.int32(NIST_INSERTION)
        last[i, :, 1:] = np.where(
            (diagonal <= deleted[:, 1:]) & (diagonal <= inserted),
            np.where(match, HIT, SUBSTITUTION),
            np.where(deleted[:, 1:] < inserted, DELETION, INSERTION),
        )
    return _trace_back(last, rows, columns)


def _trace_back(last: Operations, rows: Integers, columns: Integers) -> list[Operations]:
    i, j = rows.copy(), columns.copy()
    everyone = np.arange(len(rows))
    width = int((rows + columns).max())
    found = np.zeros((len(rows), width), dtype=np.uint8)
    start = np.full(len(rows), width)
    while len(active := everyone[(i > 0) | (j > 0)]):
        operation = last[i[active], active, j[active]]
        start[active] -= 1
        found[active, start[active]] = operation
        i[active] -= operation != INSERTION
        j[active] -= operation != DELETION
    return [row[begin:] for row, begin in zip(found, start, strict=True)]


def _pad(sequences: list[list[int]], filler: int) -> tuple[NDArray[np.int32], Integers]:
    lengths = np.array([len(sequence) for sequence in sequences], dtype=np.int64)
    padded = np.full((len(sequences), int(lengths.max())), filler, dtype=np.int32)
    for row, sequence in zip(padded, sequences, strict=True):
        row[: len(sequence)] = sequence
    return padded, lengths
