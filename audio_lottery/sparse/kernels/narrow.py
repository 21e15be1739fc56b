"""A few frames at a time: products, and attention of single queries over keys that lie as torch keeps them.

A *narrow tile* holds up to ``WIDTH`` frames of all features, [features, WIDTH]: one vector a row. The products of
`rows` hide the latency of a multiply-add behind the sums of 8 vectors; here the weights of a row are shared by four
sums instead.
"""

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.core.extending import intrinsic

from audio_lottery.sparse.kernels.rows import BLOCK_ROWS, block_rows
from audio_lottery.sparse.kernels.vector import (
    LANES,
    LONG,
    WIDTH,
    add,
    data_pointer,
    divide,
    emit_sums,
    exp,
    fma,
    fma_lanes,
    load,
    load_lanes,
    maximum,
    multiply,
    splat,
    splat_lanes,
    store,
    store_lanes,
    subtract,
    total,
)

F = np.float32
_SUMS = 4
_LOWEST = F(-3e38)


@intrinsic
def _row(typing, x, values, columns, first, last, out, target, start, origin, bias):
    """out[target …] = start[origin …] + bias + Σ values[j] · x[columns[j]] for j in [first, last); no start: -1."""

    def generate(context, builder, signature, arguments):
        kinds = signature.args
        first, last, target, origin, bias = (arguments[i] for i in (3, 4, 6, 8, 9))
        x, values, columns, out, start = (
            data_pointer(context, builder, kinds[i], arguments[i]) for i in (0, 1, 2, 5, 7)
        )

        def weighed(index, so_far):
            weight = splat_lanes(builder, builder.load(builder.gep(values, [index])))
            column = builder.zext(builder.load(builder.gep(columns, [index])), LONG)
            place = builder.mul(column, LONG(WIDTH))
            return fma_lanes(builder, weight, load_lanes(builder, x, place), so_far)

        def several(index, sums):
            begin = builder.add(first, builder.mul(index, LONG(_SUMS)))
            return [weighed(builder.add(begin, LONG(number)), one) for number, one in enumerate(sums)]

        zero = ir.Constant(LANES, [0.0] * WIDTH)
        rounds = builder.sdiv(builder.sub(last, first), LONG(_SUMS))
        addend = (
            builder.icmp_signed(">=", origin, LONG(0)),
            lambda: [load_lanes(builder, start, origin)] + [zero] * (_SUMS - 1),
        )
        initial = [splat_lanes(builder, bias)] + [zero] * (_SUMS - 1)
        a, b, c, d = emit_sums(builder, LONG(0), rounds, initial, addend, several)
        joined = builder.fadd(builder.fadd(a, b), builder.fadd(c, d))
        left = builder.add(first, builder.mul(rounds, LONG(_SUMS)))
        never = (ir.Constant(ir.IntType(1), 0), lambda: [zero])
        (joined,) = emit_sums(builder, left, last, [joined], never, lambda index, sums: [weighed(index, sums[0])])
        store_lanes(builder, joined, out, target)
        return context.get_dummy_value()

    integer = types.int64
    return (
        types.void(x, values, columns, integer, integer, out, integer, start, integer, types.float32),
        generate,
    )


@njit(nogil=True, cache=True)
def narrow_product(matrix, x, out, adds):
    """out (+)= W·x + bias on narrow tiles.

    Args:
        matrix: arrays of a `runtime.whisper_decoder.Narrow`.
        x: [columns, WIDTH], flat.
        out: [rows, WIDTH], flat.
        adds: whether ``out`` is added to.
    """
    values, columns, unit, pointers, bias, blocks = matrix
    origin = 0 if adds else -1
    if blocks:
        block_rows(values, columns, unit, pointers, 0, bias.size, bias, x, out, 0, WIDTH, out, origin, WIDTH, 1, 0)
        return
    for row in range(bias.size):
        place = row * WIDTH
        begin = place if adds else -1
        _row(x, values, columns, pointers[row], pointers[row + 1], out, place, out, begin, bias[row])


