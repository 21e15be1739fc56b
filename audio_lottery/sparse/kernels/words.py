"""The output layer of a model with many words: dense weights that are read once, in half the bytes where they fit."""

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.core.extending import intrinsic

from audio_lottery.sparse.kernels.vector import (
    HALF,
    LANES,
    WIDTH,
    add,
    data_pointer,
    fma,
    load,
    load_lanes,
    splat,
    total,
    vector,
)

F = np.float32


def _halves(emit):
    """An intrinsic: ``WIDTH`` numbers of 16 bits from element ``offset`` on, as float32."""

    @intrinsic
    def read(typing, array, offset):
        def generate(context, builder, signature, values):
            pointer = data_pointer(context, builder, signature.args[0], values[0])
            return emit(builder, load_lanes(builder, pointer, values[1], ir.VectorType(HALF, WIDTH)))

        return vector(array, types.int64), generate

    return read


def _widened(builder, bits):
    wide = ir.VectorType(ir.IntType(32), WIDTH)
    return builder.bitcast(builder.shl(builder.zext(bits, wide), ir.Constant(wide, [16] * WIDTH)), LANES)


_float16 = _halves(
    lambda builder, bits: builder.fpext(builder.bitcast(bits, ir.VectorType(ir.HalfType(), WIDTH)), LANES)
)
_bfloat16 = _halves(_widened)


def _rows(read):
    """`word_rows` for weights that ``read`` gets from where they are stored."""

    @njit(inline="always")
    def one(weights, begin, x, place, size):
        a = splat(F(0.0))
        b = splat(F(0.0))
        c = splat(F(0.0))
        d = splat(F(0.0))
        fours = size // (4 * WIDTH) * (4 * WIDTH)
        for part in range(0, fours, 4 * WIDTH):
            a = fma(read(weights, begin + part), load(x, place + part), a)
            b = fma(read(weights, begin + part + WIDTH), load(x, place + part + WIDTH), b)
            c = fma(read(weights, begin + part + 2 * WIDTH), load(x, place + part + 2 * WIDTH), c)
            d = fma(read(weights, begin + part + 3 * WIDTH), load(x, place + part + 3 * WIDTH), d)
        for part in range(fours, size, WIDTH):
            a = fma(read(weights, begin + part), load(x, place + part), a)
        return total(add(add(a, b), add(c, d)))

    @njit(nogil=True, cache=True)
    def rows(weights, bias, x, frames, size, first, last, out):
        words = bias.size
        # a weight is read, and made a float32, once for four frames
        fours = frames // 4 * 4
        for word in range(first, last):
            begin = word * size
            for frame in range(0, fours, 4):
                place = frame * size
                a = splat(F(0.0))
                b = splat(F(0.0))
                c = splat(F(0.0))
                d = splat(F(0.0))
                for part in range(0, size, WIDTH):
                    weight = read(weights, begin + part)
                    a = fma(weight, load(x, place + part), a)
                    b = fma(weight, load(x, place + size + part), b)
                    c = fma(weight, load(x, place + 2 * size + part), c)
                    d = fma(weight, load(x, place + 3 * size + part), d)
                target = frame * words + word
                out[target] = total(a) + bias[word]
                out[target + words] = total(b) + bias[word]
                out[target + 2 * words] = total(c) + bias[word]
                out[target + 3 * words] = total(d) + bias[word]
            for frame in range(fours, frames):
                out[frame * words + word] = one(weights, begin, x, frame * size, size) + bias[word]

    return rows


# Rows ``first`` to ``last`` of W·x + bias for ``frames`` rows of ``size``, a multiple of ``WIDTH``; all arrays flat.
WORD_ROWS = {"float32": _rows(load), "float16": _rows(_float16), "bfloat16": _rows(_bfloat16)}
