"""Tiles in float32 to bytes, as the products of `int8` read them."""

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.core.extending import intrinsic

from audio_lottery.sparse.kernels.half import WHOLE
from audio_lottery.sparse.kernels.int8 import BYTE, GROUP, HEAD, ZERO
from audio_lottery.sparse.kernels.rows import FRAMES
from audio_lottery.sparse.kernels.vector import (
    FLOAT,
    INT,
    LANES,
    LONG,
    WIDTH,
    absolute,
    data_pointer,
    emit_loop,
    fma_lanes,
    load,
    load_lanes,
    maximum,
    multiply,
    splat,
    splat_lanes,
    store_lanes,
)

F = np.float32
# The largest number of steps to either side of zero.
STEPS = 127
# Adding it leaves a whole number below 256, rounded to nearest even, in the lowest byte of a float32.
ROUNDING = float(3 << 22)


def store_bytes(builder, value, steps, pointer, place):
    """A vector of inputs as bytes: round(value · steps) + `ZERO`."""
    rounded = fma_lanes(builder, value, steps, ir.Constant(LANES, [ROUNDING + ZERO] * WIDTH))
    narrow = builder.trunc(builder.bitcast(rounded, WHOLE), ir.VectorType(BYTE, WIDTH))
    builder.store(narrow, builder.bitcast(builder.gep(pointer, [place]), narrow.type.as_pointer()), align=1)


def steps_lanes(builder, top):
    """Steps per unit where the largest number is ``top``: 0 where that is 0."""
    steps = builder.fdiv(ir.Constant(LANES, [float(STEPS)] * WIDTH), top)
    # below that, steps overflow; such inputs count as zeros
    some = builder.fcmp_ordered(">", top, ir.Constant(LANES, [1e-30] * WIDTH))
    return builder.select(some, steps, ir.Constant(LANES, [0.0] * WIDTH))


def largest_lanes(builder, top, value):
    """The larger of ``top`` and |value| in every lane."""
    size = builder.bitcast(builder.and_(builder.bitcast(value, WHOLE), ir.Constant(WHOLE, [0x7FFFFFFF] * WIDTH)), LANES)
    return builder.select(builder.fcmp_ordered(">", top, size), top, size)


@intrinsic
def _store_scale(typing, x, frame, value):
    """A vector of frames' scales into the head of a tile."""

    def generate(context, builder, signature, arguments):
        head = builder.bitcast(data_pointer(context, builder, signature.args[0], arguments[0]), FLOAT.as_pointer())
        store_lanes(builder, arguments[2], head, arguments[1])
        return context.get_dummy_value()

    return types.void(x, types.int64, value), generate


@intrinsic
def _store_bytes(typing, value, steps, x, place):
    """See `store_bytes`."""

    def generate(context, builder, signature, arguments):
        write = data_pointer(context, builder, signature.args[2], arguments[2])
        store_bytes(builder, arguments[0], arguments[1], write, arguments[3])
        return context.get_dummy_value()

    return types.void(value, steps, x, types.int64), generate


@intrinsic
def steps_of(typing, top):
    """See `steps_lanes`."""
    return top(top), lambda context, builder, signature, arguments: steps_lanes(builder, arguments[0])


