"""Errors counted once, per utterance; every number that is reported afterwards is a view of these arrays.

Corpus-level rates: hits and errors are summed over the utterances before dividing, so a long utterance weighs more
than a short one (the usual WER, not a mean of per-utterance rates).
"""

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol, Self, TypeVar

import numpy as np

from audio_lottery.data.text import get_normalizer
from audio_lottery.errors import TextError
from audio_lottery.evaluation.alignment import COSTS, Alignments, Integers, align


@dataclass(frozen=True, slots=True, eq=False)
class Tally:
    """Hits and errors of every utterance; each array is int64, [utterances]."""

    hits: Integers
    substitutions: Integers
    deletions: Integers
    insertions: Integers

    @property
    def reference(self) -> Integers:
        """Words (or characters) of each reference."""
        return self.hits + self.substitutions + self.deletions

    @property
    def errors(self) -> Integers:
        """Errors of each utterance."""
        return self.substitutions + self.deletions + self.insertions

    @property
    def rate(self) -> float:
        """Errors over reference length, of all utterances together; a fraction."""
        return int(self.errors.sum()) / int(self.reference.sum())

    def totals(self) -> dict[str, int]:
        """Hits and errors summed over the utterances."""
        return {
            "hits": int(self.hits.sum()),
            "substitutions": int(self.substitutions.sum()),
            "deletions": int(self.deletions.sum()),
            "insertions": int(self.insertions.sum()),
        }

    def take(self, order: Integers) -> "Tally":
        """The utterances ``order``, in that order."""
        return Tally(self.hits[order], self.substitutions[order], self.deletions[order], self.insertions[order])


class UtteranceErrors(Protocol):
    """What statistics ask of the errors of a test set: `ErrorCounts`, or `TextlessCounts`, which hold no text."""

    @property
    def ids(self) -> tuple[str, ...]:
        """Utterance ids, unique."""

    @property
    def speakers(self) -> tuple[str, ...]:
        """Speaker (or talk) of each utterance, empty where it is not known."""

    @property
    def normalizer(self) -> str:
        """Name of the normaliser that both sides went through."""

    @property
    def said(self) -> str:
        """SHA-256 of the ids and normalised references; their order does not matter."""

    @property
    def words(self) -> Tally:
        """Word errors, by the alignment ``alignments.costs``."""

    @property
    def alignments(self) -> Alignments:
        """The word alignments."""

    @property
    def wer(self) -> float:
        """Errors over reference words, a fraction."""

    def realigned(self, alignment: str) -> Self:
        """The same utterances with their words counted by another alignment."""

    def take(self, order: Integers) -> Self:
        """The utterances ``order``, in that order."""


_Errors = TypeVar("_Errors", bound=UtteranceErrors)


@dataclass(frozen=True, slots=True, eq=False)
class TextlessCounts:
    """The word errors of one set of hypotheses, utterance by utterance, without a word of it.

    Attributes:
        ids: utterance ids, unique.
        speakers: speaker (or talk) of each utterance, empty where it is not known.
        normalizer: name of the normaliser that both sides went through.
        said: SHA-256 of the ids and normalised references; their order does not matter.
        aligned: the word alignments by ``jiwer`` and by ``nist``.
        costs: which of them counts.
    """

    ids: tuple[str, ...]
    speakers: tuple[str, ...]
    normalizer: str
    said: str
    aligned: Mapping[str, Alignments]
    costs: str = "jiwer"

    @property
    def alignments(self) -> Alignments:
        """The word alignments that count."""
        return self.aligned[self.costs]

    @property
    def words(self) -> Tally:
        """Word errors by these alignments."""
        return _tally(self.alignments)

    @property
    def wer(self) -> float:
        """(Substitutions + deletions + insertions) / reference words, a fraction; above 1 is possible."""
        return self.words.rate

    def realigned(self, alignment: str) -> "TextlessCounts":
        """The same utterances with their words counted by the other alignment."""
        return replace(self, costs=alignment)

    def take(self, order: Integers) -> "TextlessCounts":
        """All utterances in another order: of a part of them ``said`` would be wrong."""
        return replace(
            self,
            ids=tuple(self.ids[index] for index in order),
            speakers=tuple(self.speakers[index] for index in order),
            aligned={costs: alignments.take(order) for costs, alignments in self.aligned.items()},
        )


