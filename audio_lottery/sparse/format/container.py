"""The file: a safetensors file whose header says what is in it, sealed by a SHA-256 over every other byte.

``model.sparse.safetensors`` opens with any safetensors reader. The header's ``__metadata__`` has one key,
``audio_lottery.sparse``, with JSON: ``sha256`` of the file (computed with these 64 digits as zeros), ``format``,
``version``, ``values``, ``tensors`` (name → `tensors.Entry`) and ``tied`` (name → the name that has the bytes).
One key, because safetensors writes several in no fixed order: the same model gives the same bytes.
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from audio_lottery.errors import ModelError
from audio_lottery.sparse.format import tensors
from audio_lottery.sparse.format.tensors import Entry
from audio_lottery.sparse.format.values import check

FORMAT = "audio_lottery.sparse"
VERSION = 1

_NO_DIGEST = "0" * 64
_LENGTH = 8  # bytes of the header's length, before the header

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Packed:
    """A file in memory.

    Attributes:
        data: its bytes.
        entries: what it says of each tensor that it holds.
        sizes: name → (bytes of the positions, bytes of values and scales).
        tied: name → the name that has the bytes.
    """

    data: bytes
    entries: dict[str, Entry]
    sizes: dict[str, tuple[int, int]]
    tied: dict[str, str]


def pack(state: Mapping[str, Tensor], values: str = "fp32") -> Packed:
    """The file's bytes of a state dict.

    Args:
        state: name → tensor, as ``state_dict()`` gives it; tensors that share their memory (tied weights) are stored
            once.
        values: fp32 (every bit of every dtype is kept), bf16, fp16 or int8.

    Raises:
        ModelError: an unknown ``values``, weights that it cannot hold, or tensors without data.
    """
    check(values)
    tied, alone = _tied(state)
    missing = [name for name in alone if state[name].is_meta]
    if missing:
        raise ModelError(f"'{missing[0]}' has no data (meta device); load the model fully before saving it")
    clash = [name for name in state if name.endswith((":positions", ":scales"))]
    if clash:
        raise ModelError(f"'{clash[0]}' cannot be saved: names that end in :positions and :scales are the format's own")

    def encode(name: str) -> tuple[Entry, dict[str, Tensor]]:
        return tensors.encode(name, state[name].detach().cpu().contiguous(), values)

    coded = _in_threads(encode, alone, [state[name].numel() for name in alone])
    entries = {name: entry for name, (entry, _) in zip(alone, coded, strict=True)}
    header = {
        "sha256": _NO_DIGEST,
        "format": FORMAT,
        "version": VERSION,
        "values": values,
        "tensors": {name: entry.to_dict() for name, entry in entries.items()},
        "tied": tied,
    }
    parts = {name: part for _, own in coded for name, part in own.items()}
    data = bytearray(save(parts, metadata={FORMAT: json.dumps(header, separators=(",", ":"))}))
    place = data.index(_NO_DIGEST.encode())
    data[place : place + len(_NO_DIGEST)] = hashlib.sha256(data).hexdigest().encode()
    sizes = {}
    for name, (_, own) in zip(alone, coded, strict=True):
        total, places = sum(part.nbytes for part in own.values()), own.get(f"{name}:positions")
        sizes[name] = (0, total) if places is None else (places.nbytes, total - places.nbytes)
    return Packed(bytes(data), entries, sizes, tied)


def unpack(data: bytes, path: Path) -> tuple[dict[str, Tensor], dict[str, Entry]]:
    """The state dict in a file's bytes, every tensor checked against its hash, and what the file says of each.

    Args:
        data: the whole file.
        path: for messages.

    Raises:
        ModelError: not such a file, a newer version, or any bit that is not as it was written.
    """
    header = read_header(data, path)
    check_digest(data, (), header, path)
    try:
        entries = {name: Entry.from_dict(entry) for name, entry in header["tensors"].items()}
        tied = {str(name): str(other) for name, other in header["tied"].items()}
        parts = load(data)
    except (SafetensorError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise ModelError(f"{path} cannot be read ({error}); it was not written by audio_lottery") from error
    own = {f"{name}{part}" for name in entries for part in ("", ":positions", ":scales")}
    extra = sorted(parts.keys() - own) + sorted(name for name, other in tied.items() if other not in entries)
    if extra:
        raise ModelError(f"{path} has tensors that its header does not know: {', '.join(extra[:5])}")
    names = list(entries)

    def decode(name: str) -> Tensor:
        try:
            return tensors.decode(name, entries[name], parts)
        except ModelError as error:
            raise ModelError(f"{path}: {error}; get the file again") from error

    decoded = _in_threads(decode, names, [torch.Size(entries[name].shape).numel() for name in names])
    state = dict(zip(names, decoded, strict=True))
    return state | {name: state[other] for name, other in tied.items()}, entries


def read_header(data: bytes, path: Path) -> dict[str, Any]:
    """What the file says of itself, not yet checked against its hash.

    Raises:
        ModelError: truncated, not such a file, or of a newer version.
    """
    length = int.from_bytes(data[:_LENGTH], "little")
    if length > len(data) - _LENGTH:
        raise ModelError(f"{path} is truncated or damaged: {len(data)} bytes do not hold its header; get it again")
    try:
        metadata = json.loads(data[_LENGTH : _LENGTH + length])["__metadata__"]
        header = json.loads(metadata[FORMAT])
        version, known = header["version"], header["format"] == FORMAT and len(header["sha256"]) == len(_NO_DIGEST)
    except (ValueError, KeyError, TypeError) as error:
        raise ModelError(
            f"{path} is not a sparse model file of audio_lottery, or its header is damaged ({error!r}); get it again"
        ) from error
    if not known or not isinstance(version, int):
        raise ModelError(f"{path} is not a sparse model file of audio_lottery, or its header is damaged; get it again")
    if version > VERSION:
        raise ModelError(
            f"{path} has version {version} of the sparse format; this release reads up to {VERSION}: "
            "install a newer audio-lottery"
        )
    return dict(header)


def check_digest(start: bytes, rest: Iterable[bytes], header: dict[str, Any], path: Path) -> None:
    """Compare the file's bytes with the hash that it has of them.

    Args:
        start: at least its header.
        rest: what follows, in pieces.
        header: of `read_header`.
        path: for messages.

    Raises:
        ModelError: they differ.
    """
    written = str(header["sha256"]).encode()
    # The first key of the first metadata: nothing of the user's stands before it.
    place = start.find(written)
    view = memoryview(start)
    digest = hashlib.sha256(view[: max(place, 0)])
    digest.update(_NO_DIGEST.encode())
    digest.update(view[place + len(written) :])
    for piece in rest:
        digest.update(piece)
    if place < 0 or digest.hexdigest().encode() != written:
        raise ModelError(f"{path} is damaged: its bytes are not those that were written; get it again")


def _tied(state: Mapping[str, Tensor]) -> tuple[dict[str, str], list[str]]:
    """(name → the earlier name with the same memory, names that have memory of their own)."""
    seen: dict[tuple[Any, ...], str] = {}
    tied: dict[str, str] = {}
    for name, tensor in state.items():
        key = (tensor.device, tensor.data_ptr(), tensor.dtype, tensor.shape, tensor.stride())
        if tensor.numel() and not tensor.is_meta and key in seen:
            tied[name] = seen[key]
        else:
            seen[key] = name
    return tied, [name for name in state if name not in tied]


def _in_threads(work: Callable[[Item], Result], items: Sequence[Item], sizes: Sequence[int]) -> list[Result]:
    """``work`` on every item, largest first, on as many threads as torch has; results in the order of ``items``.

    numpy, zlib, hashlib and the kernels here let go of the interpreter while they work.
    """
    order = sorted(range(len(items)), key=lambda index: -sizes[index])
    with ThreadPoolExecutor(torch.get_num_threads()) as pool:
        futures = {index: pool.submit(work, items[index]) for index in order}
        return [futures[index].result() for index in range(len(items))]
