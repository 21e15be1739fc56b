"""Values: exact, rounded to 16 bits, or to 8 bits with a scale for every output row; then bytes.

Rounding is round to nearest even. int8 is symmetric: row r is stored as round(w / s) with s = max |w| / 127 in float32,
and reads as q·s. Only matrices and kernels are rounded (two or more axes longer than 1): biases, norms and the
magnitudes of weight norm are few and stay exact. Rounding makes -0.0 and what it rounds to zero +0.0.
"""

import zlib

import numpy as np
import torch
from torch import Tensor

from audio_lottery.errors import ModelError
from audio_lottery.sparse.format.huffman import deflate, entropy, inflate

VALUES = ("fp32", "bf16", "fp16", "int8")

_ROUNDED = {"bf16": torch.bfloat16, "fp16": torch.float16, "int8": torch.int8}
_BITS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
_WORTH_IT = 7.6  # bits a byte above which Huffman codes save less than their time is worth


def check(values: str) -> None:
    """Raises:
    ModelError: ``values`` is not a way of storing values.
    """
    if values not in VALUES:
        raise ModelError(f"values '{values}' are unknown; there are {', '.join(VALUES)} (fp32 keeps every bit)")


def stored_dtype(tensor: Tensor, values: str) -> torch.dtype:
    """What ``tensor`` is stored as when the user asks for ``values``; its own dtype where it stays exact."""
    if values == "fp32" or not tensor.is_floating_point() or sum(size > 1 for size in tensor.shape) < 2:
        return tensor.dtype
    rounded = _ROUNDED[values]
    return rounded if rounded.itemsize < tensor.dtype.itemsize else tensor.dtype


def narrow(name: str, tensor: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor | None]:
    """Round a tensor.

    Args:
        name: for the message.
        tensor: on the CPU.
        dtype: from `stored_dtype`.

    Returns:
        The rounded tensor, of the same shape, and the scales [rows] in float32 of int8.

    Raises:
        ModelError: a finite weight is too large for float16, or int8 is asked for and a weight is NaN or infinite.
    """
    if dtype == tensor.dtype:
        return tensor, None
    if dtype != torch.int8:
        rounded = tensor.to(dtype) + 0.0  # -0.0 + 0.0 is +0.0
        # One pass over the weights; the second look is only for tensors that are not all finite.
        ends = torch.stack(torch.aminmax(tensor)) if tensor.numel() else tensor.new_zeros(2)
        if not ends.isfinite().all():
            ends = tensor[tensor.isfinite()]
        if bool(torch.isinf(ends.to(dtype)).any()):
            raise ModelError(
                f"'{name}' has weights up to {float(tensor[tensor.isfinite()].abs().max()):.3g}, which "
                f"{str(dtype).removeprefix('torch.')} cannot hold; use values bf16 or fp32"
            )
        return rounded, None
    rows = tensor.reshape(len(tensor), -1).float()
    low, high = rows.aminmax(dim=1)
    largest = torch.maximum(-low, high)
    if not bool(largest.isfinite().all()):
        raise ModelError(f"'{name}' has weights that are NaN or infinite, which int8 cannot hold; use values fp32")
    scales = largest / 127
    steps = rows / torch.where(scales > 0, scales, 1.0)[:, None]  # rows of zeros stay zeros
    return steps.round_().clamp_(-127, 127).to(torch.int8).reshape(tensor.shape), scales


def widen(stored: Tensor, dtype: torch.dtype, scales: Tensor | None) -> Tensor:
    """Stored values in the model's dtype.

    Args:
        stored: any shape.
        dtype: the model's.
        scales: of int8, one for each stored value (any shape that broadcasts).
    """
    return stored.to(dtype) if scales is None else (stored.float() * scales).to(dtype)


def bits(tensor: Tensor) -> np.ndarray:
    """The tensor's bits as unsigned integers of its item size, flat; shares memory where the tensor is contiguous."""
    return tensor.reshape(-1).view(_BITS[tensor.dtype.itemsize]).numpy().view(f"u{tensor.dtype.itemsize}")


def from_bits(values: np.ndarray, dtype: torch.dtype) -> Tensor:
    """The inverse of `bits`: a flat tensor of ``dtype``."""
    return torch.from_numpy(values.view(f"i{values.itemsize}" if values.itemsize > 1 else "u1")).view(dtype)


def pack(values: np.ndarray) -> tuple[np.ndarray, int]:
    """Bytes of stored values, the highest byte of each (sign and exponent) in Huffman codes where that pays.

    Args:
        values: flat unsigned integers.

    Returns:
        uint8 bytes, and how many of them, at the start, are Huffman codes of the highest bytes; 0 where none are and
        the bytes are those of the values.
    """
    raw = values.astype(f"<u{values.itemsize}", copy=False).view(np.uint8).reshape(-1, values.itemsize)
    highest = np.ascontiguousarray(raw[:, -1])
    if len(highest) and entropy(highest) < _WORTH_IT:
        coded = deflate(highest)
        if len(coded) < len(highest):
            return np.concatenate([coded, raw[:, :-1].reshape(-1)]), len(coded)
    return raw.reshape(-1), 0


def unpack(blob: np.ndarray, coded: int, count: int, itemsize: int) -> np.ndarray:
    """The values, unsigned integers [count], that `pack` was given.

    Raises:
        ModelError: the bytes hold another number of values.
    """
    raw = np.empty((count, itemsize), np.uint8)
    try:
        if coded:
            raw[:, -1] = inflate(blob[:coded], count)
            raw[:, :-1] = blob[coded:].reshape(count, itemsize - 1)
        else:
            raw[:] = blob.reshape(count, itemsize)
    except (zlib.error, ValueError) as error:
        raise ModelError(f"the bytes do not hold {count} values of {itemsize} bytes ({error})") from error
    return raw.reshape(-1).view(f"<u{itemsize}").astype(f"u{itemsize}", copy=False)
