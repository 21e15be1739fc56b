"""A packed weight matrix, and where it finds its input in a tile."""

from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np

from audio_lottery.sparse.kernels.half import block_rows_half, csr_rows_half, frame_pairs, row_pairs
from audio_lottery.sparse.kernels.int8 import row_bytes
from audio_lottery.sparse.kernels.rows import BLOCK_ROWS, FRAMES, VECTORS, block_rows, csr_rows
from audio_lottery.sparse.kernels.vector import WIDTH
from audio_lottery.sparse.runtime.threads import record, whole, workspace

FUNCTIONS = {
    "csr": csr_rows,
    "block16x1": block_rows,
    "csr_bf16": csr_rows_half,
    "block16x2_bf16": block_rows_half,
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
    @lru_cache(maxsize=64)
    def plain(columns: int) -> "Places":
        """Those of a linear layer: column c is row c."""
        return Places(np.arange(columns), np.zeros(columns, np.int64), FRAMES)

    @cached_property
    def reach(self) -> int:
        """The largest shift."""
        return int(self.shifts.max(initial=0))

    @cached_property
    def half_stride(self) -> int:
        """Elements from one row of frame pairs to the next."""
        return whole(FRAMES // 2 + self.reach, WIDTH)

    @cached_property
    def in_order(self) -> bool:
        """Whether column c is row c, from its beginning."""
        return self.reach == 0 and bool((self.rows == np.arange(self.rows.size)).all())

    def _unit(self, kernel: str) -> int:
        """From one row of a kernel's operand to the next."""
        if kernel == "csr_bf16":
            return self.half_stride
        return row_bytes(self.reach) if kernel.endswith("int8") else self.stride

    def numbers(self, kernel: str, columns: np.ndarray) -> tuple[np.ndarray, int]:
        """Columns (of "block16x2_bf16": pairs of columns) as a kernel reads them, and its unit.

        In two bytes each where they are the rows of the tile in order, else where the rows begin.
        """
        unit = self._unit(kernel)
        if kernel == "block16x2_bf16" or (self.in_order and self.rows.size <= 1 << 16):
            return columns.astype(np.uint16), unit
        return (self.rows * unit + self.shifts)[columns].astype(np.int32), 1

    def columns(self, kernel: str, numbers: np.ndarray) -> np.ndarray:
        """The columns of what `numbers` gave."""
        if numbers.dtype == np.uint16:
            return numbers
        places = self.rows * self._unit(kernel) + self.shifts
        order = np.argsort(places)
        return np.asarray(order[np.searchsorted(places[order], numbers)])


@dataclass(frozen=True)
class SparseMatrix:
    """[rows, columns] with its bias; columns are rows of a tile.

    Attributes:
        kernel: "csr" (single weights), "block16x1" (blocks of 16 output rows; a pruned weight within a kept block is a
            zero that is multiplied), "csr_bf16" and "block16x2_bf16" (their input in bfloat16, see `kernels.half`).
        rows: output rows.
        kept: weights that are not zero.
        values: [kept], or [blocks · 16] float32; [blocks · 16] int32 pairs of bfloat16 for "block16x2_bf16".
        columns: of each weight or block, see `Places.numbers`.
        unit: see there.
        pointers: int64, where the weights of each row (or 16 rows) begin.
        bias: [rows] float32.
        places: how the tile is laid out.
    """

    kernel: str
    rows: int
    kept: int
    values: np.ndarray
    columns: np.ndarray
    unit: int
    pointers: np.ndarray
    bias: np.ndarray
    places: Places

    @property
    def bytes(self) -> int:
        """Memory that the arrays take."""
        return sum(array.nbytes for array in (self.values, self.columns, self.pointers, self.bias))

    def dense(self) -> np.ndarray:
        """[rows, columns] with its zeros, as it was given; weights of "block16x2_bf16" stay rounded."""
        dense = np.zeros((self.rows, self.places.rows.size), np.float32)
        row = np.repeat(np.arange(self.pointers.size - 1), np.diff(self.pointers))
        columns = self.places.columns(self.kernel, self.columns)
        if self.kernel == "block16x2_bf16":
            pairs = self.values.view(np.uint32).reshape(-1, BLOCK_ROWS)
            numbers = np.stack([pairs << 16, pairs & 0xFFFF0000], 2).view(np.float32)
            dense.reshape(len(dense) // BLOCK_ROWS, BLOCK_ROWS, -1, 2)[row, :, columns] = numbers
        elif self.kernel == "block16x1":
            values = self.values.reshape(-1, BLOCK_ROWS)
            dense.reshape(len(dense) // BLOCK_ROWS, BLOCK_ROWS, -1)[row, :, columns] = values
        else:
            dense[row, columns] = self.values
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
            count = min(whole(half + self.places.reach, WIDTH), row)
            frame_pairs(tile, base, features, stride, half, count, pairs, 0, row)
            return pairs
        if self.kernel == "block16x2_bf16":
            pairs = workspace(name, features // 2 * stride).view(np.int32)
            row_pairs(tile, base, features, stride, vectors, pairs, 0)
            return pairs
        return tile[base:]

    @property
    def arrays(self) -> tuple[np.ndarray | int, ...]:
        """Values, columns, unit, pointers, zeros, scales and bias, as `kernels.convolve` takes them."""
        nothing = np.zeros(0, np.int32), np.zeros(0, np.float32)
        return self.values, self.columns, self.unit, self.pointers, *nothing, self.bias

    def operand_space(self, features: int) -> tuple[int, int, np.dtype]:
        """Of a tile's operand: elements from one row to the next, numbers of 32 bits in all, type."""
        row = self.places.half_stride if self.kernel == "csr_bf16" else 0
        return row, features * row, np.dtype(np.int32)

    def count(self, first: int, last: int, vectors: int) -> None:
        """Tell whoever counts what a product multiplies and reads."""
        counter = record()
        if counter is None or not self.kept:
            return
        step = self.rows // (self.pointers.size - 1)
        share = (self.pointers[last // step] - self.pointers[first // step]) / self.pointers[-1]
        size = round(share * (self.values.nbytes + self.columns.nbytes))
        counter.add(round(self.kept * share) * vectors * WIDTH, (id(self), first, last), size)

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
        """out = W·x + bias (+ start), all flat arrays; see `kernels.rows.csr_rows`.

        Args:
            operand: of the tile.
            out: rows ``stride`` apart, from ``target`` on.
            target: see above.
            stride: see above.
            rows: first and one past the last output row; all by default.
            start: added to the product: numbers of the same stride, and where they begin.
            vectors: vectors of frames.
            activation: of the sums, see `kernels.elementwise.activate`.
        """
        first, last = rows or (0, self.rows)
        self.count(first, last, vectors)
        FUNCTIONS[self.kernel](
            self.values,
            self.columns,
            self.unit,
            self.pointers,
            first,
            last,
            self.bias,
            operand,
            out,
            target,
            stride,
            *(start or (out, -1)),
            stride,
            vectors,
            activation,
        )
