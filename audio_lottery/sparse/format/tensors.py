"""One tensor: into what lies in the file and what the file says of it, and back."""

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from audio_lottery.errors import ModelError
from audio_lottery.sparse.format import positions, units, values

DENSE = "dense"
_SMALLEST = 64  # weights; below that what the file says of a sparse tensor is longer than what it saves


@dataclass(frozen=True)
class Entry:
    """What the file says of one tensor.

    Attributes:
        shape: as in the model.
        dtype: as in the model, e.g. float32.
        stored: dtype of the stored values.
        coding: dense (no positions), or the coding of the positions.
        kept: stored values; zeros inside a kept unit are among them.
        unit: (height, width) of what the positions are positions of; (1, 1) for single weights.
        units: kept units.
        coded: bytes of Huffman codes at the start of the values; 0 where they lie there as they are.
        lossy: whether what is read differs from what was saved in any bit.
        sha256: of the bytes of the tensor as it is read, little-endian.
    """

    shape: tuple[int, ...]
    dtype: str
    stored: str
    coding: str
    kept: int
    unit: tuple[int, int]
    units: int
    coded: int
    lossy: bool
    sha256: str

    def to_dict(self) -> dict[str, Any]:
        """As it stands in the file."""
        return asdict(self)

    @classmethod
    def from_dict(cls, value: dict[str, Any]) -> "Entry":
        """Raises TypeError, KeyError or ValueError where ``value`` is not such an entry."""
        height, width = value["unit"]
        shape = tuple(int(size) for size in value["shape"])
        if min((*shape, value["kept"], value["units"], value["coded"], height - 1, width - 1)) < 0:
            raise ValueError("a negative size")
        return cls(**{**value, "shape": shape, "unit": (height, width)})


def encode(name: str, tensor: Tensor, how: str) -> tuple[Entry, dict[str, Tensor]]:
    """Code one tensor the shorter way: positions and values, or as it is.

    Args:
        name: in the state dict.
        tensor: on the CPU, contiguous.
        how: one of `values.VALUES`.

    Returns:
        What the file says of it and what lies there: the values under ``name`` (flat where positions go with them, so
        that whoever takes them for the weights fails), positions under ``name:positions``, int8's scales under
        ``name:scales``.

    Raises:
        ModelError: the values do not fit the dtype they are to be stored in.
    """
    stored, scales = values.narrow(name, tensor, values.stored_dtype(tensor, how))
    sparse = _encode_sparse(name, stored)
    coding, unit, kept_units, coded, parts = sparse or _encode_dense(name, stored)
    places = None if sparse is None else parts.pop("")
    if stored is tensor:
        full = tensor
    else:
        parts |= {} if scales is None else {f"{name}:scales": scales}
        taken = stored.reshape(-1) if places is None else stored.reshape(-1)[places]
        full = _assemble(taken, places, scales, tensor.shape, tensor.dtype)
    entry = Entry(
        tuple(tensor.shape),
        _dtype_name(tensor.dtype),
        _dtype_name(stored.dtype),
        coding,
        tensor.numel() if places is None else len(places),
        unit,
        kept_units,
        coded,
        full is not tensor and not torch.equal(as_bytes(full), as_bytes(tensor)),
        _sha256(full),
    )
    return entry, parts


def decode(name: str, entry: Entry, parts: Mapping[str, Tensor]) -> Tensor:
    """The tensor, bit for bit as `encode` hashed it.

    Raises:
        ModelError: a part is missing or damaged, or the bits are not those that were hashed.
    """
    try:
        stored, dtype = _dtype(entry.stored), _dtype(entry.dtype)
        scales = parts[f"{name}:scales"] if entry.stored == "int8" and entry.dtype != "int8" else None
        if entry.coding == DENSE:
            taken, places = parts[name].reshape(-1), None
        else:
            places = _places(entry, parts[f"{name}:positions"].numpy())
            blob = values.bits(parts[name]).view(np.uint8)
            taken = values.from_bits(values.unpack(blob, entry.coded, entry.kept, stored.itemsize), stored)
        if taken.dtype != stored:
            raise ModelError(f"its values are {taken.dtype}, not {stored}")
        tensor = _assemble(taken, places, scales, torch.Size(entry.shape), dtype)
    except (ModelError, KeyError, AttributeError, ValueError, RuntimeError, IndexError) as error:
        raise ModelError(f"tensor '{name}' is damaged: {error}") from error
    if _sha256(tensor) != entry.sha256:
        raise ModelError(f"tensor '{name}' does not have the bits that were saved")
    return tensor


