"""A few frames at a time: products, and attention of single queries over keys that lie as torch keeps them.

A *narrow tile* holds up to ``WIDTH`` frames of all features, [features, WIDTH]: one vector a row. The products of
`rows` hide the latency of a multiply-add behind the sums of 8 vectors; here the weights of a row are shared by four
sums instead.
"""

import numpy as np
from numba import njit

from audio_lottery.sparse.kernels.rows import block_rows, row_of
from audio_lottery.sparse.kernels.single import block_frame, csr_frame
from audio_lottery.sparse.kernels.vector import (
    WIDTH,
    add,
    divide,
    exp,
    fma,
    load,
    maximum,
    multiply,
    splat,
    store,
    subtract,
    total,
)

F = np.float32
_LOWEST = F(-3e38)


_row = row_of(1, 4)


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
        _row(x, values, columns, WIDTH, pointers[row], pointers[row + 1], out, place, out, begin, bias[row], 0)


@njit(nogil=True, cache=True)
def single_product(matrix, x, out, adds):
    """`narrow_product` for one frame: x is [columns], out [rows]."""
    values, columns, _, pointers, bias, blocks = matrix
    if blocks:
        block_frame(values, columns, pointers, bias, x, 0, out, 0, adds)
    else:
        csr_frame(values, columns, pointers, bias, x, 0, out, 0, adds)


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