@dataclass(frozen=True, slots=True, eq=False)
class ErrorCounts:
    """The errors of one set of hypotheses, utterance by utterance.

    Attributes:
        ids: utterance ids, unique.
        speakers: speaker (or talk) of each utterance, empty where it is not known.
        references: the normalised references.
        hypotheses: the normalised hypotheses.
        normalizer: name of the normaliser that both sides went through.
        words: word errors, by the alignment ``alignments.costs``.
        characters: character errors, always by unit costs, the single spaces between words included.
        alignments: the word alignments.
    """

    ids: tuple[str, ...]
    speakers: tuple[str, ...]
    references: tuple[str, ...]
    hypotheses: tuple[str, ...]
    normalizer: str
    words: Tally
    characters: Tally
    alignments: Alignments

    @property
    def wer(self) -> float:
        """(Substitutions + deletions + insertions) / reference words, a fraction; above 1 is possible."""
        return self.words.rate

    @property
    def cer(self) -> float:
        """The same over characters."""
        return self.characters.rate

    @property
    def empty_references(self) -> int:
        """References without a word after normalisation."""
        return self.references.count("")

    @property
    def said(self) -> str:
        """SHA-256 of the ids and normalised references; their order does not matter."""
        lines = sorted(
            f"{utterance_id}\t{text}\n" for utterance_id, text in zip(self.ids, self.references, strict=True)
        )
        return hashlib.sha256("".join(lines).encode()).hexdigest()

    def textless(self) -> TextlessCounts:
        """What statistics need of it, both alignments included, and no text."""
        aligned = {costs: self.realigned(costs).alignments for costs in COSTS}
        return TextlessCounts(self.ids, self.speakers, self.normalizer, self.said, aligned)

    def realigned(self, alignment: str) -> "ErrorCounts":
        """The same utterances with their words counted by another alignment."""
        if alignment == self.alignments.costs:
            return self
        alignments = _align_words(self.references, self.hypotheses, alignment)
        return replace(self, alignments=alignments, words=_tally(alignments))

    def take(self, order: Integers) -> "ErrorCounts":
        """The utterances ``order``, in that order."""

        def pick(values: tuple[str, ...]) -> tuple[str, ...]:
            return tuple(values[index] for index in order)

        return replace(
            self,
            ids=pick(self.ids),
            speakers=pick(self.speakers),
            references=pick(self.references),
            hypotheses=pick(self.hypotheses),
            words=self.words.take(order),
            characters=self.characters.take(order),
            alignments=self.alignments.take(order),
        )


def count_errors(
    ids: Sequence[str],
    references: Sequence[str],
    hypotheses: Sequence[str],
    normalizer: str,
    *,
    speakers: Sequence[str | None] | None = None,
    alignment: str = "jiwer",
) -> ErrorCounts:
    """Count the errors of hypotheses against references, both normalised by the normaliser of that name.

    An utterance whose reference is empty after normalisation is kept: what was recognised in it counts as insertions.
    Leaving such utterances out would hide words that the model invents in silence and noise.

    Args:
        ids: utterance ids, unique.
        references: transcripts, in the order of ``ids``.
        hypotheses: what was recognised, in the order of ``ids``.
        normalizer: a name in `audio_lottery.data.text.NORMALIZERS`.
        speakers: speaker or talk of each utterance; None or empty where it is not known.
        alignment: ``jiwer`` or ``nist``, see `audio_lottery.evaluation.alignment`.

    Raises:
        ConfigError: unknown normaliser.
        TextError: unknown alignment, different numbers of ids, references, hypotheses and speakers, a repeated id, or
            not one word in all references, where no error rate is defined.
    """
    _check_pairing(ids, references, hypotheses)
    if speakers is not None and len(speakers) != len(ids):
        raise TextError(f"{len(speakers)} speakers were given for {len(ids)} utterances: every utterance needs one")
    normalize = get_normalizer(normalizer)
    truth = tuple(normalize(text) for text in references)
    guess = tuple(normalize(text) for text in hypotheses)
    if not any(truth):
        raise TextError(
            f"no error rate for {len(truth)} utterances: not one reference holds a word after normalizer "
            f"'{normalizer}'; check the text column of the manifest or choose another --data.normalizer"
        )
    alignments = _align_words(truth, guess, alignment)
    return ErrorCounts(
        ids=tuple(ids),
        speakers=tuple(speaker or "" for speaker in speakers or [""] * len(ids)),
        references=truth,
        hypotheses=guess,
        normalizer=normalizer,
        words=_tally(alignments),
        characters=_tally(align(truth, guess)),
        alignments=alignments,
    )


