"""Word and character error rate of a test set: the record of one evaluation, with intervals and both alignments.

`score` is the cheap one, for choosing a model while training; `evaluate_texts` is what a suite reports.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from audio_lottery.evaluation.bootstrap import CONFIDENCE, Interval, wer_interval
from audio_lottery.evaluation.counts import ErrorCounts, count_errors
from audio_lottery.evaluation.repetitions import count_loops


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
        loops: n-grams that hypotheses repeat beyond their references (`audio_lottery.evaluation.repetitions`).
        loop_words: words of those repetitions.
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
    loops: int
    loop_words: int
    normalizer: str

    def to_dict(self) -> dict[str, Any]:
        """The record as a flat dictionary of JSON values."""
        return asdict(self)


def score(ids: Sequence[str], references: Sequence[str], hypotheses: Sequence[str], normalizer: str) -> WordErrors:
    """Score hypotheses against references with jiwer's alignment; no intervals.

    Args and errors are those of `audio_lottery.evaluation.counts.count_errors`.
    """
    return summarise(count_errors(ids, references, hypotheses, normalizer))


def summarise(counts: ErrorCounts) -> WordErrors:
    """The totals of a set of hypotheses."""
    loops = count_loops(zip(counts.references, counts.hypotheses, strict=True))
    return WordErrors(
        wer=counts.wer,
        cer=counts.cer,
        **counts.words.totals(),
        reference_words=int(counts.words.reference.sum()),
        reference_characters=int(counts.characters.reference.sum()),
        utterances=len(counts.ids),
        empty_references=counts.empty_references,
        loops=loops.loops,
        loop_words=loops.loop_words,
        normalizer=counts.normalizer,
    )


@dataclass(frozen=True, slots=True, eq=False)
class ErrorRates:
    """One evaluated test set.

    Attributes:
        counts: the errors, by the alignment that was asked for.
        nist: the same utterances with sclite's weights.
        raw_wer: WER of the texts as they are (normaliser ``none``).
        raw_cer: CER of the texts as they are.
        interval: 95 % interval of the WER, utterances resampled.
        interval_speakers: the same, whole speakers (talks) resampled.
        resamples: how many resamples the intervals come from.
        seed: their seed.
    """

    counts: ErrorCounts
    nist: ErrorCounts
    raw_wer: float
    raw_cer: float
    interval: Interval
    interval_speakers: Interval
    resamples: int
    seed: int

    def to_dict(self) -> dict[str, Any]:
        """The record as it stands in ``metrics.json``; rates are fractions, an interval is [low, high] or None."""
        return {
            **summarise(self.counts).to_dict(),
            "alignment": self.counts.alignments.costs,
            "wer_interval": self.interval.to_list(),
            "wer_interval_speakers": self.interval_speakers.to_list(),
            "raw": {"wer": self.raw_wer, "cer": self.raw_cer},
            "nist": {**self.nist.words.totals(), "wer": self.nist.wer},
            "bootstrap": {
                "resamples": self.resamples,
                "seed": self.seed,
                "confidence": CONFIDENCE,
                "speakers": self.interval_speakers.units,
                "notes": [note for note in (self.interval.note, self.interval_speakers.note) if note],
            },
        }


def evaluate_texts(
    ids: Sequence[str],
    references: Sequence[str],
    hypotheses: Sequence[str],
    speakers: Sequence[str | None] | None,
    normalizer: str,
    *,
    alignment: str = "jiwer",
    bootstrap: int = 1000,
    seed: int = 0,
) -> ErrorRates:
    """Everything that is reported of one test set: normalised and raw rates, both alignments, intervals.

    Args:
        ids: utterance ids, unique.
        references: transcripts as they are in the corpus.
        hypotheses: what was recognised.
        speakers: speaker or talk of each utterance; None where they are not known.
        normalizer: a name in `audio_lottery.data.text.NORMALIZERS`.
        alignment: of the counts and the intervals; NIST's counts are there in any case.
        bootstrap: resamples of the intervals.
        seed: seed of the resamples.

    Raises:
        TextError: as `audio_lottery.evaluation.counts.count_errors`.
    """
    counts = count_errors(ids, references, hypotheses, normalizer, speakers=speakers, alignment=alignment)
    raw = counts if normalizer == "none" else count_errors(ids, references, hypotheses, "none", alignment=alignment)
    return ErrorRates(
        counts=counts,
        nist=counts.realigned("nist"),
        raw_wer=raw.wer,
        raw_cer=raw.cer,
        interval=wer_interval(counts, resamples=bootstrap, seed=seed),
        interval_speakers=wer_interval(counts, by="speakers", resamples=bootstrap, seed=seed),
        resamples=bootstrap,
        seed=seed,
    )