def _frames(most):
    """An intrinsic: `quantise_frames` for up to ``most`` vectors, a row at a time."""

    @intrinsic
    def frames(typing, tile, origin, features, stride, x, row, vectors):
        def generate(context, builder, signature, arguments):
            tile, x = (data_pointer(context, builder, signature.args[i], arguments[i]) for i in (0, 4))
            origin, features, stride, row, vectors = (arguments[i] for i in (1, 2, 3, 5, 6))
            head = builder.bitcast(x, FLOAT.as_pointer())
            # vectors that there are not are the first one once more
            shifts = [
                builder.select(builder.icmp_signed("<", LONG(n), vectors), LONG(n * WIDTH), LONG(0))
                for n in range(most)
            ]

            def read(feature):
                place = builder.add(origin, builder.mul(feature, stride))
                return [load_lanes(builder, tile, builder.add(place, shift)) for shift in shifts]

            def largest(feature, tops):
                return [largest_lanes(builder, top, value) for top, value in zip(tops, read(feature), strict=True)]

            zeros = [ir.Constant(LANES, [0.0] * WIDTH)] * most
            tops = emit_loop(builder, LONG(0), features, zeros, largest)
            steps = [steps_lanes(builder, top) for top in tops]
            for shift, top in zip(shifts, tops, strict=True):
                scale = builder.fmul(top, ir.Constant(LANES, [float(F(1.0 / STEPS))] * WIDTH))
                store_lanes(builder, scale, head, shift)

            def write(feature, nothing):
                place = builder.add(LONG(HEAD), builder.mul(feature, row))
                for shift, value, step in zip(shifts, read(feature), steps, strict=True):
                    store_bytes(builder, value, step, x, builder.add(place, shift))
                return nothing

            emit_loop(builder, LONG(0), features, [], write)
            return context.get_dummy_value()

        integer = types.int64
        return types.void(tile, integer, integer, integer, x, integer, integer), generate

    return frames


_frames4, _frames8 = _frames(GROUP), _frames(2 * GROUP)


@njit(nogil=True, cache=True)
def quantise_frames(tile, origin, features, stride, vectors, x, row):
    """A tile in float32 to bytes, a scale for each frame.

    Args:
        tile: flat, [features, stride] from ``origin`` on.
        origin: see above.
        features: rows.
        stride: elements from one row to the next.
        vectors: of frames.
        x: the tile in bytes: head, then [features, row].
        row: bytes from one row to the next.
    """
    if vectors > GROUP:
        _frames8(tile, origin, features, stride, x, row, vectors)
    else:
        _frames4(tile, origin, features, stride, x, row, vectors)


@intrinsic
def _first(typing, lanes, count):
    """The first ``count`` lanes, zeros behind them."""

    def generate(context, builder, signature, arguments):
        numbers = ir.Constant(WHOLE, list(range(WIDTH)))
        limit = splat_lanes(builder, builder.trunc(arguments[1], INT), WHOLE)
        inside = builder.icmp_signed("<", numbers, limit)
        return builder.select(inside, arguments[0], ir.Constant(LANES, [0.0] * WIDTH))

    return lanes(lanes, types.int64), generate


@intrinsic
def _largest(typing, lanes):
    """The largest lane in every lane."""

    def generate(context, builder, signature, arguments):
        value = arguments[0]
        half = WIDTH // 2
        while half:
            turned = ir.Constant(ir.VectorType(INT, WIDTH), [lane ^ half for lane in range(WIDTH)])
            other = builder.shuffle_vector(value, value, turned)
            value = builder.select(builder.fcmp_ordered(">", value, other), value, other)
            half //= 2
        return value

    return lanes(lanes), generate


@njit(nogil=True, cache=True)
def quantise_tile(tile, origin, features, stride, frames, x, row):
    """`quantise_frames` with one scale for all ``frames`` frames, which products that mix frames need."""
    a = splat(F(0.0))
    b = splat(F(0.0))
    inside = frames - frames % (2 * WIDTH)
    for feature in range(features):
        read = origin + feature * stride
        for part in range(0, inside, 2 * WIDTH):
            a = maximum(a, absolute(load(tile, read + part)))
            b = maximum(b, absolute(load(tile, read + part + WIDTH)))
        for part in range(inside, frames, WIDTH):
            a = maximum(a, absolute(_first(load(tile, read + part), frames - part)))
    top = _largest(maximum(a, b))
    steps = steps_of(top)
    for part in range(0, FRAMES, WIDTH):
        _store_scale(x, part, multiply(top, splat(F(1.0 / STEPS))))
    for feature in range(features):
        read = origin + feature * stride
        for part in range(0, frames, WIDTH):
            _store_bytes(load(tile, read + part), steps, x, HEAD + feature * row + part)
