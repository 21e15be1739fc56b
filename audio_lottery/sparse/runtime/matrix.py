"""A weight matrix as the kernels read it."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from audio_lottery.sparse.kernels.half import HAS_BF16_DOT, block_rows_half, csr_rows_half, frame_pairs, row_pairs
from audio_lottery.sparse.kernels.rows import BLOCK_ROWS, FRAMES, VECTORS, block_rows, csr_rows
from audio_lottery.sparse.kernels.vector import WIDTH
from audio_lottery.sparse.runtime.threads import aligned, whole, workspace

# Largest input of one product: a tile of it fits the L2 cache of current CPUs beside its output.
MAX_INPUT = 768
_FUNCTIONS = {
    "csr": csr_rows,
    "block16x1": block_rows,
    "csr_bf16": csr_rows_half,
    "block16x2_bf16": block_rows_half,
}
# Kernels that each precision may choose from, for a linear layer; a convolution's input rows come in no pairs.
KERNELS = {
    "float32": ("csr", "block16x1"),
    "bfloat16": ("csr", "block16x1", "csr_bf16", *(("block16x2_bf16",) if HAS_BF16_DOT else ())),
}


@dataclass(frozen=True)
class Places:
    """Where in a tile the rows begin that the columns of a matrix multiply.

    Attributes:
        rows: [columns], which row of the tile.
        shifts: [columns], how many frames after its beginning.
        stride: elements from one row of the tile to the next.
    """

    rows: np.ndarray
    shifts: np.ndarray
    stride: int

    @staticmethod
    def plain(columns: int) -> "Places":
        """Those of a linear layer: column c is row c."""
        return Places(np.arange(columns), np.zeros(columns, np.int64), FRAMES)

    @property
    def half_stride(self) -> int:
        """Elements from one row of frame pairs to the next."""
        return whole(FRAMES // 2 + int(self.shifts.max(initial=0)), WIDTH)

    def offsets(self, kernel: str) -> np.ndarray:
        """Where in a kernel's operand the row of each column begins, where columns are not pairs."""
        stride = self.half_stride if kernel == "csr_bf16" else self.stride
        return self.rows * stride + self.shifts


