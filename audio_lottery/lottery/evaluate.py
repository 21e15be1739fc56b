"""Evaluate any CTC model, ours or not, on the test suites of a configuration."""

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from accelerate import Accelerator
from datasets import Dataset

from audio_lottery.config import ModelConfig, RunConfig
from audio_lottery.data.corpora.hub import stream_windows
from audio_lottery.data.corpora.load import load_manifest
from audio_lottery.data.noise import check_recordings
from audio_lottery.errors import ConfigError
from audio_lottery.evaluation.decoding import make_decoder
from audio_lottery.evaluation.suites import Transcripts, join, measure, transcribe_suite
from audio_lottery.models.ctc import load_trained
from audio_lottery.training.processes import make_accelerator

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Evaluation:
    """What a model did on one suite.

    Attributes:
        result: as it stands in ``metrics.json``.
        transcripts: what it was computed from.
    """

    result: dict[str, Any]
    transcripts: Transcripts


def evaluate_model(checkpoint: str, config: RunConfig, *, stream: bool = False) -> dict[str, Evaluation]:
    """Run every suite of ``config.evaluation`` on ``config.data.test``.

    Args:
        checkpoint: folder or Hub id of any model that ``AutoModelForCTC.from_pretrained`` loads.
        config: gives test splits, suites, decoder and normaliser; of its model section only ``attention`` and
            ``revision`` are used.
        stream: read the test splits, which must be of the corpus ``hub``, window by window, without keeping them.

    Returns:
        Suite name → evaluation, on every process.

    Raises:
        ModelError: the model cannot be loaded.
        CorpusError: a test corpus is missing or damaged.
        ConfigError: ``stream`` with a corpus that cannot be streamed.
        AudioError: a noise or RIR file of a suite is silent, constant or damaged.
    """
    root = Path(config.data.root).expanduser()
    check_recordings((), config.evaluation.suites, root)
    accelerator = make_accelerator("no", config.num_processes)
    source = ModelConfig(init=checkpoint, attention=config.model.attention, revision=config.model.revision)
    recogniser = load_trained(source)
    recogniser.model.to(accelerator.device)
    decoder = make_decoder(config.evaluation.decoder, recogniser, root)
    parts: dict[str, list[Transcripts]] = {suite.name: [] for suite in config.evaluation.suites}
    for manifest in _windows(config, root) if stream else _whole(config, root, accelerator):
        for suite in config.evaluation.suites:
            transcripts = transcribe_suite(
                recogniser,
                manifest,
                suite,
                accelerator,
                config.evaluation,
                root=root,
                num_workers=config.data.num_workers,
                decoder=decoder,
            )
            parts[suite.name].append(transcripts)
    outcome = {}
    for suite in config.evaluation.suites:
        transcripts = join(parts[suite.name])
        result = measure(transcripts, suite, config.evaluation, config.data.normalizer, decoder)
        outcome[suite.name] = Evaluation(result, transcripts)
    return outcome


def _whole(config: RunConfig, root: Path, accelerator: Accelerator) -> Iterator[Dataset]:
    with accelerator.main_process_first():
        manifest = load_manifest(config.data.test, root)
    yield manifest


def _windows(config: RunConfig, root: Path) -> Iterator[Dataset]:
    for corpus in config.data.test:
        if corpus.corpus != "hub":
            raise ConfigError(f"{corpus.corpus} {corpus.split} cannot be streamed: only the corpus hub can")
        yield from stream_windows(corpus, root)
