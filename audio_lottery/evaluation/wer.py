"""Word and character error rate over a whole test set, counted once into a record that everything else reads.

Method: jiwer's Levenshtein alignment per utterance; hits and errors are summed over the corpus before dividing, so a
long utterance weighs more than a short one (the usual corpus-level WER, not a mean of per-utterance rates).
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import jiwer

from audio_lottery.data.text import get_normalizer
from audio_lottery.errors import TextError


@dataclass(frozen=True, slots=True)
class WordErrors:
    """The errors of one set of hypotheses.

    Attributes:
        wer: (substitutions + deletions + insertions) / reference words, a fraction; above 1 is possible.
        cer: the same over characters, the single spaces between words included.
        hits: words that are right.
        substitutions: words written as another.
        deletions: reference words that the hypothesis lacks.
        insertions: hypothesis words that the reference lacks.
        reference_words: words in the normalised references.
        reference_characters: characters in the normalised references, the single spaces between words included.
        utterances: how many were scored, empty references included.
        empty_references: references without a word after normalisation; each word of their hypotheses is an insertion.
        normalizer: name of the normaliser that both sides went through.
    """

    wer: float
    cer: float
    hits: int
    substitutions: int
    deletions: int
    insertions: int
    reference_words: int
    reference_characters: int
    utterances: int
    empty_references: int
    normalizer: str

    def to_dict(self) -> dict[str, Any]:
        """The record as a flat dictionary of JSON values."""
        return asdict(self)


def score(ids: Sequence[str], references: Sequence[str], hypotheses: Sequence[str], normalizer: str) -> WordErrors:
    """Score hypotheses against references, both normalised by the normaliser of that name.

    An utterance whose reference is empty after normalisation is kept: what was recognised in it counts as insertions.
    Leaving such utterances out would hide words that the model invents in silence and noise.

    Args:
        ids: utterance ids, unique.
        references: transcripts, in the order of ``ids``.
        hypotheses: what was recognised, in the order of ``ids``.
        normalizer: a name in `audio_lottery.data.text.NORMALIZERS`.

    Raises:
        TextError: unknown normaliser, different numbers of ids, references and hypotheses, a repeated id, or not one
            word in all references, where no error rate is defined.
    """
    _check_pairing(ids, references, hypotheses)
    normalize = get_normalizer(normalizer)
    truth = [normalize(text) for text in references]
    guess = [normalize(text) for text in hypotheses]
    empty = truth.count("")
    if empty == len(truth):
        raise TextError(
            f"no error rate for {len(truth)} utterances: not one reference holds a word after normalizer "
            f"'{normalizer}'; check the text column of the manifest or choose another --data.normalizer"
        )
    # jiwer 4 keeps an empty reference within a list and counts its hypothesis as insertions, which is our policy.
    words = jiwer.process_words(truth, guess)
    characters = jiwer.process_characters(truth, guess)
    return WordErrors(
        wer=words.wer,
        cer=characters.cer,
        hits=words.hits,
        substitutions=words.substitutions,
        deletions=words.deletions,
        insertions=words.insertions,
        reference_words=words.hits + words.substitutions + words.deletions,
        reference_characters=characters.hits + characters.substitutions + characters.deletions,
        utterances=len(truth),
        empty_references=empty,
        normalizer=normalizer,
    )


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
