"""Sparse times one frame, for models that go forward step by step: no frames to lay in the lanes.

The frame's features lie one behind the other, all of them in the L1 cache.
"""

import numpy as np
from numba import njit, types
from numba.core.extending import intrinsic

from audio_lottery.sparse.kernels.rows import BLOCK_ROWS
from audio_lottery.sparse.kernels.vector import WIDTH, data_pointer, fma, load, splat, store

F = np.float32


@intrinsic
def _at(typing, array, index):
    """An element; numba's own indexing first asks whether the index counts from the end."""

    def generate(context, builder, signature, values):
        return builder.load(builder.gep(data_pointer(context, builder, signature.args[0], values[0]), [values[1]]))

    return array.dtype(array, types.int64), generate


@njit(nogil=True, cache=True)
def csr_frame(values, columns, pointers, bias, x, origin, out, target, add):
    """W·x + bias, or what is in ``out`` plus that: single weights.

    Args:
        values: [kept] float32.
        columns: [kept], numbers of features.
        pointers: [rows + 1] int64, where each row's weights begin.
        bias: [rows] float32.
        x: features, from ``origin`` on.
        origin: see above.
        out: [rows], from ``target`` on.
        target: see above.
        add: whether to add.
    """
    for row in range(bias.size):
        a = F(0.0)
        b = F(0.0)
        c = F(0.0)
        d = F(0.0)
        first = pointers[row]
        last = pointers[row + 1]
        whole = first + (last - first) // 4 * 4
        # four sums hide the latency of an addition
        for index in range(first, whole, 4):
            a += _at(values, index) * _at(x, origin + np.int64(_at(columns, index)))
            b += _at(values, index + 1) * _at(x, origin + np.int64(_at(columns, index + 1)))
            c += _at(values, index + 2) * _at(x, origin + np.int64(_at(columns, index + 2)))
            d += _at(values, index + 3) * _at(x, origin + np.int64(_at(columns, index + 3)))
        for index in range(whole, last):
            a += _at(values, index) * _at(x, origin + np.int64(_at(columns, index)))
        total = bias[row] + ((a + b) + (c + d))
        out[target + row] = out[target + row] + total if add else total


@njit(nogil=True, cache=True)
def block_frame(values, columns, pointers, bias, x, origin, out, target, add):
    """The same for blocks of 16 output rows: [kept blocks, 16] values, rows in the lanes."""
    for row in range(0, bias.size, BLOCK_ROWS):
        first = pointers[row // BLOCK_ROWS]
        last = pointers[row // BLOCK_ROWS + 1]
        for part in range(row, row + BLOCK_ROWS, WIDTH):
            total = load(bias, part)
            if add:
                total = fma(splat(F(1.0)), load(out, target + part), total)
            for index in range(first, last):
                weight = load(values, index * BLOCK_ROWS + part - row)
                total = fma(splat(_at(x, origin + np.int64(_at(columns, index)))), weight, total)
            store(out, target + part, total)
