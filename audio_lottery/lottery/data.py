"""The manifests of a run: read once, kept in the run folder, the same after every resume."""

import logging
from dataclasses import dataclass
from pathlib import Path

import datasets
from accelerate import Accelerator
from datasets import Dataset

from audio_lottery.config import RunConfig
from audio_lottery.data.corpora.load import load_manifest
from audio_lottery.data.manifest import total_seconds
from audio_lottery.storage import is_sealed, recover_retired, sealed_folder, verify_sealed

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class RunData:
    """The manifests of a run; ``theta_train`` and ``theta_dev`` are None where θ is not trained."""

    train: Dataset
    dev: Dataset
    test: Dataset
    theta_train: Dataset | None
    theta_dev: Dataset | None


def load_run_data(config: RunConfig, folder: Path, accelerator: Accelerator) -> RunData:
    """Read every corpus of a run, or the manifests that an earlier start of the run saved.

    Raises:
        CorpusError: a corpus is missing or damaged.
        RunError: the saved manifests are damaged.
    """
    if accelerator.is_main_process:
        _prepare(config, folder)
    accelerator.wait_for_everyone()

    def load(name: str) -> Dataset | None:
        path = folder / name
        return datasets.load_from_disk(str(path)) if path.is_dir() else None

    train, dev, test = load("train"), load("dev"), load("test")
    if train is None or dev is None or test is None:
        raise RuntimeError(f"{folder} is sealed and lacks a manifest")
    return RunData(train, dev, test, load("theta_train"), load("theta_dev"))


def _prepare(config: RunConfig, folder: Path) -> None:
    recover_retired(folder)
    if is_sealed(folder):
        verify_sealed(folder, remedy=f"remove {folder} to read the corpora again")
        return
    root = Path(config.data.root).expanduser()
    splits = {"train": config.data.train, "dev": config.data.dev, "test": config.data.test}
    if config.theta.train:
        splits |= {"theta_train": config.theta.train, "theta_dev": config.theta.dev}
    manifests = {name: load_manifest(corpora, root) for name, corpora in splits.items()}
    datasets.disable_progress_bars()
    with sealed_folder(folder) as temporary:
        for name, manifest in manifests.items():
            manifest.save_to_disk(str(temporary / name))
    datasets.enable_progress_bars()
    for name, manifest in manifests.items():
        logger.info("%s: %d utterances, %.2f h", name, len(manifest), total_seconds(manifest) / 3600)