@njit(nogil=True, cache=True)
def single_product(matrix, x, out, adds):
    """`narrow_product` for one frame: x is [columns], out [rows]."""
    values, columns, _, pointers, bias, blocks = matrix
    if blocks:
        _single_blocks(values, columns, pointers, bias, x, out, adds)
        return
    one = np.uint64(1)
    for row in range(bias.size):
        a = bias[row]
        b = c = d = F(0.0)
        # not negative: an index that may be is looked at before every load
        place = np.uint64(pointers[row])
        last = np.uint64(pointers[row + 1])
        fours = last - (last - place) % np.uint64(4)
        while place < fours:
            a += values[place] * x[columns[place]]
            place += one
            b += values[place] * x[columns[place]]
            place += one
            c += values[place] * x[columns[place]]
            place += one
            d += values[place] * x[columns[place]]
            place += one
        while place < last:
            a += values[place] * x[columns[place]]
            place += one
        out[row] = ((a + b) + (c + d)) + (out[row] if adds else F(0.0))


@njit(nogil=True, cache=True)
def _single_blocks(values, columns, pointers, bias, x, out, adds):
    for row in range(0, bias.size, WIDTH):
        block = row // BLOCK_ROWS
        within = row - block * BLOCK_ROWS
        last = pointers[block + 1]
        fours = last - (last - pointers[block]) % 4
        a = load(bias, row)
        b = splat(F(0.0))
        c = splat(F(0.0))
        d = splat(F(0.0))
        for place in range(pointers[block], fours, 4):
            read = place * BLOCK_ROWS + within
            a = fma(splat(x[columns[place]]), load(values, read), a)
            b = fma(splat(x[columns[place + 1]]), load(values, read + BLOCK_ROWS), b)
            c = fma(splat(x[columns[place + 2]]), load(values, read + 2 * BLOCK_ROWS), c)
            d = fma(splat(x[columns[place + 3]]), load(values, read + 3 * BLOCK_ROWS), d)
        for place in range(fours, last):
            a = fma(splat(x[columns[place]]), load(values, place * BLOCK_ROWS + within), a)
        sums = add(add(a, b), add(c, d))
        if adds:
            sums = add(sums, load(out, row))
        store(out, row, sums)


@njit(nogil=True, cache=True)
def norm_row(source, origin, size, norm, out):
    """Layer norm of one frame, [size], a multiple of ``WIDTH``; norm: weight, bias, epsilon."""
    weight, bias, epsilon = norm
    sums = splat(F(0.0))
    for part in range(0, size, WIDTH):
        sums = add(sums, load(source, origin + part))
    mean = splat(total(sums) / F(size))
    squares = splat(F(0.0))
    for part in range(0, size, WIDTH):
        centred = subtract(load(source, origin + part), mean)
        squares = fma(centred, centred, squares)
    scale = splat(F(1.0) / np.sqrt(total(squares) / F(size) + F(epsilon)))
    for part in range(0, size, WIDTH):
        centred = multiply(subtract(load(source, origin + part), mean), scale)
        store(out, part, fma(centred, load(weight, part), load(bias, part)))


@njit(nogil=True, cache=True)
def pack_narrow(source, origin, stride, frames, features, tile):
    """``frames`` rows of ``features``, ``stride`` apart, to a narrow tile; zeros behind them."""
    for feature in range(features):
        for frame in range(frames):
            tile[feature * WIDTH + frame] = source[origin + frame * stride + feature]
        for frame in range(frames, WIDTH):
            tile[feature * WIDTH + frame] = F(0.0)


@njit(nogil=True, cache=True)
def unpack_narrow(tile, first, features, frames, out, target, stride):
    """Rows ``first`` … of a narrow tile to ``frames`` rows of ``features``, ``stride`` apart."""
    for feature in range(features):
        for frame in range(frames):
            out[target + frame * stride + feature] = tile[(first + feature) * WIDTH + frame]


