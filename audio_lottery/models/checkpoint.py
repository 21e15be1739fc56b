"""What a checkpoint holds: its files, looked at before transformers reads them, and its weights beside the model's.

transformers says little, or a traceback, of a file that is cut short, and draws at random, with a log line, what the
weights lack.
"""

import json
import logging
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import validate_repo_id
from safetensors import safe_open
from transformers import AutoConfig, PreTrainedConfig, PreTrainedModel
from transformers.utils import (
    CONFIG_NAME,
    FEATURE_EXTRACTOR_NAME,
    PROCESSOR_NAME,
    SAFE_WEIGHTS_INDEX_NAME,
    SAFE_WEIGHTS_NAME,
    WEIGHTS_INDEX_NAME,
    WEIGHTS_NAME,
)

from audio_lottery.config import ModelConfig
from audio_lottery.errors import ModelError, reading
from audio_lottery.storage import file_fault

SPARSE_NAME = "model.sparse.safetensors"
"""`audio_lottery.sparse.format.FILE`, whose import loads numba."""

_VOCABULARIES = ("vocab.json", "tokenizer.json", "spiece.model", "tokenizer.model", "vocab.txt")

TOKENIZER_NAMES = ("tokenizer_config.json", *_VOCABULARIES, "special_tokens_map.json", "added_tokens.json")
"""Any of these files says that the checkpoint has a tokenizer of its own."""

HEAD = re.compile(r"(^|\.)(lm_head|ctc_head|joint\.head|decoder\.embedding)\.")
"""Weights with a row for every output: the output layer, and what a transducer reads its own labels with."""

# Takes the place of masked frames in training, and of nothing else.
_MASK_EMBEDDING = re.compile(r"(^|\.)masked_spec_embed$")

MAY_BE_NEW = re.compile(f"{HEAD.pattern}|{_MASK_EMBEDDING.pattern}")
"""What a bare encoder lacks: these may be drawn at random for a training, nothing else."""

_LISTED = 3


@dataclass(frozen=True)
class OpenedCheckpoint:
    """A checkpoint whose files are there and whole.

    Attributes:
        architecture: its config.json.
        weights: the file of its weights, or the index of their files; None where a Hub id was given, or where they will
            not be read.
    """

    architecture: PreTrainedConfig
    weights: Path | None


def open_checkpoint(config: ModelConfig, alternatives: str) -> OpenedCheckpoint:
    """Look at every file of a checkpoint that will be read, and read its config.json.

    Args:
        config: which checkpoint.
        alternatives: what could be named instead, for the message.

    Raises:
        ModelError: it is not there, or a file is damaged.
    """
    weights, local = None, Path(config.init).is_dir()
    if local:
        weights = check_folder(Path(config.init), weights=not config.random_init, tokenizer=not config.reset_head)
    else:
        check_name(config.init)
    remedy = "get it again" if local else f"give a Hub id, a folder, or one of {alternatives}"
    with reading(f"model '{config.init}' cannot be loaded: its config.json", remedy):
        architecture = AutoConfig.from_pretrained(config.init, revision=config.revision, trust_remote_code=False)
    return OpenedCheckpoint(architecture, weights)


def check_folder(folder: Path, *, weights: bool = True, tokenizer: bool = True) -> Path | None:
    """Look at every file of a local checkpoint that will be read.

    Args:
        folder: where ``save_pretrained`` wrote it.
        weights: whether the weights will be read.
        tokenizer: whether the tokenizer will be read.

    Returns:
        The file of the weights, or the index of their files; None where they will not be read.

    Raises:
        ModelError: a file is missing, empty, cut short, a Git LFS pointer, or not of its format; names it.
    """
    if not os.path.lexists(folder / CONFIG_NAME):
        models = sorted(path.parent.name for path in folder.glob(f"*/{CONFIG_NAME}"))[:_LISTED]
        inside = f"; there are models inside it: {', '.join(models)}" if models else ""
        raise ModelError(f"{folder} is not a model: it has no {CONFIG_NAME}{inside}")
    if not isinstance(_read_object(folder / CONFIG_NAME).get("model_type"), str):
        raise ModelError(f"{folder / CONFIG_NAME} names no model_type; get the one that belongs to the weights")
    processors = [name for name in (FEATURE_EXTRACTOR_NAME, PROCESSOR_NAME) if os.path.lexists(folder / name)]
    if not processors:
        raise ModelError(
            f"{folder} has no {FEATURE_EXTRACTOR_NAME} and no {PROCESSOR_NAME}, which say how audio is fed to the "
            "model; copy it from the checkpoint that it was trained from"
        )
    own = [name for name in TOKENIZER_NAMES if tokenizer and os.path.lexists(folder / name)]
    if own and not set(own) & set(_VOCABULARIES):
        raise ModelError(
            f"{folder} has {own[0]} but no vocabulary ({', '.join(_VOCABULARIES)}); get it again, or train a new "
            "output layer for model.characters with --model.reset_head true"
        )
    for name in (*processors, *own):
        _check_file(folder / name)
    return _check_weights(folder) if weights else None


def check_name(init: str) -> None:
    """Raises:
    ModelError: ``init``, which is not a folder, cannot be a Hub id either.
    """
    if Path(init).is_file():
        raise ModelError(f"model '{init}' cannot be loaded: it is a file; give the folder that it is in")
    try:
        validate_repo_id(init)
    except HFValidationError as error:
        raise ModelError(f"model '{init}' cannot be loaded: there is no such folder") from error


