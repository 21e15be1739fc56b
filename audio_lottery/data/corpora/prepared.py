"""Corpora that ``audio-lottery prepare`` made: manifests on disk, memory-mapped, nothing read twice.

``DIR/manifests/<corpus>-<split>`` is a sealed folder (`audio_lottery.storage`) of two files: ``manifest.arrow``, with
the columns of `audio_lottery.data.manifest.FEATURES`, and ``manifest.json``, which says what is in it.
"""

import os
from pathlib import Path
from typing import Any

from datasets import Dataset

from audio_lottery.data.corpora._files import absolute, folders, listed
from audio_lottery.data.manifest import FEATURES
from audio_lottery.errors import CorpusError, RunError
from audio_lottery.storage import is_sealed, read_json, recover_retired, verify_sealed

MANIFESTS = "manifests"
ARROW = "manifest.arrow"
SUMMARY = "manifest.json"


def load_prepared(root: Path, split: str) -> Dataset:
    """The manifest of a split that was prepared, memory-mapped.

    Args:
        root: the folder given to ``audio-lottery prepare ... --out``.
        split: the split's name, or ``<corpus>-<split>`` where several corpora were prepared into one folder.

    Raises:
        CorpusError: nothing was prepared there, the split was not, or its manifest is damaged or was made for
            another folder.
    """
    root = absolute(root)
    manifests = prepared_splits(root)
    if not manifests:
        raise CorpusError(
            f"prepared/{split}: no prepared manifests in {root}; make them with `audio-lottery prepare CORPUS --out "
            f"{root}`"
        )
    matches = [folder for folder, info in manifests.items() if split in (folder.name, info.get("split"))]
    if len(matches) != 1:
        names = listed([folder.name for folder in (matches or manifests)])
        problem = "several corpora have this split; name one" if matches else "no such split was prepared; there are"
        raise CorpusError(f"prepared/{split}: in {root} {problem}: {names}")
    folder = matches[0]
    remedy = f"remove {folder} and run `audio-lottery prepare` again"
    try:
        verify_sealed(folder, remedy)
        dataset = Dataset.from_file(str(folder / ARROW))
    except (RunError, OSError, KeyError, TypeError, ValueError) as error:
        # An Arrow file that cannot be parsed raises ArrowInvalid, which is a ValueError.
        raise CorpusError(f"prepared/{split}: {error}; {remedy}" if remedy not in str(error) else str(error)) from error
    if dataset.features != FEATURES:
        raise CorpusError(f"prepared/{split}: {folder} has columns {listed(list(dataset.features))}; {remedy}")
    was = manifests[folder].get("root", "")
    if not (os.path.isdir(was) and os.path.samefile(was, root)):
        raise CorpusError(
            f"prepared/{split}: {root} was prepared as {was}, and its paths start there; run the same `audio-lottery "
            f"prepare` again with --out {root}: only the manifests are made anew"
        )
    return dataset


def prepared_splits(root: Path) -> dict[Path, dict[str, Any]]:
    """The finished manifests of a folder → their summaries, by name; a damaged summary is empty."""
    found: dict[Path, dict[str, Any]] = {}
    if (root / MANIFESTS).is_dir():
        for retired in (root / MANIFESTS).glob(".*.old"):
            recover_retired(retired.with_name(retired.name[1:].removesuffix(".old")))
        for folder in folders(root / MANIFESTS):
            if is_sealed(folder):
                try:
                    info = read_json(folder / SUMMARY)
                except RunError:
                    info = {}
                found[folder] = info if isinstance(info, dict) else {}
    return found
