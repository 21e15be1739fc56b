"""Shared by all tests: offline, a tiny corpus on disk, and a tiny run on the mini corpora."""

import os
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import gc
import json

import numpy as np
import pytest
import soundfile
import yaml

TESTS = Path(__file__).parent
# What `make test-fast` leaves out, beside single tests with the marker: files that launch processes, or that take more
# than a few seconds of one core. A prefix of the path below tests/ is enough.
SLOW = (
    "commands/",
    "data/test_audio.py",
    "data/test_hub_corpus.py",
    "data/test_jsonl.py",
    "data/test_manifest.py",
    "data/test_mini.py",
    "data/noise/test_mixing.py",
    "data/text/test_text_normalize.py",
    "e2e/",
    "evaluation/decoding/test_workers.py",
    "evaluation/test_any_budget.py",
    "evaluation/test_bootstrap.py",
    "export/",
    "grid/",
    "lottery/",
    "models/",
    "publish/",
    "pruning/test_callback.py",
    "pruning/test_literal_masks.py",
    "pruning/test_prune.py",
    "pruning/test_selection.py",
    "pruning/test_wrappers.py",
    "report/",
    "sparse/",
    "test_extending.py",
    "test_settings.py",
    "test_shipped.py",
    "training/test_loop.py",
    "training/test_movement.py",
    "training/test_tracking.py",
)

WORDS = ["one", "two", "three", "four", "yes", "no"]


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what `SLOW` names, before the option -m is looked at, and put those files first: nobody waits for them."""
    for item in items:
        if item.path.relative_to(TESTS).as_posix().startswith(SLOW):
            item.add_marker(pytest.mark.slow)
    slow = {item.path for item in items if "slow" in item.keywords}
    items.sort(key=lambda item: item.path not in slow)


@pytest.fixture(autouse=True)
def no_sync(monkeypatch: pytest.MonkeyPatch) -> None:
    """Do not wait for the disk: a fifth of a small search is that, and no test cuts this process's power.

    Processes that tests start, and kill, wait as everybody's do.
    """
    monkeypatch.setattr("os.fsync", lambda descriptor: None)


def pytest_collection_finish() -> None:
    """Freeze what is imported: collections look through a million objects of torch, half a second every round."""
    gc.collect()
    gc.freeze()


def write_jsonl_corpus(folder: Path, name: str, count: int, seed: int = 0) -> Path:
    """A JSON-lines corpus of noise bursts of 0.6-1.4 s: not speech, enough to run the machinery."""
    rng = np.random.default_rng([seed, len(name)])
    folder.mkdir(parents=True, exist_ok=True)
    lines = []
    for index in range(count):
        samples = int(16_000 * rng.uniform(0.6, 1.4))
        audio = folder / f"{name}-{index:03d}.flac"
        soundfile.write(audio, rng.normal(0, 0.1, samples), 16_000)
        text = " ".join(WORDS[i] for i in rng.integers(0, len(WORDS), 2))
        lines.append({"id": audio.stem, "audio_filepath": audio.name, "text": text, "duration": samples / 16_000})
    path = folder / f"{name}.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


TINY_MODEL = {
    "conv_dim": [16, 16, 16, 16],
    "hidden_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 48,
    "num_conv_pos_embeddings": 8,
    "num_conv_pos_embedding_groups": 4,
}


def tiny_settings(root: Path, run_dir: Path) -> dict:
    """Settings of a search that takes seconds: three rounds of a 30 k-parameter Wav2Vec2 on ``root``'s corpora."""

    def corpus(split: str) -> list[dict]:
        return [{"corpus": "jsonl", "split": split}]

    training = {"max_steps": 8, "max_batch_seconds": 8, "learning_rate": 0.002, "eval_every": 4, "save_every": 2}
    return {
        "run_dir": str(run_dir),
        "seed": 5,
        "data": {"root": str(root), "train": corpus("train"), "dev": corpus("dev"), "test": corpus("test")},
        "model": {"init": "w2v2-mini", "overrides": TINY_MODEL},
        "theta": {"train": corpus("train"), "dev": corpus("dev"), "training": training},
        "training": training,
        "search": {"rounds": 2},
    }


@pytest.fixture(scope="session")
def tiny_corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with train.jsonl (24 utterances), dev.jsonl (6) and test.jsonl (8)."""
    root = tmp_path_factory.mktemp("corpus")
    for name, count in (("train", 24), ("dev", 6), ("test", 8)):
        write_jsonl_corpus(root, name, count)
    return root


@pytest.fixture
def tiny_config_file(tiny_corpus: Path, tmp_path: Path) -> Path:
    """A YAML file with `tiny_settings`, run folder ``tmp_path/run``."""
    path = tmp_path / "tiny.yaml"
    path.write_text(yaml.safe_dump(tiny_settings(tiny_corpus, tmp_path / "run")))
    return path
