"""A weight matrix as the kernels read it."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from audio_lottery.sparse.kernels.rows import BLOCK_ROWS, FRAMES, VECTORS, block_rows, csr_rows
from audio_lottery.sparse.runtime.threads import aligned, whole

# Largest input of one product: a tile of it fits the L2 cache of current CPUs beside its output.
MAX_INPUT = 768


@dataclass(frozen=True)
class SparseMatrix:
    """[rows, columns] with its bias; columns are rows of a tile.

    Attributes:
        kernel: "csr" (single weights) or "block16x1" (blocks of 16 output rows, a pruned weight within a kept block
            is a zero that is multiplied).
        rows: output rows.
        kept: weights that are not zero.
        values: [kept], or [blocks · 16], float32.
        offsets: int32, where in a tile the row of a weight or block begins.
        pointers: int64, where the weights of each row (or 16 rows) begin.
        bias: [rows] float32.
    """

    kernel: str
    rows: int
    kept: int
    values: np.ndarray
    offsets: np.ndarray
    pointers: np.ndarray
    bias: np.ndarray

    @property
    def bytes(self) -> int:
        """Memory that the arrays take."""
        return sum(array.nbytes for array in (self.values, self.offsets, self.pointers, self.bias))

    def multiply(
        self,
        x: np.ndarray,
        base: int,
        out: np.ndarray,
        target: int,
        stride: int = FRAMES,
        *,
        rows: tuple[int, int] | None = None,
        start: np.ndarray | None = None,
        origin: int = -1,
        vectors: int = VECTORS,
    ) -> None:
        """out = W·x + bias (+ start), all flat arrays; see `kernels.rows.csr_rows`.

        Args:
            x: tile, from ``base`` on.
            base: see above.
            out: rows ``stride`` apart, from ``target`` on.
            target: see above.
            stride: see above.
            rows: first and one past the last output row; all by default.
            start: added to the product, same stride, from ``origin`` on.
            origin: see above.
            vectors: vectors of frames.
        """
        first, last = rows or (0, self.rows)
        function = block_rows if self.kernel == "block16x1" else csr_rows
        addend = out if start is None else start
        function(
            self.values,
            self.offsets,
            self.pointers,
            first,
            last,
            self.bias,
            x,
            base,
            out,
            target,
            stride,
            addend,
            origin,
            stride,
            vectors,
        )


def compile_matrix(
    weight: np.ndarray, places: np.ndarray, bias: np.ndarray | None, kernel: str | None = None
) -> SparseMatrix:
    """Make a `SparseMatrix` from a dense one.

    Args:
        weight: [rows, columns] float32 with zeros.
        places: [columns] int, where in a tile the row begins that a column multiplies.
        bias: [rows] or None.
        kernel: which kernel; by default the faster one on this machine: blocks where enough of every 16 rows share
            their columns, which includes dense matrices.
    """
    rows = weight.shape[0]
    kept = weight != 0
    total = int(np.count_nonzero(kept))
    bias = np.zeros(rows, np.float32) if bias is None else bias.astype(np.float32)
    if rows % BLOCK_ROWS == 0 and kernel != "csr":
        blocks = kept.reshape(-1, BLOCK_ROWS, weight.shape[1]).any(1)
        if kernel == "block16x1" or np.count_nonzero(blocks) * BLOCK_ROWS < total * relative_cost():
            columns = np.nonzero(blocks)[1]
            values = weight.reshape(-1, BLOCK_ROWS, weight.shape[1]).transpose(0, 2, 1)[blocks]
            return _matrix("block16x1", rows, total, values, places[columns], blocks.sum(1), bias)
    columns = np.nonzero(kept)[1]
    return _matrix("csr", rows, total, weight[kept], places[columns], kept.sum(1), bias)


def _matrix(
    kernel: str, rows: int, kept: int, values: np.ndarray, offsets: np.ndarray, counts: np.ndarray, bias: np.ndarray
) -> SparseMatrix:
    pointers = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    values = np.ascontiguousarray(values, dtype=np.float32).reshape(-1)
    return SparseMatrix(kernel, rows, kept, values, offsets.astype(np.int32), pointers, bias)


def split_columns(
    weight: np.ndarray, bias: np.ndarray | None, kernel: str | None = None, limit: int = MAX_INPUT
) -> list[tuple[slice, SparseMatrix]]:
    """A linear layer's matrix in pieces of at most ``limit`` columns; the bias is added by the first."""
    columns = weight.shape[1]
    pieces = whole(columns, limit) // limit
    width = whole(whole(columns, pieces) // pieces, BLOCK_ROWS)  # pieces may be output rows of another matrix
    places = np.arange(width, dtype=np.int64) * FRAMES
    found = []
    for start in range(0, columns, width):
        piece = slice(start, min(start + width, columns))
        part = np.ascontiguousarray(weight[:, piece])
        found.append((piece, compile_matrix(part, places, bias if start == 0 else None, kernel)))
    return found


@lru_cache(maxsize=1)
def relative_cost() -> float:
    """How much longer a single weight takes than a weight of a block, measured once on this machine."""
    random = np.random.default_rng(0)
    weight = random.standard_normal((256, MAX_INPUT), dtype=np.float32) * (random.random((256, MAX_INPUT)) < 0.1)
    places = np.arange(MAX_INPUT) * FRAMES
    tile = aligned(MAX_INPUT * FRAMES)
    tile[:] = 1
    out = aligned(256 * FRAMES)
    seconds = {}
    for kernel in ("csr", "block16x1"):
        matrix = compile_matrix(weight, places, None, kernel)
        seconds[kernel] = best_time(lambda matrix=matrix: matrix.multiply(tile, 0, out, 0)) / matrix.values.size
    return seconds["csr"] / seconds["block16x1"]


def best_time(work: Callable[[], object], repeats: int = 5) -> float:
    """Seconds of the fastest of a few calls, after one that is not counted."""
    work()
    found = []
    for _ in range(repeats):
        begin = time.perf_counter()
        work()
        found.append(time.perf_counter() - begin)
    return min(found)