def as_bytes(tensor: Tensor) -> Tensor:
    """The bytes of a tensor, flat uint8: what two tensors are equal in, NaN and -0.0 included."""
    return tensor.reshape(-1).view(torch.uint8)


def _encode_dense(name: str, stored: Tensor) -> tuple[str, units.Unit, int, int, dict[str, Tensor]]:
    # Flat where it is int8: by itself it is not the weights.
    kept = stored.reshape(-1) if stored.dtype == torch.int8 else stored
    return DENSE, units.SINGLE, stored.numel(), 0, {name: kept.clone()}


def _encode_sparse(name: str, stored: Tensor) -> tuple[str, units.Unit, int, int, dict[str, Tensor]] | None:
    """None where storing the tensor as it is takes no more bytes; the part "" holds the flat places of the values."""
    if stored.numel() < _SMALLEST or stored.dtype.is_complex:
        return None
    flat = values.bits(stored)
    keep = flat != 0  # bits and not numbers: -0.0 is a value
    kept_weights = int(np.count_nonzero(keep))
    if kept_weights * 8 * flat.itemsize + positions.entropy_bits(len(keep), kept_weights) >= 8 * flat.nbytes:
        return None
    rows, columns = units.matrix_shape(stored.shape)
    unit, grid = units.choose(keep.reshape(rows, columns), stored.shape, 8 * flat.itemsize)
    grid = np.ascontiguousarray(grid).reshape(-1)
    kept = np.flatnonzero(grid)
    coding, blob = positions.encode(grid, kept)
    places = units.members(kept, unit, columns)
    packed, coded = values.pack(flat[places])
    if len(packed) + len(blob) >= flat.nbytes:
        return None
    value_tensor = torch.from_numpy(packed) if coded else values.from_bits(flat[places], stored.dtype)
    parts = {name: value_tensor, f"{name}:positions": torch.from_numpy(blob.copy()), "": torch.from_numpy(places)}
    return coding, unit, len(kept), coded, parts


def _places(entry: Entry, blob: np.ndarray) -> Tensor:
    height, width = entry.unit
    rows, columns = units.matrix_shape(entry.shape)
    if rows % height or columns % width or entry.units * height * width != entry.kept:
        raise ModelError(f"units of {height}x{width} do not fit {entry.kept} of {rows}x{columns} weights")
    kept = positions.decode(entry.coding, blob, rows // height * (columns // width), entry.units)
    return torch.from_numpy(units.members(kept, entry.unit, columns))


def _assemble(
    taken: Tensor, places: Tensor | None, scales: Tensor | None, shape: torch.Size, dtype: torch.dtype
) -> Tensor:
    """The dense tensor from stored values and their flat places (None: all of them, in order)."""
    if scales is not None:
        columns = shape.numel() // len(scales)
        scales = scales.repeat_interleave(columns) if places is None else scales[places // columns]
    wide = values.widen(taken, dtype, scales)
    if places is None:
        return wide.reshape(shape)
    tensor = torch.zeros(shape, dtype=dtype)
    values.bits(tensor)[places.numpy()] = values.bits(wide)
    return tensor


def _sha256(tensor: Tensor) -> str:
    return hashlib.sha256(as_bytes(tensor).numpy().data).hexdigest()


def _dtype_name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _dtype(name: str) -> torch.dtype:
    dtype = getattr(torch, name)
    if not isinstance(dtype, torch.dtype):
        raise ValueError(f"'{name}' is not a dtype")
    return dtype
