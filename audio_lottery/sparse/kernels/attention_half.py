"""`attention` with AVX512-BF16's dot products: factors in bfloat16, sums and softmax in float32.

Two numbers that are multiplied and added lie in one 32-bit element: neighbouring features of queries and keys,
neighbouring frames of values, neighbouring keys of the softmax's weights.
"""

import numpy as np
from numba import njit, types
from numba.core.extending import intrinsic

from audio_lottery.sparse.kernels.attention import BLOCK, ROWS, SCRATCH, finish, outer, peak, rescale
from audio_lottery.sparse.kernels.attention_int8 import round_head, scores
from audio_lottery.sparse.kernels.half import WHOLE, dot_lanes, pair_lanes, row_pairs
from audio_lottery.sparse.kernels.int8 import QUAD, ZERO
from audio_lottery.sparse.kernels.rows import FRAMES
from audio_lottery.sparse.kernels.vector import (
    WIDTH,
    add,
    data_pointer,
    even_lanes,
    exp,
    fma,
    load,
    multiply,
    nearest,
    odd_lanes,
    scale_by_power,
    splat,
    store_lanes,
    subtract,
)

F = np.float32
_LOG2_E = F(1.4426950408889634)
outer_half = outer(WHOLE, dot_lanes)


@intrinsic
def store_pair(typing, low, high, out, target):
    """Two vectors as one of bfloat16 pairs."""

    def generate(context, builder, signature, values):
        write = data_pointer(context, builder, signature.args[2], values[2])
        store_lanes(builder, pair_lanes(builder, values[0], values[1]), write, values[3])
        return context.get_dummy_value()

    return types.void(low, high, out, types.int64), generate