@njit(nogil=True, cache=True)
def _attend_row(query, place, keys, values, origin, count, size, allowed, mask, out, target, scores):
    """One query of one head over ``count`` keys.

    Args:
        query: flat; the query, already scaled, from ``place`` on.
        place: see above.
        keys: flat; [count, size] from ``origin`` on.
        values: the same.
        origin: see above.
        count: see above.
        size: features of a head, a multiple of ``WIDTH``.
        allowed: flat; which keys may be attended to, from ``mask`` on.
        mask: negative where all may.
        out: [size] from ``target`` on.
        target: see above.
        scores: ``count`` in whole vectors and a vector more, of this thread's own.
    """
    for key in range(count):
        sums = multiply(load(query, place), load(keys, origin + key * size))
        for part in range(WIDTH, size, WIDTH):
            sums = fma(load(query, place + part), load(keys, origin + key * size + part), sums)
        scores[key] = total(sums)
    whole = (count + WIDTH - 1) // WIDTH * WIDTH
    for key in range(count, whole):
        scores[key] = _LOWEST
    if mask >= 0:
        for key in range(count):
            if not allowed[mask + key]:
                scores[key] = _LOWEST
    top = splat(_LOWEST)
    for key in range(0, whole, WIDTH):
        top = maximum(top, load(scores, key))
    store(scores, whole, top)
    highest = _LOWEST
    for lane in range(WIDTH):
        highest = max(highest, scores[whole + lane])
    top = splat(F(highest))
    weights = splat(F(0.0))
    for key in range(0, whole, WIDTH):
        one = exp(subtract(load(scores, key), top))
        weights = add(weights, one)
        store(scores, key, one)
    share = divide(splat(F(1.0)), splat(total(weights)))
    for part in range(0, size, WIDTH):
        a = splat(F(0.0))
        b = splat(F(0.0))
        c = splat(F(0.0))
        d = splat(F(0.0))
        begin = origin + part
        fours = count // 4 * 4
        for key in range(0, fours, 4):
            a = fma(splat(scores[key]), load(values, begin + key * size), a)
            b = fma(splat(scores[key + 1]), load(values, begin + (key + 1) * size), b)
            c = fma(splat(scores[key + 2]), load(values, begin + (key + 2) * size), c)
            d = fma(splat(scores[key + 3]), load(values, begin + (key + 3) * size), d)
        for key in range(fours, count):
            a = fma(splat(scores[key]), load(values, begin + key * size), a)
        store(out, target + part, multiply(add(add(a, b), add(c, d)), share))


@njit(nogil=True, cache=True)
def attend_rows(first, last, queries, stride, keys, values, shape, allowed, mode, out, scores):
    """Attention of every query of some heads.

    Args:
        first: of the heads of all texts, which of them.
        last: one past the last.
        queries: flat; that of head h and row r begins at r·stride + h·size.
        stride: see above.
        keys: [texts, heads, seen, size], flat.
        values: the same.
        shape: heads, queries a text, seen, size.
        allowed: [texts or 1, queries, seen] bool, flat.
        mode: 0: a query sees all keys; 1: those up to its own, which are the last; 2: those ``allowed`` to its text;
            3: the same for all texts.
        out: flat; rows of heads · size.
        scores: see `_attend_row`.
    """
    heads, steps, seen, size = shape
    for number in range(first, last):
        text = number // heads
        head = number - text * heads
        for step in range(steps):
            row = text * steps + step
            count = seen - steps + step + 1 if mode == 1 else seen
            mask = -1
            if mode == 2:
                mask = row * seen
            elif mode == 3:
                mask = step * seen
            place = row * stride + head * size
            target = row * heads * size + head * size
            _attend_row(
                queries, place, keys, values, number * seen * size, count, size, allowed, mask, out, target, scores
            )
