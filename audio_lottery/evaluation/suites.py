"""Test suites: WER of one model under named conditions."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from accelerate import Accelerator
from datasets import Dataset

from audio_lottery.config import EvaluationConfig, SuiteConfig
from audio_lottery.data.batching import AudioTransform
from audio_lottery.data.noise import get_noise_source, is_silent, mix_at_snr, utterance_rng
from audio_lottery.evaluation.transcribe import transcribe
from audio_lottery.evaluation.wer import score
from audio_lottery.models.ctc import Recogniser
from audio_lottery.storage import write_bytes

Transcripts = list[tuple[str, str, str]]
"""(utterance id, reference, hypothesis), before normalisation."""


def noise_transform(suite: SuiteConfig, seed: int, root: Path) -> AudioTransform | None:
    """The function that adds a suite's noise to an utterance, or None for a clean suite.

    The noise is drawn from (seed, suite name, utterance id) alone: the same on every run, machine and batch size.
    A digitally silent utterance has no signal-to-noise ratio and stays as it is.

    Raises:
        CorpusError: the noise folder is missing or empty.
    """
    if suite.noise is None or suite.snr_db is None:
        return None
    spec = suite.noise if suite.noise in ("white", "pink") else str(root / Path(suite.noise).expanduser())
    source = get_noise_source(spec)
    snr_db = suite.snr_db

    def add_noise(audio: np.ndarray, row: Mapping[str, Any], epoch: int) -> np.ndarray:
        if is_silent(audio):
            return audio
        rng = utterance_rng(seed, suite.name, row["id"])
        return mix_at_snr(audio, source.sample(len(audio), rng), snr_db)

    return add_noise


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
) -> tuple[dict[str, Any], Transcripts]:
    """Evaluate one suite.

    Returns:
        The result as it stands in ``metrics.json``, and the transcripts it was computed from.
    """
    hypotheses = transcribe(
        recogniser,
        manifest,
        accelerator,
        max_batch_seconds=config.max_batch_seconds,
        transform=noise_transform(suite, config.seed, root),
        num_workers=num_workers,
        description=suite.name,
    )
    errors = score(manifest["id"], manifest["text"], hypotheses, normalizer)
    result = {
        "suite": suite.name,
        "noise": suite.noise,
        "snr_db": suite.snr_db,
        "seed": config.seed,
        "corpora": sorted(set(manifest["corpus"])),
        "audio_seconds": float(sum(manifest["duration"])),
        **errors.to_dict(),
    }
    return result, list(zip(manifest["id"], manifest["text"], hypotheses, strict=True))


def write_transcripts(path: Path, transcripts: Transcripts) -> None:
    """Write ``id<TAB>reference<TAB>hypothesis`` lines below a header."""
    lines = ["id\treference\thypothesis"]
    lines += ["\t".join(" ".join(field.split()) for field in row) for row in transcripts]
    write_bytes(path, ("\n".join(lines) + "\n").encode())
