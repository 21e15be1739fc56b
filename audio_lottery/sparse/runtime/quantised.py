"""Weight matrices in int8 with a scale for each output row; their input is rounded to bytes as it comes."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from audio_lottery.sparse.kernels.int8 import (
    HEAD,
    QUAD,
    ZERO,
    block_rows_int8,
    csr_rows_int8,
    row_bytes,
)
from audio_lottery.sparse.kernels.quantise import STEPS, quantise_frames, quantise_tile
from audio_lottery.sparse.kernels.rows import BLOCK_ROWS, FRAMES, VECTORS
from audio_lottery.sparse.kernels.vector import WIDTH
from audio_lottery.sparse.runtime.stored import Places, SparseMatrix
from audio_lottery.sparse.runtime.threads import workspace

INT8_FUNCTIONS = {"csr_int8": csr_rows_int8, "block16_int8": block_rows_int8}


@dataclass(frozen=True)
class QuantisedMatrix(SparseMatrix):
    """`SparseMatrix` of "csr_int8" (single weights) or "block16_int8" (blocks of 16 output rows, of any columns).

    Attributes:
        values: int32, four signed bytes each: [quads], or [quads · 16].
        columns: [quads · 4], of each weight.
        pointers: int64, where the quads of each row (or 16 rows) begin.
        scales: [rows] float32.
        zeros: [rows] int32, what sums start from.
    """

    scales: np.ndarray
    zeros: np.ndarray

    @property
    def bytes(self) -> int:
        """Memory that the arrays take."""
        return super().bytes + self.scales.nbytes + self.zeros.nbytes

    @property
    def _row(self) -> int:
        """Bytes of a row of the operand."""
        return row_bytes(self.places.reach)

    @property
    def arrays(self) -> tuple[np.ndarray | int, ...]:
        """See `SparseMatrix.arrays`."""
        return self.values, self.columns, self.unit, self.pointers, self.zeros, self.scales, self.bias

    def operand_space(self, features: int) -> tuple[int, int, np.dtype]:
        """See `SparseMatrix.operand_space`."""
        return self._row, (HEAD + features * self._row) // 4, np.dtype(np.uint8)

    @cached_property
    def most(self) -> int:
        """Quads that 16 rows have at most."""
        return int(np.diff(self.pointers).max(initial=0))

    def dense(self) -> np.ndarray:
        """[rows, columns] with its zeros; weights stay rounded."""
        found = np.zeros((self.rows, self.places.rows.size), np.float32)
        quad_row = np.repeat(np.arange(self.pointers.size - 1), np.diff(self.pointers))
        column = self.places.columns(self.kernel, self.columns).reshape(-1, QUAD)
        weights = self.values.view(np.int8)
        if self.kernel == "csr_int8":
            # what fills a row's last quad is a zero beside a weight of the same column
            np.add.at(found, (quad_row[:, None], column), weights.reshape(-1, QUAD))
        else:
            blocks = found.reshape(-1, BLOCK_ROWS, found.shape[1])
            lines = np.arange(BLOCK_ROWS)[None, :, None]
            np.add.at(blocks, (quad_row[:, None, None], lines, column[:, None]), weights.reshape(-1, BLOCK_ROWS, QUAD))
        return found * self.scales[:, None]

    def operand(self, tile: np.ndarray, base: int, features: int, vectors: int, name: str = "pairs") -> np.ndarray:
        """This thread's copy of a float32 tile in bytes; see `SparseMatrix.operand`.

        Every frame has a scale of its own where no product mixes frames; the tile has one otherwise.
        """
        shift = self.places.reach
        row = self._row
        x = workspace(name, (HEAD + features * row) // 4).view(np.uint8)
        if shift == 0:
            quantise_frames(tile, base, features, self.places.stride, vectors, x, row)
        else:
            quantise_tile(tile, base, features, self.places.stride, vectors * WIDTH + shift, x, row)
        return x

    def multiply(
        self,
        operand: np.ndarray,
        out: np.ndarray,
        target: int,
        stride: int = FRAMES,
        *,
        rows: tuple[int, int] | None = None,
        start: tuple[np.ndarray, int] | None = None,
        vectors: int = VECTORS,
        activation: int = 0,
    ) -> None:
        """See `SparseMatrix.multiply`."""
        first, last = rows or (0, self.rows)
        self.count(first, last, vectors)
        scratch: tuple[np.ndarray, ...] = ()
        if self.kernel == "block16_int8":
            scratch = (workspace("quads", self.most * FRAMES).view(np.int32),)
        INT8_FUNCTIONS[self.kernel](
            self.values, self.columns, self.unit, self.pointers, self.zeros, self.scales, first, last, self.bias,
            operand, out, target, stride, *(start or (out, -1)), stride, vectors, activation,
            *scratch,
        )  # fmt: skip


def quads(kept: np.ndarray) -> int:
    """Weights of every row with those that fill its last four, in all; ``kept`` is [rows, columns]."""
    counts = kept.sum(1)
    return int((-(-counts // QUAD) * QUAD).sum())


def quantise(kernel: str, weight: np.ndarray, places: Places, bias: np.ndarray) -> QuantisedMatrix:
    """Round a matrix to int8, symmetric, with a scale for each row.

    Args:
        kernel: of `INT8_FUNCTIONS`.
        weight: [rows, columns] float32 with zeros.
        places: where in a tile the rows of its columns lie.
        bias: [rows] float32.
    """
    rows = len(weight)
    scales = np.abs(weight).max(1, initial=0) / np.float32(STEPS)
    steps = np.rint(weight / np.where(scales > 0, scales, 1)[:, None]).clip(-STEPS, STEPS).astype(np.int8)
    kept = weight != 0
    if kernel == "csr_int8":
        lines, groups = kept, steps[:, None]
    else:
        blocks = (-1, BLOCK_ROWS, weight.shape[1])
        lines, groups = kept.reshape(blocks).any(1), steps.reshape(blocks)
    counts = -(-lines.sum(1) // QUAD)
    pointers = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    height = groups.shape[1]
    values = np.zeros((int(pointers[-1]), height, QUAD), np.int8)
    # what fills a row up is a zero that reads what its first weight reads
    where = np.repeat(lines.argmax(1), counts)[:, None].repeat(QUAD, 1)
    line, column = np.nonzero(lines)
    # the place of a kept column within its row's quads
    number = np.arange(line.size) - np.concatenate([[0], np.cumsum(lines.sum(1))])[line]
    quad, place = pointers[line] + number // QUAD, number % QUAD
    values[quad, :, place] = groups[line, :, column]
    where[quad, place] = column
    zeros = (-ZERO * steps.astype(np.int32).sum(1)).astype(np.int32)
    return QuantisedMatrix(
        kernel, rows, int(np.count_nonzero(kept)), np.ascontiguousarray(values).view(np.int32).reshape(-1),
        *places.numbers(kernel, where.reshape(-1)), pointers, bias, places, scales.astype(np.float32), zeros,
    )  # fmt: skip