@dataclass(frozen=True)
class SparseMatrix:
    """[rows, columns] with its bias; columns are rows of a tile.

    Attributes:
        kernel: "csr" (single weights), "block16x1" (blocks of 16 output rows; a pruned weight within a kept block is a
            zero that is multiplied), "csr_bf16" and "block16x2_bf16" (their input in bfloat16, see `kernels.half`).
        rows: output rows.
        kept: weights that are not zero.
        values: [kept], or [blocks · 16] float32; [blocks · 16] int32 pairs of bfloat16 for "block16x2_bf16".
        offsets: int32, where in the operand the row of a weight or block begins.
        pointers: int64, where the weights of each row (or 16 rows) begin.
        bias: [rows] float32.
        places: how the tile is laid out.
    """

    kernel: str
    rows: int
    kept: int
    values: np.ndarray
    offsets: np.ndarray
    pointers: np.ndarray
    bias: np.ndarray
    places: Places

    @property
    def bytes(self) -> int:
        """Memory that the arrays take."""
        return sum(array.nbytes for array in (self.values, self.offsets, self.pointers, self.bias))

    def dense(self) -> np.ndarray:
        """[rows, columns] with its zeros, as it was given; weights of "block16x2_bf16" stay rounded."""
        dense = np.zeros((self.rows, self.places.rows.size), np.float32)
        row = np.repeat(np.arange(self.pointers.size - 1), np.diff(self.pointers))
        if self.kernel == "block16x2_bf16":
            pairs = self.values.view(np.uint32).reshape(-1, BLOCK_ROWS)
            numbers = np.stack([pairs << 16, pairs & 0xFFFF0000], 2).view(np.float32)
            dense.reshape(len(dense) // BLOCK_ROWS, BLOCK_ROWS, -1, 2)[row, :, self.offsets // self.places.stride] = (
                numbers
            )
            return dense
        offsets = self.places.offsets(self.kernel)
        order = np.argsort(offsets)
        column = order[np.searchsorted(offsets[order], self.offsets)]
        if self.kernel == "block16x1":
            dense.reshape(len(dense) // BLOCK_ROWS, BLOCK_ROWS, -1)[row, :, column] = self.values.reshape(
                -1, BLOCK_ROWS
            )
        else:
            dense[row, column] = self.values
        return dense

    def operand(self, tile: np.ndarray, base: int, features: int, vectors: int, name: str = "pairs") -> np.ndarray:
        """What `multiply` reads for a float32 tile: the tile itself, or this thread's copy of it in bfloat16.

        Args:
            tile: flat, [features, stride] from ``base`` on.
            base: see above.
            features: rows of the tile.
            vectors: vectors of output frames; even for the kernels in bfloat16.
            name: of the workspace that holds the copy until an operand of that name is asked for again.
        """
        stride = self.places.stride
        if self.kernel == "csr_bf16":
            row, half = self.places.half_stride, vectors // 2 * WIDTH
            pairs = workspace(name, features * row).view(np.int32)
            count = min(whole(half + int(self.places.shifts.max(initial=0)), WIDTH), row)
            frame_pairs(tile, base, features, stride, half, count, pairs, 0, row)
            return pairs
        if self.kernel == "block16x2_bf16":
            pairs = workspace(name, features // 2 * stride).view(np.int32)
            row_pairs(tile, base, features, stride, vectors, pairs, 0)
            return pairs
        return tile[base:]

    def multiply(
        self,
        operand: np.ndarray,
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
            operand: of the tile.
            out: rows ``stride`` apart, from ``target`` on.
            target: see above.
            stride: see above.
            rows: first and one past the last output row; all by default.
            start: added to the product, same stride, from ``origin`` on.
            origin: see above.
            vectors: vectors of frames.
        """
        first, last = rows or (0, self.rows)
        _FUNCTIONS[self.kernel](
            self.values,
            self.offsets,
            self.pointers,
            first,
            last,
            self.bias,
            operand,
            out,
            target,
            stride,
            out if start is None else start,
            origin,
            stride,
            vectors,
        )


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
    stored = {}
    for kernel in kernels:
        if kernel == "csr_bf16" or kernel == "csr":
            stored[kernel] = total
        elif rows % BLOCK_ROWS == 0 and (kernel == "block16x1" or columns % 2 == 0):
            stored[kernel] = int(np.count_nonzero(_blocks(kept, 1 if kernel == "block16x1" else 2)))
            stored[kernel] *= BLOCK_ROWS * (1 if kernel == "block16x1" else 2)
    if len(stored) > 1:
        kernel = min(stored, key=lambda name: (stored[name] + 1) * cost(name))
    else:
        (kernel,) = stored
    bias = np.zeros(rows, np.float32) if bias is None else bias.astype(np.float32)
    offsets = places.offsets(kernel)
    if kernel.startswith("csr"):
        values, offsets, counts = weight[kept], offsets[np.nonzero(kept)[1]], kept.sum(1)
    elif kernel == "block16x1":
        blocks = _blocks(kept, 1)
        values = weight.reshape(-1, BLOCK_ROWS, columns).transpose(0, 2, 1)[blocks]
        offsets, counts = offsets[np.nonzero(blocks)[1]], blocks.sum(1)
    else:
        blocks = _blocks(kept, 2)
        values = _bfloat16_pairs(weight).reshape(-1, BLOCK_ROWS, columns // 2).transpose(0, 2, 1)[blocks]
        offsets, counts = np.nonzero(blocks)[1] * places.stride, blocks.sum(1)
    pointers = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    values = np.ascontiguousarray(values).reshape(-1)
    return SparseMatrix(kernel, rows, total, values, offsets.astype(np.int32), pointers, bias, places)


def _blocks(kept: np.ndarray, width: int) -> np.ndarray:
    """Which blocks of 16 rows and ``width`` columns keep anything, [rows / 16, columns / width]."""
    return np.asarray(kept.reshape(-1, BLOCK_ROWS, kept.shape[1] // width, width).any((1, 3)))


def _bfloat16_pairs(weight: np.ndarray) -> np.ndarray:
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


@lru_cache(maxsize=len(_FUNCTIONS))
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
