"""Evaluate any model, ours or not, on the test suites of a configuration."""

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
from audio_lottery.evaluation.evaluator import make_evaluator
from audio_lottery.evaluation.runtime import on_runtime
from audio_lottery.evaluation.transcripts import Transcripts, join
from audio_lottery.models.load import load_trained
from audio_lottery.processes import make_accelerator


@dataclass(frozen=True)
class SuiteOutcome:
    """What a model did on one suite.

    Attributes:
        result: as it stands in ``metrics.json``.
        transcripts: what it was computed from.
    """

    result: dict[str, Any]
    transcripts: Transcripts


def evaluate_model(checkpoint: str, config: RunConfig, *, stream: bool = False) -> dict[str, SuiteOutcome]:
    """Run every suite of ``config.evaluation`` on ``config.data.test``.

    Args:
        checkpoint: folder or Hub id of any model that a family of `audio_lottery.models` takes.
        config: gives test splits, suites, decoder and normaliser; of its model section only ``attention``,
            ``revision``, ``window`` and ``language`` are used.
        stream: read the test splits, which must be of the corpus ``hub``, window by window, without keeping them.

    Returns:
        Suite name → outcome, on every process.

    Raises:
        ModelError: the model cannot be loaded.
        CorpusError: a test corpus is missing or damaged.
        ConfigError: ``stream`` with a corpus that cannot be streamed.
        AudioError: a noise or RIR file of a suite is silent, constant or damaged.
    """
    root = Path(config.data.root).expanduser()
    check_recordings((), config.evaluation.suites, root)
    accelerator = make_accelerator("no", config.num_processes)
    settings = config.model
    source = ModelConfig(
        init=checkpoint,
        attention=settings.attention,
        revision=settings.revision,
        window=settings.window,
        language=settings.language,
    )
    backbone = load_trained(source)
    backbone.module.to(accelerator.device)
    backbone = on_runtime(backbone, config.evaluation)
    evaluator = make_evaluator(config, accelerator, backbone)
    suites = config.evaluation.suites
    parts: dict[str, list[Transcripts]] = {suite.name: [] for suite in suites}
    for manifest in _windows(config, evaluator.root) if stream else _whole(config, evaluator.root, accelerator):
        for suite in suites:
            parts[suite.name].append(evaluator.transcribe(backbone, manifest, suite))
    joined = {suite.name: join(parts[suite.name]) for suite in suites}
    return {
        suite.name: SuiteOutcome(evaluator.measure(joined[suite.name], suite), joined[suite.name]) for suite in suites
    }


def _whole(config: RunConfig, root: Path, accelerator: Accelerator) -> Iterator[Dataset]:
    with accelerator.main_process_first():
        manifest = load_manifest(config.data.test, root)
    yield manifest


def _windows(config: RunConfig, root: Path) -> Iterator[Dataset]:
    for corpus in config.data.test:
        if corpus.corpus != "hub":
            raise ConfigError(f"{corpus.corpus} {corpus.split} cannot be streamed: only the corpus hub can")
        yield from stream_windows(corpus, root)
