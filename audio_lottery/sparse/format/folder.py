"""A model's folder with ``model.sparse.safetensors`` beside config and processor: written, found, loaded."""

import copy
import os
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from huggingface_hub import hf_hub_download
from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError, HFValidationError
from torch import Tensor
from transformers import (
    MODEL_FOR_CTC_MAPPING,
    MODEL_FOR_RNNT_MAPPING,
    AutoConfig,
    GenerationConfig,
    PreTrainedConfig,
    PreTrainedModel,
)
from transformers.utils import GENERATION_CONFIG_NAME

from audio_lottery.errors import ModelError, reading
from audio_lottery.sparse.format import container
from audio_lottery.sparse.format.positions import entropy_bits
from audio_lottery.sparse.format.tensors import DENSE, Entry, as_bytes
from audio_lottery.storage import file_fault, sealed_folder, write_bytes

FILE = "model.sparse.safetensors"


@dataclass(frozen=True)
class TensorRow:
    """One tensor in the file.

    Attributes:
        name: in the state dict.
        shape: as in the model.
        coding: dense, rice, bitmap or huffman.
        unit: (height, width) of what positions are positions of.
        weights: how many the tensor has.
        kept: how many are stored.
        position_bytes: bytes of the positions.
        value_bytes: bytes of the values and scales.
        places: units that could be kept; 0 where no positions are stored.
        units: units that are kept.
        lossy: whether any bit is not what it was.
    """

    name: str
    shape: tuple[int, ...]
    coding: str
    unit: tuple[int, int]
    weights: int
    kept: int
    position_bytes: int
    value_bytes: int
    places: int
    units: int
    lossy: bool

    @property
    def density(self) -> float:
        """Stored / all weights."""
        return self.kept / self.weights if self.weights else 1.0

    @property
    def entropy_bytes(self) -> float:
        """n·H(density) of the places, in bytes: what positions cannot be shorter than if units are kept at random."""
        return entropy_bits(self.places, self.units) / 8


@dataclass(frozen=True)
class SavedFile:
    """What `save` wrote.

    Attributes:
        path: of the file.
        bytes: of the whole file.
        dense_bytes: of the same tensors as they are in the model.
        values: fp32, bf16, fp16 or int8.
        rows: one per stored tensor.
    """

    path: Path
    bytes: int
    dense_bytes: int
    values: str
    rows: tuple[TensorRow, ...]

    @property
    def ratio(self) -> float:
        """File / dense."""
        return self.bytes / self.dense_bytes

    @property
    def lossy(self) -> list[str]:
        """Names of the tensors that are not bit for bit what they were."""
        return [row.name for row in self.rows if row.lossy]


def save(model: PreTrainedModel, folder: Path | str, *, values: str = "fp32", processor: Any = None) -> SavedFile:
    """Write ``model`` as a folder that `load` reads: the sparse file, config.json, the settings of a model that
    generates, and the processor's files.

    Args:
        model: any transformers model; zeros in its weights are what the file saves.
        folder: new, empty, or written by `save` before; it appears whole or not at all.
        values: fp32 keeps every bit. bf16 and fp16 round weights with two or more axes longer than 1, pruned or not,
            to 16 bits; int8 to 8 bits with a scale per output row. Everything else stays exact.
        processor: has ``save_pretrained``; none is written without it.

    Raises:
        ModelError: not a transformers model, pruning is still applied as a parametrisation, ``values`` cannot hold a
            weight, or ``folder`` holds something else.
        StorageError: the disk is full or the folder cannot be written.
    """
    if not isinstance(model, PreTrainedModel):
        raise ModelError(f"{type(model).__name__} is not a transformers model; there is no config.json to load it by")
    target = Path(folder).absolute()
    check_target(target, FILE)
    state = model.state_dict()
    masked = [name for name in state if name.endswith("_orig") and f"{name.removesuffix('_orig')}_mask" in state]
    if masked:
        raise ModelError(
            f"'{masked[0]}' is pruned by torch.nn.utils.prune, which keeps the dense weight and the mask; "
            "call torch.nn.utils.prune.remove first"
        )
    packed = container.pack(state, values)
    config = copy.deepcopy(model.config)
    config.architectures = [type(model).__name__]
    config.dtype = str(model.dtype).removeprefix("torch.")
    with sealed_folder(target) as temporary:
        config.save_pretrained(temporary)
        if model.can_generate():
            model.generation_config.save_pretrained(temporary)  # what is never written, and in which language
        if processor is not None:
            processor.save_pretrained(temporary)
        write_bytes(temporary / FILE, packed.data)
    rows = tuple(_row(name, entry, packed.sizes[name]) for name, entry in packed.entries.items())
    dense = sum(state[name].nbytes for name in packed.entries)
    return SavedFile(Path(folder) / FILE, len(packed.data), dense, values, rows)


def load(source: Path | str, *, revision: str | None = None) -> PreTrainedModel:
    """The model that `save` wrote, on the CPU, in evaluation mode, every weight bit for bit as the file has it.

    Args:
        source: folder or Hub id.
        revision: branch, tag or commit on the Hub.

    Raises:
        ModelError: nothing there; the file is damaged or of a newer version; or its tensors and those of the model's
            class differ in name, shape or dtype.
    """
    file = find_file(source, revision)
    if file is None:
        raise ModelError(f"'{source}' has no {FILE}; give a folder or Hub id that was saved by audio_lottery.sparse")
    with reading(f"the config.json of '{source}'"):
        config = AutoConfig.from_pretrained(source, revision=revision, trust_remote_code=False)
    model_class = model_class_of(config, source)
    state = read(file)
    floating = Counter[torch.dtype]()
    for tensor in state.values():
        floating[tensor.dtype] += tensor.numel() * tensor.is_floating_point()
    with reading(str(file), "its config.json must be that of the same model"):
        model, report = model_class.from_pretrained(
            None,
            config=config,
            state_dict=dict(state),
            output_loading_info=True,
            dtype=floating.most_common(1)[0][0] if floating.total() else torch.float32,
            ignore_mismatched_sizes=True,  # they are told below, all of them
        )
    check_loaded(model, state, report, str(file))
    if model.can_generate():
        generation = find_file(source, revision, GENERATION_CONFIG_NAME)
        if generation is not None:
            with reading(str(generation)):
                model.generation_config = GenerationConfig.from_pretrained(generation.parent)
    return model


