"""The contract between corpora and everything else: one row, one utterance.

Every corpus reader yields `Utterance` objects; `build_manifest` turns them into a `datasets.Dataset` with the columns
of `FEATURES`. Nothing behind this file knows which corpus a row came from.
"""

from collections.abc import Iterable
from dataclasses import asdict, dataclass

from datasets import Dataset, Features, Value

from audio_lottery.errors import CorpusError

FEATURES = Features(
    {
        "id": Value("string"),
        "audio": Value("string"),
        "start": Value("float64"),
        "end": Value("float64"),
        "text": Value("string"),
        "speaker": Value("string"),
        "duration": Value("float64"),
        "corpus": Value("string"),
    }
)


@dataclass(frozen=True, slots=True)
class Utterance:
    """One row of a manifest.

    Attributes:
        id: unique within the manifest; stable between runs (it seeds the noise of the utterance).
        audio: absolute path of the audio file.
        start: where the utterance starts in the file, in seconds.
        end: where it ends in the file, in seconds; a whole file is ``start=0, end=its duration``.
        text: the transcript in the corpus's own spelling and case, its markup removed.
        speaker: speaker id (talk id where the corpus has no speakers).
        duration: ``end - start`` in seconds.
        corpus: which corpus and split, e.g. ``librispeech/train-clean-100``.
    """

    id: str
    audio: str
    start: float
    end: float
    text: str
    speaker: str
    duration: float
    corpus: str


def build_manifest(rows: Iterable[Utterance], where: str) -> Dataset:
    """A manifest from the utterances of a reader, in the reader's order.

    Args:
        rows: what a reader yields.
        where: the corpus and split, for messages.

    Raises:
        CorpusError: no rows, a repeated id, or a segment of zero or negative length.
    """
    utterances = list(rows)
    if not utterances:
        raise CorpusError(f"{where}: no utterances found; check the folder and the split name")
    seen: set[str] = set()
    for utterance in utterances:
        if utterance.id in seen:
            raise CorpusError(f"{where}: utterance id '{utterance.id}' occurs twice; ids must be unique")
        seen.add(utterance.id)
        if utterance.end <= utterance.start or utterance.start < 0:
            raise CorpusError(
                f"{where}: utterance '{utterance.id}' runs from {utterance.start} s to {utterance.end} s of "
                f"{utterance.audio}: a segment must start at 0 or later and be longer than zero; correct or remove it"
            )
    return Dataset.from_list([asdict(u) for u in utterances], features=FEATURES)
