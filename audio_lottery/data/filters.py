"""What of a manifest is trained on; every utterance that is not is counted."""

from array import array
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from datasets import Dataset

from audio_lottery.config import DataConfig
from audio_lottery.data.audio import SAMPLE_RATE
from audio_lottery.data.text import Vocabulary, check_vocabulary, get_normalizer
from audio_lottery.errors import CorpusError


@dataclass(frozen=True)
class TrainingData:
    """A filtered training set.

    Attributes:
        manifest: the rows that are trained on.
        encode: transcript of a row → its label ids.
        dropped: reason → number of utterances left out.
        seconds: audio that is trained on, in seconds.
    """

    manifest: Dataset
    encode: Callable[[str], list[int]]
    dropped: dict[str, int]
    seconds: float


def prepare_training(
    manifest: Dataset,
    vocabulary: Vocabulary,
    can_align: Callable[[Sequence[int], int], bool],
    config: DataConfig,
    fastest: float = 1.0,
    longest: float | None = None,
) -> TrainingData:
    """Encode the transcripts and leave out what cannot be trained on.

    Left out and counted are utterances with an empty transcript, shorter than ``min_seconds``, longer than
    ``max_seconds`` or the model takes, with more labels than it can write over their audio (``can_align``), and, where
    ``out_of_vocabulary`` is ``drop``, with characters outside the vocabulary.
    Test sets never pass through here.

    Args:
        manifest: the training rows.
        vocabulary: transcripts → labels.
        can_align: (labels, samples) → whether the model can write so many labels over so much audio.
        config: limits and policies.
        fastest: the largest factor of speed perturbation; CTC must have frames enough at that speed too.
        longest: seconds that the model takes at once, at the slowest speed; None takes any.

    Raises:
        TextError: characters outside the vocabulary (listed), where the policy is ``error``.
        CorpusError: nothing is left.
    """
    normalize = get_normalizer(config.normalizer)
    if config.out_of_vocabulary == "error":
        texts = ((row["id"], normalize(row["text"])) for row in _rows(manifest, "id", "text"))
        check_vocabulary(texts, vocabulary, where="the training set")
    encoder = vocabulary

    def reason_to_drop(text: str, duration: float) -> str | None:
        if not text:
            return "empty transcript"
        if duration < config.min_seconds:
            return f"shorter than {config.min_seconds:g} s"
        if duration > config.max_seconds:
            return f"longer than {config.max_seconds:g} s"
        if longest is not None and duration > longest:
            return f"longer than the {longest:g} s that the model takes at once"
        if encoder.unknown(text):
            return "characters outside the vocabulary"
        if not can_align(encoder.encode(text), int(duration * SAMPLE_RATE / fastest)):
            return "more labels than fit"
        return None

    dropped: Counter[str] = Counter()
    kept = array("q")
    seconds = 0.0
    for index, row in enumerate(_rows(manifest, "text", "duration")):
        reason = reason_to_drop(normalize(row["text"]), row["duration"])
        if reason is None:
            kept.append(index)
            seconds += row["duration"]
        else:
            dropped[reason] += 1
    if not kept:
        counts = ", ".join(f"{number} {reason}" for reason, number in dropped.items())
        raise CorpusError(
            f"no speech is left to train on after filtering: {counts}; see data.min_seconds, data.max_seconds"
        )
    selected = manifest.select(np.frombuffer(kept, dtype=np.int64)) if dropped else manifest
    return TrainingData(selected, Transcriber(normalize, encoder), dict(dropped), seconds)


@dataclass(frozen=True)
class Transcriber:
    """Transcript → label ids, normalised first; a class because DataLoader workers may have to pickle it."""

    normalize: Callable[[str], str]
    encoder: Vocabulary

    def __call__(self, text: str) -> list[int]:
        """Label ids of one transcript."""
        return self.encoder.encode(self.normalize(text))


def _rows(manifest: Dataset, *columns: str) -> Iterator[dict[str, Any]]:
    """Some columns row by row, read in blocks, so that memory does not grow with the manifest."""
    for block in manifest.select_columns(list(columns)).iter(batch_size=1000):
        for values in zip(*(block[column] for column in columns), strict=True):
            yield dict(zip(columns, values, strict=True))