def read(path: Path | str) -> dict[str, Tensor]:
    """The state dict in a folder or file, every tensor checked; tied names share one tensor.

    Raises:
        ModelError: missing, damaged, or of a newer version.
    """
    path = Path(path)
    file = path / FILE if path.is_dir() and path.name != FILE else path
    fault = file_fault(file)
    if fault:
        raise ModelError(f"{file} {fault}")
    with reading(str(file)):
        data = file.read_bytes()
    return container.unpack(data, file)[0]


def find_file(source: Path | str, revision: str | None = None, name: str = FILE) -> Path | None:
    """A file (the sparse one) of a folder or Hub id, fetched into the Hub's cache; None where there is none.

    Raises:
        ModelError: the Hub does not know or does not give the repository.
    """
    if Path(source).is_dir():
        file = Path(source) / name
        return file if os.path.lexists(file) else None  # also a link to nowhere: reading it tells
    try:
        return Path(hf_hub_download(str(source), name, revision=revision))
    except EntryNotFoundError:  # also: offline, and not in the cache
        return None
    except (HfHubHTTPError, HFValidationError, OSError) as error:
        raise ModelError(f"'{source}' is not a folder, and the Hub does not give it: {_last_line(error)}") from error


def check_loaded(
    model: PreTrainedModel,
    state: Mapping[str, Tensor],
    report: Mapping[str, Iterable[Any]],
    where: str,
    new: Iterable[str] = (),
) -> None:
    """Compare a model with the state dict it was loaded from, bit by bit.

    transformers has loaded checkpoints with random weights and a clean report before; this trusts the tensors only.

    Args:
        model: after ``from_pretrained``; tensors whose dtype it changed get theirs back.
        state: what was in the file.
        report: ``from_pretrained``'s loading info.
        where: for the message.
        new: names of the model that need not be as in the file.

    Raises:
        ModelError: lists missing, extra and different tensors.
    """
    prefix = f"{model.base_model_prefix}."
    tensors = model.state_dict(keep_vars=True)
    # A bare encoder's names get the prefix of the model it is part of.
    given = {name if name in tensors or prefix + name not in tensors else prefix + name: t for name, t in state.items()}
    for name in tensors.keys() & given.keys():
        if tensors[name].dtype != given[name].dtype and tensors[name].shape == given[name].shape:
            tensors[name].data = given[name]
    allowed = set(new)
    missing = sorted({*(tensors.keys() - given.keys()), *map(str, report["missing_keys"])} - allowed)
    extra = sorted({*(given.keys() - tensors.keys()), *map(str, report["unexpected_keys"])} - allowed)
    different = sorted(
        name for name in (tensors.keys() & given.keys()) - allowed if not _same(tensors[name].detach(), given[name])
    )
    problems = [
        f"{what} {', '.join(names[:5])}{f' and {len(names) - 5} more' if len(names) > 5 else ''}"
        for what, names in (("missing:", missing), ("not in the model:", extra), ("different:", different))
        if names
    ]
    if problems:
        raise ModelError(f"{where} does not fit {type(model).__name__} of its config.json: {'; '.join(problems)}")


def check_target(folder: Path, file: str) -> None:
    """Raises:
    ModelError: ``folder`` is there, is not empty and does not hold ``file``: replacing it would destroy something else.
    """
    if folder.exists() and not (folder / file).is_file() and (folder.is_file() or any(folder.iterdir())):
        raise ModelError(f"{folder} exists and is not an earlier {file} folder; choose another name")


def _same(one: Tensor, other: Tensor) -> bool:
    if one.shape != other.shape or one.dtype != other.dtype:
        return False
    return one.data_ptr() == other.data_ptr() or torch.equal(as_bytes(one.contiguous()), as_bytes(other))


def model_class_of(config: PreTrainedConfig, source: Path | str) -> type[PreTrainedModel]:
    """The class that a config.json names.

    Raises:
        ModelError: it names none, or one that is not installed.
    """
    for name in config.architectures or ():
        registered = (mapping.get(type(config), None) for mapping in (MODEL_FOR_CTC_MAPPING, MODEL_FOR_RNNT_MAPPING))
        for found in (getattr(transformers, name, None), *registered):
            if found is not None and found.__name__ == name:
                model_class: type[PreTrainedModel] = found
                return model_class
    raise ModelError(
        f"the config.json of '{source}' names {', '.join(config.architectures or ()) or 'no architecture'}, which "
        f"transformers {transformers.__version__} does not have; install the version that it was saved with"
    )


def _row(name: str, entry: Entry, sizes: tuple[int, int]) -> TensorRow:
    weights = torch.Size(entry.shape).numel()
    places = 0 if entry.coding == DENSE else weights // (entry.unit[0] * entry.unit[1])
    return TensorRow(
        name, entry.shape, entry.coding, entry.unit, weights, entry.kept, *sizes, places, entry.units, entry.lossy
    )


def _last_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[-1]