@njit(nogil=True, cache=True)
def halve_projections(joined, origin, heads, size, first, last, out, target, vectors):
    """Queries, keys, values of some heads of a tile, [3 · heads · size, FRAMES], in pairs.

    Args:
        joined: float32, flat, from ``origin`` on.
        origin: see above.
        heads: of all.
        size: features of a head.
        first: first head.
        last: one past the last.
        out: int32, from ``target`` on: [2 · heads · size / 2, FRAMES] of queries and keys, then
            [heads · size, FRAMES / 2] of values.
        target: see above.
        vectors: of frames.
    """
    step = heads * size * FRAMES
    begin = first * size * FRAMES
    for part in range(2):
        read = origin + part * step + begin
        row_pairs(joined, read, (last - first) * size, FRAMES, vectors, out, target + (part * step + begin) // 2)
    _halve_values(joined, origin, heads * size, first * size, last * size, out, target, vectors)


@njit(nogil=True, cache=True)
def round_projections(joined, origin, heads, size, first, last, out, target, vectors):
    """`halve_projections` with queries and keys in bytes.

    In the place of the pairs lie quads of queries and of keys, [features / 4, FRAMES] each, behind them for every head
    and frame the scales of queries, those of keys, and what sums start from.
    """
    step = heads * size * FRAMES
    scales = target + step // 2
    keys = scales + heads * FRAMES
    for head in range(first, last):
        row, place = head * size * FRAMES, head * FRAMES
        query = target + row // QUAD
        round_head(joined, origin + row, size, ZERO, out, query, scales + place, -1, vectors)
        key = query + step // QUAD
        zeros = keys + heads * FRAMES + place
        round_head(joined, origin + step + row, size, 0, out, key, keys + place, zeros, vectors)
    _halve_values(joined, origin, heads * size, first * size, last * size, out, target, vectors)


@njit(nogil=True, cache=True)
def _halve_values(joined, origin, features, first, last, out, target, vectors):
    read = origin + (2 * features + first) * FRAMES
    write = target + features * FRAMES + first * FRAMES // 2
    for _ in range(first, last):
        for part in range(0, vectors * WIDTH, BLOCK):
            a = load(joined, read + part)
            b = load(joined, read + part + WIDTH)
            store_pair(even_lanes(a, b), odd_lanes(a, b), out, write + part // 2)
        read += FRAMES
        write += FRAMES // 2


@njit(inline="always")
def _exp_below(x, top):
    """e^(x - top) to 4e-6 of itself, which is rounded to 2^-9 anyhow; x is at most top."""
    exponent = multiply(subtract(x, top), splat(_LOG2_E))
    n = nearest(exponent)
    r = subtract(exponent, n)
    p = splat(F(9.67603709787067e-3))
    p = fma(p, r, splat(F(5.592203564726082e-2)))
    p = fma(p, r, splat(F(2.4022107355830374e-1)))
    p = fma(p, r, splat(F(6.931210339915471e-1)))
    p = fma(p, r, splat(F(1.0)))
    return scale_by_power(p, n)


def weigh_pairs(exponential):
    """`attention.weigh`, the weights of two keys as pairs of bfloat16.

    Args:
        exponential: e^(x - top) of (x, top).
    """

    @njit(inline="always")
    def weigh(scratch, count, top0, top1, weights):
        sum0 = splat(F(0.0))
        sum1 = splat(F(0.0))
        for j in range(0, count, 2):
            a0 = exponential(load(scratch, j * BLOCK), top0)
            a1 = exponential(load(scratch, j * BLOCK + WIDTH), top1)
            b0 = splat(F(0.0))
            b1 = splat(F(0.0))
            if j + 1 < count:
                b0 = exponential(load(scratch, (j + 1) * BLOCK), top0)
                b1 = exponential(load(scratch, (j + 1) * BLOCK + WIDTH), top1)
            sum0 = add(sum0, add(a0, b0))
            sum1 = add(sum1, add(a1, b1))
            store_pair(a0, b0, weights, j // 2 * BLOCK)
            store_pair(a1, b1, weights, j // 2 * BLOCK + WIDTH)
        return sum0, sum1

    return weigh


_weigh = weigh_pairs(_exp_below)


@njit(nogil=True, cache=True)
def attend_half(
    pairs,
    query,
    key,
    value,
    tile_step,
    keys,
    size,
    out,
    target,
    scratch,
    weights,
    vectors,
    query_scale,
    key_scale,
    zero,
):  # fmt: skip
    """`attention.attend` on what `halve_projections` writes.

    Args:
        pairs: queries (already divided by √size), keys and values of all tiles.
        query: where the head's [size/2, FRAMES] pairs of queries of this tile begin.
        key: where the head's pairs of keys of the first tile begin.
        value: where the head's [size, FRAMES/2] pairs of values of the first tile begin.
        tile_step: elements from one tile to the next.
        keys: [tiles] int64, how many frames of each tile may be attended to.
        size: features of a head, even and a multiple of `ROWS`.
        out: the head's output [size, FRAMES] float32, from ``target`` on.
        target: see above.
        scratch: `SCRATCH` + size · 2 · `WIDTH` floats of this thread's own.
        weights: int32, `SCRATCH` / 2 of this thread's own.
        vectors: vectors of queries in the tile, even.
        query_scale: negative, or where the scales of the head's queries of this tile begin: then queries and keys are
            the quads of `round_projections`.
        key_scale: the same of its keys of the first tile.
        zero: where what their sums start from begins.
    """
    for lanes in range(0, vectors * WIDTH, BLOCK):
        top0 = splat(F(-3e38))
        top1 = splat(F(-3e38))
        sum0 = splat(F(0.0))
        sum1 = splat(F(0.0))
        started = False
        for tile in range(keys.size):
            count = keys[tile]
            if count == 0:
                continue
            shift = tile * tile_step
            for j in range(0, count, ROWS):
                if query_scale >= 0:
                    scores(
                        pairs, key + shift + j, query + lanes, size // QUAD, zero + shift + j, key_scale + shift + j,
                        query_scale + lanes, scratch, j * BLOCK,
                    )  # fmt: skip
                    continue
                outer_half(
                    pairs, key + shift + j, 1, FRAMES, pairs, query + lanes, FRAMES, size // 2, scratch, j * BLOCK,
                    BLOCK, False,
                )  # fmt: skip
            new0 = peak(scratch, count, 0, top0)
            new1 = peak(scratch, count, WIDTH, top1)
            old0 = exp(subtract(top0, new0))
            old1 = exp(subtract(top1, new1))
            more0, more1 = _weigh(scratch, count, new0, new1, weights)
            sum0 = fma(sum0, old0, more0)
            sum1 = fma(sum1, old1, more1)
            if started:
                rescale(scratch, size, old0, old1)
            for feature in range(0, size, ROWS):
                outer_half(
                    pairs, value + shift + feature * FRAMES // 2, FRAMES // 2, 1, weights, 0, BLOCK, (count + 1) // 2,
                    scratch, SCRATCH + feature * BLOCK, BLOCK, started,
                )  # fmt: skip
            started = True
            top0 = new0
            top1 = new1
        finish(scratch, size, sum0, sum1, out, target + lanes, True)


@njit(nogil=True, cache=True)
def attend_heads_half(first, last, heads, size, pairs, tile, keys, out, target, scratch, weights, vectors, in_bytes):
    """`attend_half` for some heads of a tile, as `attention.attend_heads`; on what `round_projections` writes if so."""
    step = heads * size * FRAMES
    share = 3 * step // 2
    begin = tile * share
    for head in range(first, last):
        row = head * size * FRAMES
        value = step + row // 2
        if in_bytes:
            scale = step // 2 + head * FRAMES
            query, key = begin + row // QUAD, (step + row) // QUAD
            query_scale, key_scale = begin + scale, scale + heads * FRAMES
        else:
            scale = 0
            query, key = begin + row // 2, (step + row) // 2
            query_scale, key_scale = -1, 0
        attend_half(
            pairs, query, key, value, share, keys, size, out, target + row, scratch, weights, vectors, query_scale,
            key_scale, scale + 2 * heads * FRAMES,
        )  # fmt: skip
