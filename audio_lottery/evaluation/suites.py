"""Test suites: WER of one model under named conditions."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from accelerate import Accelerator
from datasets import Dataset

from audio_lottery.config import EvaluationConfig, SuiteConfig
from audio_lottery.data.noise import make_condition
from audio_lottery.errors import ModelError
from audio_lottery.evaluation.decoding import Decoder, Hypothesis
from audio_lottery.evaluation.transcribe import best_texts, transcribe
from audio_lottery.evaluation.wer import evaluate_texts
from audio_lottery.models.ctc import Recogniser
from audio_lottery.storage import write_bytes


@dataclass(frozen=True, slots=True)
class Transcripts:
    """What was said and what was recognised, before normalisation.

    Attributes:
        ids: utterance ids.
        references: transcripts in the corpus's own spelling.
        nbest: hypotheses of each utterance, best first.
        speakers: speaker or talk of each utterance.
        corpora: names of the corpora they come from, sorted.
        seconds: audio in all.
    """

    ids: list[str]
    references: list[str]
    nbest: list[list[Hypothesis]]
    speakers: list[str]
    corpora: list[str]
    seconds: float

    @property
    def hypotheses(self) -> list[str]:
        """The best hypothesis of every utterance."""
        return best_texts(self.nbest)

    def write(self, path: Path) -> None:
        """Write ``id, reference, hypothesis, speaker`` lines, tabs between, below a header.

        Raises:
            StorageError: the file could not be written.
        """
        rows = zip(self.ids, self.references, self.hypotheses, self.speakers, strict=True)
        lines = ["id\treference\thypothesis\tspeaker"]
        lines += ["\t".join(" ".join(field.split()) for field in row) for row in rows]
        write_bytes(path, ("\n".join(lines) + "\n").encode())


def run_suite(
    recogniser: Recogniser,
    manifest: Dataset,
    suite: SuiteConfig,
    accelerator: Accelerator,
    config: EvaluationConfig,
    *,
    normalizer: str,
    root: Path,
    num_workers: int = 0,
    decoder: Decoder | None = None,
) -> tuple[dict[str, Any], Transcripts]:
    """Evaluate one suite.

    Args:
        recogniser: its model must be on ``accelerator.device``.
        manifest: the test set; none of it is dropped.
        suite: the condition.
        accelerator: device and processes.
        config: batch size, seed, precision and bootstrap.
        normalizer: text normaliser of the WER.
        root: folder that relative noise paths start from.
        num_workers: DataLoader workers.
        decoder: from logits to words; None decodes greedily.

    Returns:
        The result as it stands in ``metrics.json``, and the transcripts it was computed from.

    Raises:
        CorpusError: a noise folder is missing, empty or has no file of the part that was asked for.
        ModelError: an utterance is longer than the model can take.
    """
    transcripts = transcribe_suite(
        recogniser, manifest, suite, accelerator, config, root=root, num_workers=num_workers, decoder=decoder
    )
    return measure(transcripts, suite, config, normalizer, decoder), transcripts


def transcribe_suite(
    recogniser: Recogniser,
    manifest: Dataset,
    suite: SuiteConfig,
    accelerator: Accelerator,
    config: EvaluationConfig,
    *,
    root: Path,
    num_workers: int = 0,
    decoder: Decoder | None = None,
) -> Transcripts:
    """The transcripts of one suite; arguments as in `run_suite`."""
    _check_lengths(manifest, config.max_utterance_seconds)
    nbest = transcribe(
        recogniser,
        manifest,
        accelerator,
        decoder=decoder,
        max_batch_seconds=config.max_batch_seconds,
        precision=config.precision,
        transform=make_condition(suite, root, config.seed, manifest),
        num_workers=num_workers,
        description=suite.name,
    )
    return Transcripts(
        ids=manifest["id"][:],
        references=manifest["text"][:],
        nbest=nbest,
        speakers=manifest["speaker"][:],
        corpora=sorted(set(manifest["corpus"])),
        seconds=float(sum(manifest["duration"])),
    )


def _check_lengths(manifest: Dataset, limit: float) -> None:
    durations = np.asarray(manifest["duration"])
    longest = int(durations.argmax())
    if durations[longest] > limit:
        raise ModelError(
            f"utterance '{manifest[longest]['id']}' lasts {durations[longest]:.1f} s and "
            f"evaluation.max_utterance_seconds is {limit:g}; raise it if memory allows, or cut the recording into "
            "segments: test utterances are never left out"
        )


def join(parts: Sequence[Transcripts]) -> Transcripts:
    """One set of transcripts from those of several manifests."""
    return Transcripts(
        ids=[utterance_id for part in parts for utterance_id in part.ids],
        references=[text for part in parts for text in part.references],
        nbest=[hypotheses for part in parts for hypotheses in part.nbest],
        speakers=[speaker for part in parts for speaker in part.speakers],
        corpora=sorted({corpus for part in parts for corpus in part.corpora}),
        seconds=sum(part.seconds for part in parts),
    )


def measure(
    transcripts: Transcripts,
    suite: SuiteConfig,
    config: EvaluationConfig,
    normalizer: str,
    decoder: Decoder | None = None,
) -> dict[str, Any]:
    """What ``metrics.json`` says of one suite: the condition, the counts, the error rates and their intervals."""
    return {
        "suite": suite.name,
        "noise": suite.noise,
        "noise_part": suite.noise_part if suite.noise else None,
        "snr_db": suite.snr_db,
        "rir": suite.rir,
        "seed": config.seed,
        "precision": config.precision,
        "decoder": decoder.name if decoder is not None else "greedy",
        "corpora": transcripts.corpora,
        "audio_seconds": transcripts.seconds,
        **evaluate_texts(
            transcripts.ids,
            transcripts.references,
            transcripts.hypotheses,
            transcripts.speakers,
            normalizer,
            bootstrap=config.bootstrap,
            seed=config.seed,
        ).to_dict(),
    }
