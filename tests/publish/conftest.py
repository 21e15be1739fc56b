"""One small finished run for all tests of publishing."""

from pathlib import Path

import pytest

from audio_lottery.config import ModelConfig, SearchConfig, TrainingConfig
from audio_lottery.lottery.search import search
from audio_lottery.report.write import write_report
from tests.conftest import TINY_MODEL
from tests.lottery.test_methods import PruningConfig, settings


@pytest.fixture(scope="session")
def published_run(tiny_corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two pruned rounds, 4 steps each: everything that a search leaves. Not to be changed."""
    run_dir = tmp_path_factory.mktemp("publish") / "demo"
    training = TrainingConfig(max_steps=4, max_batch_seconds=8, learning_rate=2e-3, eval_every=4)
    config = settings(
        tiny_corpus,
        run_dir,
        PruningConfig(),
        search=SearchConfig(2),
        training=training,
        model=ModelConfig(init="w2v2-mini", overrides=TINY_MODEL),
    )
    search(config, on_round=write_report)
    return run_dir