def match_utterances(system: UtteranceErrors, baseline: _Errors) -> _Errors:
    """The utterances of ``baseline`` in the order of ``system``'s, for a paired comparison.

    Raises:
        TextError: the two do not hold the same ids, went through different normalisers or alignments, or an
            utterance has different references.
    """
    for what, one, other in (
        ("normalizer", system.normalizer, baseline.normalizer),
        ("alignment", system.alignments.costs, baseline.alignments.costs),
    ):
        if one != other:
            raise TextError(f"two systems cannot be compared with different {what}s: '{one}' and '{other}'; use one")
    if system.ids == baseline.ids:
        matched = baseline
    else:
        check_same_ids(system.ids, baseline.ids, "the first system", "the second system")
        position = {utterance_id: index for index, utterance_id in enumerate(baseline.ids)}
        matched = baseline.take(np.array([position[utterance_id] for utterance_id in system.ids], dtype=np.int64))
    if not (isinstance(system, ErrorCounts) and isinstance(matched, ErrorCounts)):
        if system.said != matched.said:
            raise TextError(
                f"the same {len(system.ids)} utterances have other references in one system than in the other; score "
                "both against the same transcripts"
            )
    elif system.references != matched.references:
        index = next(
            i for i, texts in enumerate(zip(system.references, matched.references, strict=True)) if len(set(texts)) > 1
        )
        raise TextError(
            f"utterance '{system.ids[index]}' has two references: '{system.references[index]}' and "
            f"'{matched.references[index]}'; score both systems against the same transcripts"
        )
    return matched


def check_same_ids(expected: Sequence[str], found: Sequence[str], expected_name: str, found_name: str) -> None:
    """Refuse two sides that do not hold the same utterances.

    Raises:
        TextError: lists up to five missing and five extra ids, with their numbers.
    """
    missing = sorted(set(expected) - set(found))
    extra = sorted(set(found) - set(expected))
    parts = []
    if missing:
        parts.append(f"{found_name} lacks {_listed(missing)} of {expected_name}")
    if extra:
        parts.append(f"{found_name} has {_listed(extra)} that {expected_name} has not")
    if parts:
        raise TextError(f"{'; '.join(parts)}; both sides must hold the same utterances")


def _listed(ids: list[str]) -> str:
    noun = "utterance" if len(ids) == 1 else "utterances"
    return f"{len(ids)} {noun} ({', '.join(ids[:5])}{', …' if len(ids) > 5 else ''})"


def _align_words(references: Sequence[str], hypotheses: Sequence[str], alignment: str) -> Alignments:
    return align([text.split() for text in references], [text.split() for text in hypotheses], alignment)


def _tally(alignments: Alignments) -> Tally:
    hits, substitutions, deletions, insertions = alignments.counts().T
    return Tally(hits, substitutions, deletions, insertions)


def _check_pairing(ids: Sequence[str], references: Sequence[str], hypotheses: Sequence[str]) -> None:
    if not len(ids) == len(references) == len(hypotheses):
        raise TextError(
            f"cannot score {len(ids)} ids, {len(references)} references and {len(hypotheses)} hypotheses together: "
            "every utterance needs one of each"
        )
    repeated = [utterance_id for utterance_id, count in Counter(ids).items() if count > 1]
    if repeated:
        raise TextError(
            f"utterance id '{repeated[0]}' is scored more than once ({len(repeated)} ids are repeated); "
            "every utterance counts once: remove what was gathered twice"
        )
