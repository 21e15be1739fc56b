"""Sparse times one frame, for models that go forward step by step: no frames to lay in the lanes.

The frame's features lie one behind the other, all of them in the L1 cache.
"""

import numpy as np
from numba import njit, types
from numba.core.extending import intrinsic

from audio_lottery.sparse.kernels.rows import BLOCK_ROWS
from audio_lottery.sparse.kernels.vector import WIDTH, add, data_pointer, fma, load, splat, store

F = np.float32


@intrinsic
def _at(typing, array, index):
    """An element; numba's own indexing first asks whether the index counts from the end."""

    def generate(context, builder, signature, values):
        return builder.load(builder.gep(data_pointer(context, builder, signature.args[0], values[0]), [values[1]]))

    return array.dtype(array, types.int64), generate


@njit(inline="always")
def _feature(x, origin, columns, index):
    """What weight number ``index`` multiplies."""
    return _at(x, origin + np.int64(_at(columns, index)))


@njit(nogil=True, cache=True)
def csr_frame(values, columns, pointers, bias, x, origin, out, target, adds):
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
        adds: whether to add.
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
            a += _at(values, index) * _feature(x, origin, columns, index)
            b += _at(values, index + 1) * _feature(x, origin, columns, index + 1)
            c += _at(values, index + 2) * _feature(x, origin, columns, index + 2)
            d += _at(values, index + 3) * _feature(x, origin, columns, index + 3)
        for index in range(whole, last):
            a += _at(values, index) * _feature(x, origin, columns, index)
        total = bias[row] + ((a + b) + (c + d))
        out[target + row] = out[target + row] + total if adds else total


@njit(nogil=True, cache=True)
def block_frame(values, columns, pointers, bias, x, origin, out, target, adds):
    """The same for blocks of 16 output rows: [kept blocks, 16] values, rows in the lanes."""
    for row in range(0, bias.size, WIDTH):
        block = row // BLOCK_ROWS
        within = row - block * BLOCK_ROWS
        first = pointers[block]
        last = pointers[block + 1]
        whole = first + (last - first) // 4 * 4
        a = splat(F(0.0))
        b = splat(F(0.0))
        c = splat(F(0.0))
        d = splat(F(0.0))
        for index in range(first, whole, 4):
            read = index * BLOCK_ROWS + within
            a = fma(splat(_feature(x, origin, columns, index)), load(values, read), a)
            b = fma(splat(_feature(x, origin, columns, index + 1)), load(values, read + BLOCK_ROWS), b)
            c = fma(splat(_feature(x, origin, columns, index + 2)), load(values, read + 2 * BLOCK_ROWS), c)
            d = fma(splat(_feature(x, origin, columns, index + 3)), load(values, read + 3 * BLOCK_ROWS), d)
        for index in range(whole, last):
            a = fma(splat(_feature(x, origin, columns, index)), load(values, index * BLOCK_ROWS + within), a)
        total = add(add(add(a, b), add(c, d)), load(bias, row))
        if adds:
            total = add(total, load(out, target + row))
        store(out, target + row, total)