def find_beside(init: str, revision: str | None, name: str) -> Path | None:
    """A file of a checkpoint, fetched into the Hub's cache where it is not a folder; None where there is none.

    Raises:
        ModelError: the Hub does not know or does not give the repository.
    """
    folder = Path(init)
    if folder.is_dir():
        return folder / name if os.path.lexists(folder / name) else None
    from audio_lottery.sparse.format.folder import find_file  # here: its package loads numba

    return find_file(init, revision, name)


def _check_weights(folder: Path) -> Path:
    """The file that transformers will take, in the order in which it looks for them."""
    for name in (SPARSE_NAME, SAFE_WEIGHTS_NAME, SAFE_WEIGHTS_INDEX_NAME, WEIGHTS_NAME, WEIGHTS_INDEX_NAME):
        if os.path.lexists(folder / name):
            _check_file(folder / name)
            if name in (SAFE_WEIGHTS_INDEX_NAME, WEIGHTS_INDEX_NAME):
                _check_shards(folder / name)
            return folder / name
    raise ModelError(
        f"{folder} has no weights: none of {SAFE_WEIGHTS_NAME}, {SAFE_WEIGHTS_INDEX_NAME}, {WEIGHTS_NAME} and "
        f"{SPARSE_NAME} is there; get them, or save the model with save_pretrained"
    )


def _check_shards(index: Path) -> None:
    places = _read_object(index).get("weight_map")
    if not isinstance(places, dict) or not all(isinstance(name, str) for name in places.values()) or not places:
        raise ModelError(f"{index} has no weight_map of tensors and files; get it again")
    for name in sorted(set(places.values())):
        if not os.path.lexists(index.parent / name):
            raise ModelError(f"{index.parent / name} is missing, which {index.name} names; get it again")
        _check_file(index.parent / name)


def _check_file(path: Path) -> None:
    fault = file_fault(path)
    if fault:
        raise ModelError(f"{path} {fault}")
    if path.suffix == ".json":
        _read_object(path)
    elif path.suffix == ".safetensors" and path.name != SPARSE_NAME:  # that has hashes, and is checked as it is read
        remedy = "it is cut short or damaged: get it again"
        with reading(str(path), remedy), safe_open(path, "pt"):  # compares the header with the size of the file
            pass


def _read_object(path: Path) -> dict[str, Any]:
    fault = file_fault(path)
    if fault:
        raise ModelError(f"{path} {fault}")
    with reading(f"{path}, which should be JSON,"):
        value = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(value, dict):
        raise ModelError(f"{path} is a JSON {type(value).__name__} and not an object; get it again")
    return value


@contextmanager
def without_report() -> Iterator[None]:
    """Keeps back transformers' table of missing and unexpected weights: `check_weights` tells what matters of it."""
    told = logging.getLogger("transformers.modeling_utils")
    told.addFilter(_is_error)  # a level would not do: transformers reads it, and warns of other things
    try:
        yield
    finally:
        told.removeFilter(_is_error)


def _is_error(record: logging.LogRecord) -> bool:
    return record.levelno >= logging.ERROR


def check_weights(
    model: PreTrainedModel, report: Mapping[str, Iterable[Any]], config: ModelConfig, *, new_head: bool
) -> None:
    """Every weight of the model comes from the checkpoint, and the checkpoint has no other weights of the model.

    Args:
        model: as loaded.
        report: ``from_pretrained``'s loading info.
        config: where from; ``overrides`` may give the model fewer layers than the checkpoint has.
        new_head: whether the output layer may be missing, because it will be trained.

    Raises:
        ModelError: lists the weights that would be random, or be left out.
    """
    name = type(model).__name__
    for weight, there, here in sorted(report["mismatched_keys"]):
        if not (config.reset_head and HEAD.search(weight)):
            raise ModelError(
                f"the weights of '{config.init}' do not fit its config.json, its tokenizer or model.overrides: "
                f"{weight} has shape {list(there)}, and {list(here)} in the model"
            )
    missing = sorted(weight for weight in report["missing_keys"] if not _MASK_EMBEDDING.search(weight))
    lost = [weight for weight in missing if not ((new_head or config.reset_head) and HEAD.search(weight))]
    unused = sorted(report["unexpected_keys"])
    if lost:
        remedy = "fine-tune it first" if all(map(HEAD.search, lost)) else "get the whole checkpoint"
        if unused:
            remedy = f"it has others that the model does not have ({_listed(unused)}): are they renamed?"
        raise ModelError(
            f"the checkpoint '{config.init}' lacks {len(lost)} weights of {name} ({_listed(lost)}), which would be "
            f"random; {remedy}"
        )
    inside = _roots(model)
    left = [weight for weight in unused if weight.split(".")[0] in inside and not _MASK_EMBEDDING.search(weight)]
    if left and not config.overrides:
        raise ModelError(
            f"the checkpoint '{config.init}' has {len(left)} weights that {name} does not have as its config.json "
            f"describes it ({_listed(left)}); get the config.json that belongs to the weights"
        )


def _roots(model: PreTrainedModel) -> set[str]:
    """What names of the model's weights start with, as the whole model or its encoder alone saves them."""
    prefix = f"{model.base_model_prefix}."
    return {name.removeprefix(start).split(".")[0] for name in model.state_dict() for start in ("", prefix)}


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    return f"{', '.join(names[:_LISTED])}{more}"
