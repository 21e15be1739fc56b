"""From a dense matrix with zeros to the layout of the kernel that is fastest for it."""

import time
from collections.abc import Callable, Sequence
from functools import lru_cache

import numpy as np

from audio_lottery.sparse.kernels.half import HAS_BF16_DOT
from audio_lottery.sparse.kernels.int8 import HAS_INT8_DOT
from audio_lottery.sparse.kernels.rows import BLOCK_ROWS, FRAMES, VECTORS
from audio_lottery.sparse.runtime.quantised import INT8_FUNCTIONS, quads, quantise
from audio_lottery.sparse.runtime.stored import FUNCTIONS, Places, SparseMatrix
from audio_lottery.sparse.runtime.threads import aligned, whole

__all__ = ["KERNELS", "MAX_INPUT", "Places", "SparseMatrix", "best_time", "compile_matrix", "cost", "split_columns"]

# Largest input of one product: a tile of it fits the L2 cache of current CPUs beside its output.
MAX_INPUT = 768
# Kernels that each precision may choose from, for a linear layer; a convolution's input rows come in no pairs.
KERNELS = {
    "float32": ("csr", "block16x1"),
    "bfloat16": ("csr", "block16x1", "csr_bf16", *(("block16x2_bf16",) if HAS_BF16_DOT else ())),
}
KERNELS["int8"] = tuple(INT8_FUNCTIONS) if HAS_INT8_DOT else KERNELS["bfloat16"]


def compile_matrix(
    weight: np.ndarray, places: Places, bias: np.ndarray | None, kernels: Sequence[str] = KERNELS["float32"]
) -> SparseMatrix:
    """Make a `SparseMatrix` from a dense one.

    Args:
        weight: [rows, columns] float32 with zeros.
        places: where in a tile the rows of its columns lie.
        bias: [rows] or None.
        kernels: what to choose from: the one that is fastest on this machine for what it has to multiply. Blocks win
            where enough of every 16 rows share their columns, which includes dense matrices.
    """
    rows, columns = weight.shape
    kept = weight != 0
    total = int(np.count_nonzero(kept))
    stored = {kernel: size for kernel in kernels if (size := _stored(kernel, kept)) is not None}
    if len(stored) > 1:
        kernel = min(stored, key=lambda name: (stored[name] + 1) * cost(name))
    else:
        (kernel,) = stored
    bias = np.zeros(rows, np.float32) if bias is None else bias.astype(np.float32)
    if kernel in INT8_FUNCTIONS:
        return quantise(kernel, weight, places, bias)
    if kernel.startswith("csr"):
        values, blocks = weight[kept], kept
    elif kernel == "block16x1":
        blocks = _blocks(kept, 1)
        values = weight.reshape(-1, BLOCK_ROWS, columns).transpose(0, 2, 1)[blocks]
    else:
        blocks = _blocks(kept, 2)
        values = bfloat16_pairs(weight).reshape(-1, BLOCK_ROWS, columns // 2).transpose(0, 2, 1)[blocks]
    pointers = np.concatenate([[0], np.cumsum(blocks.sum(1))]).astype(np.int64)
    values = np.ascontiguousarray(values).reshape(-1)
    numbers = places.numbers(kernel, np.nonzero(blocks)[1])
    return SparseMatrix(kernel, rows, total, values, *numbers, pointers, bias, places)


def _stored(kernel: str, kept: np.ndarray) -> int | None:
    """Weights that a kernel stores, zeros included; None where it cannot take the matrix."""
    rows, columns = kept.shape
    if kernel in ("csr", "csr_bf16"):
        return int(np.count_nonzero(kept))
    if kernel == "csr_int8":
        return quads(kept)
    if rows % BLOCK_ROWS or (kernel == "block16x2_bf16" and columns % 2):
        return None
    if kernel == "block16_int8":
        return BLOCK_ROWS * quads(_blocks(kept, 1))
    width = 1 if kernel == "block16x1" else 2
    return BLOCK_ROWS * width * int(np.count_nonzero(_blocks(kept, width)))


def _blocks(kept: np.ndarray, width: int) -> np.ndarray:
    """Which blocks of 16 rows and ``width`` columns keep anything, [rows / 16, columns / width]."""
    return np.asarray(kept.reshape(-1, BLOCK_ROWS, kept.shape[1] // width, width).any((1, 3)))


def bfloat16_pairs(weight: np.ndarray) -> np.ndarray:
    """Neighbours of a row as two bfloat16 in an int32, rounded to nearest even."""
    whole_bits = np.ascontiguousarray(weight).view(np.uint32)
    bits = (whole_bits + 0x7FFF + ((whole_bits >> 16) & 1)) >> 16
    return (bits[:, ::2] | (bits[:, 1::2] << 16)).view(np.int32)


def split_columns(
    weight: np.ndarray, bias: np.ndarray | None, kernels: Sequence[str] = KERNELS["float32"]
) -> list[tuple[slice, SparseMatrix]]:
    """A linear layer's matrix in pieces of at most `MAX_INPUT` columns; the bias is added by the first."""
    columns = weight.shape[1]
    pieces = whole(columns, MAX_INPUT) // MAX_INPUT
    width = whole(whole(columns, pieces) // pieces, BLOCK_ROWS)  # pieces may be output rows of another matrix
    found = []
    for start in range(0, columns, width):
        piece = slice(start, min(start + width, columns))
        part = np.ascontiguousarray(weight[:, piece])
        places = Places.plain(part.shape[1])
        found.append((piece, compile_matrix(part, places, bias if start == 0 else None, kernels)))
    return found


@lru_cache(maxsize=len(FUNCTIONS) + len(INT8_FUNCTIONS))
def cost(kernel: str) -> float:
    """Seconds that a kernel takes for a weight that it stores, with a tile's frames; measured once on this machine."""
    random = np.random.default_rng(0)
    kept = random.random((16 * BLOCK_ROWS, MAX_INPUT)) < 0.1
    if kernel.startswith("block"):
        kept = np.repeat(np.repeat(kept[::BLOCK_ROWS, ::2], BLOCK_ROWS, 0), 2, 1)
    weight = random.standard_normal(kept.shape, dtype=np.float32) * kept
    matrix = compile_matrix(weight, Places.plain(MAX_INPUT), None, (kernel,))
    tile, out = aligned(MAX_INPUT * FRAMES), aligned(len(kept) * FRAMES)
    tile[:] = 1
    return best_time(lambda: matrix.multiply(matrix.operand(tile, 0, MAX_INPUT, VECTORS), out, 0)) / matrix.kept


def best_time(work: Callable[[], object], repeats: int = 5) -> float:
    """Seconds of the fastest of a few calls, after one that is not counted."""
    work()
    found = []
    for _ in range(repeats):
        begin = time.perf_counter()
        work()
        found.append(time.perf_counter() - begin)
    return min(found)
