"""Attention's scores on bytes: queries and keys are rounded to 8 bits, with a scale for each frame and head.

Four features that are multiplied and added lie in one 32-bit element. Queries, in the lanes, are unsigned bytes about
`ZERO`; keys are signed; what the zero adds to a score depends on the key alone.
"""

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.core.extending import intrinsic

from audio_lottery.sparse.kernels.attention import BLOCK, ROWS
from audio_lottery.sparse.kernels.half import WHOLE, whole
from audio_lottery.sparse.kernels.int8 import QUAD, ZERO, dot_bytes
from audio_lottery.sparse.kernels.quantise import ROUNDING, STEPS, steps_of
from audio_lottery.sparse.kernels.rows import FRAMES
from audio_lottery.sparse.kernels.vector import (
    FLOAT,
    LANES,
    LONG,
    WIDTH,
    absolute,
    add,
    data_pointer,
    emit_loop,
    fma,
    load,
    load_lanes,
    maximum,
    multiply,
    splat,
    splat_lanes,
    store,
    store_lanes,
    subtract,
)

F = np.float32


@intrinsic
def scores(typing, quads, key, query, steps, zero, key_scale, query_scale, out, target):
    """Scores of `ROWS` keys and `BLOCK` queries, rows of ``out``; all places but ``target`` are in ``quads``."""

    def generate(context, builder, signature, arguments):
        quads, out = (data_pointer(context, builder, signature.args[i], arguments[i]) for i in (0, 7))
        key, query, steps, zero, key_scale, query_scale, target = (arguments[i] for i in (1, 2, 3, 4, 5, 6, 8))
        numbers = builder.bitcast(quads, FLOAT.as_pointer())
        parts = range(BLOCK // WIDTH)

        def at(array, place, row):
            return builder.load(builder.gep(array, [builder.add(place, LONG(row))]))

        def step(index, sums):
            shift = builder.mul(index, LONG(FRAMES))
            begin = builder.add(query, shift)
            read = [load_lanes(builder, quads, builder.add(begin, LONG(part * WIDTH)), WHOLE) for part in parts]
            keys = builder.add(key, shift)
            following = []
            for row in range(ROWS):
                weight = splat_lanes(builder, at(quads, keys, row), WHOLE)
                for part in parts:
                    following.append(dot_bytes(builder, sums[row * len(parts) + part], read[part], weight))
            return following

        initial = []
        for row in range(ROWS):
            initial += [splat_lanes(builder, at(quads, zero, row), WHOLE)] * len(parts)
        sums = emit_loop(builder, LONG(0), steps, initial, step)
        scales = [load_lanes(builder, numbers, builder.add(query_scale, LONG(part * WIDTH))) for part in parts]
        for row in range(ROWS):
            scale = splat_lanes(builder, at(numbers, key_scale, row))
            for part in parts:
                total = builder.sitofp(sums[row * len(parts) + part], LANES)
                place = builder.add(target, LONG(row * BLOCK + part * WIDTH))
                store_lanes(builder, builder.fmul(total, builder.fmul(scales[part], scale)), out, place)
        return context.get_dummy_value()

    integer = types.int64
    return (
        types.void(quads, integer, integer, integer, integer, integer, integer, out, integer),
        generate,
    )


@intrinsic
def _quad(typing, a, b, c, d):
    """The lowest bytes of four vectors, side by side in the lanes of one."""

    def generate(context, builder, signature, arguments):
        found = whole(0)
        for number, value in enumerate(arguments):
            low = builder.and_(builder.bitcast(value, WHOLE), whole(0xFF))
            found = builder.or_(found, builder.shl(low, whole(8 * number)))
        return builder.bitcast(found, LANES)

    return a(a, b, c, d), generate


@intrinsic
def _store_whole(typing, value, out, place):
    """Whole numbers in float32, as integers."""

    def generate(context, builder, signature, arguments):
        write = data_pointer(context, builder, signature.args[1], arguments[1])
        store_lanes(builder, builder.fptosi(arguments[0], ir.VectorType(WHOLE.element, WIDTH)), write, arguments[2])
        return context.get_dummy_value()

    return types.void(value, out, types.int64), generate


@njit(nogil=True, cache=True)
def round_head(joined, origin, size, zero, out, target, scales, zeros, vectors):
    """Queries or keys of a head of a tile, [size, FRAMES] float32, to quads [size / 4, FRAMES].

    Args:
        joined: flat, from ``origin`` on.
        origin: see above.
        size: features of a head, a multiple of four.
        zero: the byte of zero: `ZERO` for queries, 0 for keys, whose bytes are signed.
        out: int32, from ``target`` on; the scales [FRAMES] float32 from ``scales`` on, and from ``zeros`` on, unless
            it is negative, [FRAMES] what sums of products with queries start from.
        target: see above.
        scales: see above.
        zeros: see above.
        vectors: of frames.
    """
    offset = splat(F(ROUNDING + zero))
    for part in range(0, vectors * WIDTH, WIDTH):
        top = splat(F(0.0))
        for feature in range(size):
            top = maximum(top, absolute(load(joined, origin + feature * FRAMES + part)))
        steps = steps_of(top)
        store(out, scales + part, multiply(top, splat(F(1.0 / STEPS))))
        total = splat(F(0.0))
        for feature in range(0, size, QUAD):
            read = origin + feature * FRAMES + part
            a = fma(load(joined, read), steps, offset)
            b = fma(load(joined, read + FRAMES), steps, offset)
            c = fma(load(joined, read + 2 * FRAMES), steps, offset)
            d = fma(load(joined, read + 3 * FRAMES), steps, offset)
            store(out, target + feature // QUAD * FRAMES + part, _quad(a, b, c, d))
            pair = add(subtract(a, offset), subtract(b, offset))
            total = add(total, add(pair, add(subtract(c, offset), subtract(d, offset))))
        if zeros >= 0:
            _store_whole(multiply(total, splat(F(-ZERO))), out, zeros + part)
