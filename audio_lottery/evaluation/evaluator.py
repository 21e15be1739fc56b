"""Transcribe and measure: everything that stays the same from set to set, in one object."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from accelerate import Accelerator
from datasets import Dataset

from audio_lottery.config import EvaluationConfig, RunConfig, SuiteConfig
from audio_lottery.data.batching import AudioTransform
from audio_lottery.data.noise import make_condition
from audio_lottery.data.text import get_normalizer
from audio_lottery.errors import ModelError
from audio_lottery.evaluation.decoding import Decoder, GreedyDecoder, Hypothesis, make_decoder
from audio_lottery.evaluation.transcribe import transcribe
from audio_lottery.evaluation.transcripts import Transcripts, best_texts
from audio_lottery.evaluation.wer import evaluate_texts, score
from audio_lottery.models.base import Backbone


@dataclass(frozen=True)
class Evaluator:
    """What evaluates every model of a run.

    Attributes:
        accelerator: device and processes; the models it gets are on that device.
        settings: batch size, seed, precision and bootstrap.
        normalizer: text normaliser of every WER.
        root: folder that relative noise paths start from.
        num_workers: DataLoader workers.
        decoder: from emissions to words; None decodes greedily.
    """

    accelerator: Accelerator
    settings: EvaluationConfig
    normalizer: str
    root: Path
    num_workers: int = 0
    decoder: Decoder | None = None

    def run(self, backbone: Backbone, manifest: Dataset, suite: SuiteConfig) -> tuple[dict[str, Any], Transcripts]:
        """Evaluate one suite.

        Args:
            backbone: the model.
            manifest: the test set; none of it is dropped.
            suite: the condition.

        Returns:
            The result as it stands in ``metrics.json``, and the transcripts it was computed from.

        Raises:
            CorpusError: a noise folder is missing, empty or has no file of the part that was asked for.
            ModelError: an utterance is longer than the model can take.
        """
        transcripts = self.transcribe(backbone, manifest, suite)
        return self.measure(transcripts, suite), transcripts

    def transcribe(self, backbone: Backbone, manifest: Dataset, suite: SuiteConfig) -> Transcripts:
        """The transcripts of one suite; arguments as in `run`."""
        _check_lengths(manifest, self.settings.max_utterance_seconds)
        condition = make_condition(suite, self.root, self.settings.seed, manifest)
        return Transcripts(
            ids=manifest["id"][:],
            references=manifest["text"][:],
            nbest=self.hypotheses(backbone, manifest, condition, suite.name),
            speakers=manifest["speaker"][:],
            corpora=sorted(set(manifest["corpus"])),
            seconds=float(sum(manifest["duration"])),
        )

    def hypotheses(
        self, backbone: Backbone, manifest: Dataset, transform: AudioTransform | None = None, description: str = ""
    ) -> list[list[Hypothesis]]:
        """The hypotheses of every row, best first, in the manifest's order, on every process."""
        decoder = self.decoder or GreedyDecoder(backbone)
        return transcribe(
            backbone,
            manifest,
            self.accelerator,
            decoder,
            settings=self.settings,
            transform=transform,
            num_workers=self.num_workers,
            description=description,
        )

    def score(self, backbone: Backbone, manifest: Dataset, max_batch_seconds: float | None = None) -> dict[str, Any]:
        """Greedy error rates in float32, without intervals: what a training looks at on dev.

        Args:
            backbone: the model.
            manifest: dev.
            max_batch_seconds: budget of padded audio of a batch; None suits the device.
        """
        settings = replace(self.settings, max_batch_seconds=max_batch_seconds, runtime="torch", precision="no")
        plain = replace(self, settings=settings, decoder=None)
        nbest = plain.hypotheses(backbone, manifest, description="dev")
        return score(manifest["id"], manifest["text"], best_texts(nbest), self.normalizer).to_dict()

    def measure(self, transcripts: Transcripts, suite: SuiteConfig) -> dict[str, Any]:
        """What ``metrics.json`` says of one suite: the condition, the counts, the error rates and their intervals."""
        settings = self.settings
        rates = evaluate_texts(
            transcripts.ids,
            transcripts.references,
            transcripts.hypotheses,
            transcripts.speakers,
            self.normalizer,
            bootstrap=settings.bootstrap,
            seed=settings.seed,
        )
        beside = {
            name: score(transcripts.ids, transcripts.references, transcripts.hypotheses, name)
            for name in settings.beside
        }
        return {
            "suite": suite.name,
            "noise": suite.noise,
            "noise_part": suite.noise_part if suite.noise else None,
            "snr_db": suite.snr_db,
            "rir": suite.rir,
            "seed": settings.seed,
            "runtime": settings.runtime,
            "precision": settings.precision,
            "decoder": "greedy" if self.decoder is None else self.decoder.name,
            "corpora": transcripts.corpora,
            "audio_seconds": transcripts.seconds,
            **rates.to_dict(),
            "beside": {name: {"wer": errors.wer, "cer": errors.cer} for name, errors in beside.items()},
        }


def _check_lengths(manifest: Dataset, limit: float) -> None:
    durations = np.asarray(manifest["duration"])
    longest = int(durations.argmax())
    if durations[longest] > limit:
        raise ModelError(
            f"utterance '{manifest[longest]['id']}' lasts {durations[longest]:.1f} s and "
            f"evaluation.max_utterance_seconds is {limit:g}; raise it if memory allows, or cut the recording into "
            "segments: test utterances are never left out"
        )


def make_evaluator(config: RunConfig, accelerator: Accelerator, backbone: Backbone | None = None) -> Evaluator:
    """The evaluator of a configuration; with its decoder where the ``backbone`` to evaluate is known.

    Raises:
        ConfigError: as `make_decoder`; or an unknown normaliser.
    """
    root = Path(config.data.root).expanduser()
    decoder = None if backbone is None else make_decoder(config.evaluation.decoder, backbone, root)
    for name in (config.wer_normalizer, *config.evaluation.beside):
        get_normalizer(name)  # an unknown name is told now and not after the first epoch
    return Evaluator(accelerator, config.evaluation, config.wer_normalizer, root, config.data.num_workers, decoder)
