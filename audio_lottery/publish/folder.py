"""The folder that is uploaded: put together whole, or not at all."""

import os
import shutil
from pathlib import Path
from typing import Any

import datasets
import yaml
from huggingface_hub import eval_result_entries_to_yaml
from huggingface_hub.utils import yaml_dump

from audio_lottery.config import RunConfig
from audio_lottery.lottery.run_folder import MASK_FILE, MODEL_FILE, MOVEMENT_FILE, RunFolder
from audio_lottery.models.base import Backbone
from audio_lottery.publish.card import render_card
from audio_lottery.publish.checks import CheckedRound
from audio_lottery.publish.merge import merge_cards
from audio_lottery.publish.metadata import base_model, benchmark_entries, card_data
from audio_lottery.publish.names import (
    CARD_FILE,
    CURVE_FILE,
    SETTINGS_FILE,
    TICKET_FILE,
    Chosen,
    Target,
)
from audio_lottery.publish.places import public_settings
from audio_lottery.publish.terms import corpora_of
from audio_lottery.settings import without_places
from audio_lottery.sparse.format import FILE as SPARSE_FILE
from audio_lottery.sparse.format import save as save_sparse
from audio_lottery.storage import SEAL, file_sha256, read_json, sealed_folder, write_bytes, write_json

SCHEMA = 1
"""Version of ticket.json."""

# What a round's folder holds for the search and nobody else.
_NOT_PUBLISHED = ("metrics.json", "hypotheses/", MOVEMENT_FILE)


def assemble(chosen: Chosen, config: RunConfig, checked: CheckedRound, target: Target) -> Path:
    """Write ``RUN/publish/round_NN``: weights dense and sparse, mask, config, processor, provenance, card, picture.

    Args:
        chosen: which round.
        config: of its run.
        checked: its model and mask.
        target: where it goes, and what is there.

    Returns:
        The folder; a second call replaces it.

    Raises:
        StorageError: the disk is full or the folder cannot be written; what was there before is still there.
        HubError: the card in the repository cannot be read.
    """
    folder = chosen.group.first.folder.path / "publish" / chosen.folder.name
    with sealed_folder(folder) as temporary:
        for name in read_json(chosen.folder / SEAL)["files"]:
            if not name.startswith(_NOT_PUBLISHED):
                (temporary / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(chosen.folder / name, temporary / name)
        sparse = temporary / ".sparse"
        save_sparse(checked.backbone.module, sparse)
        os.replace(sparse / SPARSE_FILE, temporary / SPARSE_FILE)
        shutil.rmtree(sparse)
        curve = chosen.group.first.folder.path / CURVE_FILE
        if curve.is_file():
            shutil.copyfile(curve, temporary / CURVE_FILE)
        write_json(temporary / TICKET_FILE, _provenance(chosen, config, checked, temporary))
        settings = yaml.safe_dump(public_settings(config), sort_keys=False, allow_unicode=True)
        write_bytes(temporary / SETTINGS_FILE, settings.encode())
        for name, entries in benchmark_entries(chosen, target.repo).items():
            text = yaml_dump(eval_result_entries_to_yaml(entries))
            write_bytes(temporary / ".eval_results" / f"{name}.yaml", text.encode())
        write_bytes(temporary / CARD_FILE, _card(chosen, config, checked, target, temporary).encode())
    return folder


def published_files(folder: Path) -> dict[str, int]:
    """Name → bytes of what is uploaded of an assembled folder, in a fixed order."""
    return {
        path.relative_to(folder).as_posix(): path.stat().st_size
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path != folder / SEAL
    }


def trained_on(run: RunFolder, config: RunConfig) -> list[str]:
    """Corpora that θ and the rounds were trained on, as their manifests name them."""
    names: set[str] = set()
    for split, entries in (("train", config.data.train), ("theta_train", config.theta.train)):
        if entries:
            names.update(corpora_of(entries, datasets.load_from_disk(str(run.data / split))))
    return sorted(names)


def plain_class(backbone: Backbone) -> str:
    """The class that loads the module with transformers alone; empty where that has none."""
    kind = type(backbone.module)
    return kind.__name__ if kind.__module__.startswith("transformers.") else ""


def _provenance(chosen: Chosen, config: RunConfig, checked: CheckedRound, folder: Path) -> dict[str, Any]:
    remeasured = checked.remeasured
    return {
        "schema": SCHEMA,
        "run": chosen.group.name,
        "round": chosen.number,
        "marks": chosen.marks,
        "base_model": base_model(config),
        "mask_sha256": checked.mask.sha256(),
        "files_sha256": {name: file_sha256(folder / name) for name in (MODEL_FILE, SPARSE_FILE, MASK_FILE)},
        "remeasured": None if remeasured is None else remeasured.to_dict(),
        "metrics": without_places(chosen.group.first.rounds[chosen.number]),
    }


def _card(chosen: Chosen, config: RunConfig, checked: CheckedRound, target: Target, folder: Path) -> str:
    corpora, plain = trained_on(chosen.group.first.folder, config), plain_class(checked.backbone)
    body = render_card(
        chosen,
        config,
        target=target,
        trained_on=corpora,
        sizes={name: (folder / name).stat().st_size for name in (MODEL_FILE, SPARSE_FILE, MASK_FILE)},
        remeasured=checked.remeasured,
        plain=plain,
        curve=(folder / CURVE_FILE).is_file(),
    )
    data = card_data(chosen, config, target.repo, corpora, target.licence, bool(plain))
    return merge_cards(data, body, target.old_card, keep_licence=target.licence is None)
