"""What of a manifest is trained on; every utterance that is not is counted."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from datasets import Dataset
from transformers import Wav2Vec2Processor

from audio_lottery.config import DataConfig
from audio_lottery.data.audio import SAMPLE_RATE
from audio_lottery.data.text import LabelEncoder, check_vocabulary, get_normalizer, min_ctc_frames
from audio_lottery.errors import CorpusError


@dataclass(frozen=True)
class TrainingData:
    """A filtered training set.

    Attributes:
        manifest: the rows that are trained on.
        labels: label ids of each row.
        dropped: reason → number of utterances left out.
        seconds: audio that is trained on, in seconds.
    """

    manifest: Dataset
    labels: list[list[int]]
    dropped: dict[str, int]
    seconds: float


def prepare_training(
    manifest: Dataset, processor: Wav2Vec2Processor, frames: Callable[[int], int], config: DataConfig
) -> TrainingData:
    """Encode the transcripts and leave out what cannot be trained on.

    Left out and counted are utterances with an empty transcript, shorter than ``min_seconds``, longer than
    ``max_seconds``, with fewer output frames than their labels need (labels + adjacent repeats: CTC has no alignment
    for them), and, where ``out_of_vocabulary`` is ``drop``, with characters outside the vocabulary.
    Test sets never pass through here.

    Args:
        manifest: the training rows.
        processor: gives the vocabulary.
        frames: number of samples → number of output frames of the model.
        config: limits and policies.

    Raises:
        TextError: characters outside the vocabulary (listed), where the policy is ``error``.
        CorpusError: nothing is left.
    """
    normalize = get_normalizer(config.normalizer)
    texts = [normalize(text) for text in manifest["text"]]
    if config.out_of_vocabulary == "error":
        check_vocabulary(zip(manifest["id"], texts, strict=True), processor, where="the training set")
    encoder = LabelEncoder.from_processor(processor)
    dropped: Counter[str] = Counter()
    kept: list[int] = []
    labels: list[list[int]] = []
    for index, (text, duration) in enumerate(zip(texts, manifest["duration"], strict=True)):
        reason = None
        if not text:
            reason = "empty transcript"
        elif duration < config.min_seconds:
            reason = f"shorter than {config.min_seconds:g} s"
        elif duration > config.max_seconds:
            reason = f"longer than {config.max_seconds:g} s"
        elif encoder.unknown(text):
            reason = "characters outside the vocabulary"
        else:
            encoded = encoder.encode(text)
            if min_ctc_frames(encoded) > frames(int(duration * SAMPLE_RATE)):
                reason = "more labels than frames"
        if reason is not None:
            dropped[reason] += 1
            continue
        kept.append(index)
        labels.append(encoded)
    if not kept:
        counts = ", ".join(f"{number} {reason}" for reason, number in dropped.items())
        raise CorpusError(
            f"no speech is left to train on after filtering: {counts}; see data.min_seconds, data.max_seconds"
        )
    selected = manifest.select(kept)
    return TrainingData(selected, labels, dict(dropped), float(sum(selected["duration"])))
