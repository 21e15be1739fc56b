"""Softmax attention on tiles, keys taken tile by tile with a running maximum (Milakov and Gimelshein 2018; Dao 2022).

Queries lie in the lanes: scores are outer products of a broadcast key and a vector of queries, and the softmax over
keys needs no sum across lanes.
"""

import numpy as np
from numba import njit, types
from numba.core.extending import intrinsic

from audio_lottery.sparse.kernels.rows import FRAMES
from audio_lottery.sparse.kernels.vector import (
    LANES,
    LONG,
    WIDTH,
    ZEROS,
    add,
    data_pointer,
    divide,
    emit_added,
    emit_loop,
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
)

F = np.float32
# Rows and vectors of the register block: 16 sums, 2 vectors and a broadcast fit 32 registers, half of them 16.
ROWS = 8 if WIDTH == 16 else 4
_VECTORS = 2
BLOCK = _VECTORS * WIDTH
# Floats of scratch that a call of `attend` needs: scores of a tile's keys, and the weighted sums of a head.
SCRATCH = FRAMES * BLOCK


def outer(lanes, accumulate):
    """An intrinsic: c[r, :] (+)= Σ_k a[r, k] · b[k, :] for `ROWS` rows and two vectors; adds to c where ``more``.

    Args:
        lanes: what a vector of b holds.
        accumulate: emits total + a · b from (builder, total, a in every lane, b).
    """

    @intrinsic
    def product(typing, a, a_start, a_row, a_step, b, b_start, b_step, steps, c, c_start, c_row, more):
        def generate(context, builder, signature, arguments):
            kinds = signature.args
            a, b, c = (data_pointer(context, builder, kinds[i], arguments[i]) for i in (0, 4, 8))
            a_start, a_row, a_step, b_start, b_step, steps, c_start, c_row, more = (
                arguments[i] for i in (1, 2, 3, 5, 6, 7, 9, 10, 11)
            )
            places = [
                builder.add(builder.add(c_start, builder.mul(c_row, LONG(row))), LONG(part * WIDTH))
                for row in range(ROWS)
                for part in range(_VECTORS)
            ]

            def step(index, sums):
                b_place = builder.add(b_start, builder.mul(index, b_step))
                parts = range(_VECTORS)
                read = [load_lanes(builder, b, builder.add(b_place, LONG(part * WIDTH)), lanes) for part in parts]
                a_place = builder.add(a_start, builder.mul(index, a_step))
                following = []
                for row in range(ROWS):
                    scalar = builder.load(builder.gep(a, [builder.add(a_place, builder.mul(a_row, LONG(row)))]))
                    weight = splat_lanes(builder, scalar, lanes)
                    for part in parts:
                        following.append(accumulate(builder, sums[row * _VECTORS + part], weight, read[part]))
                return following

            sums = emit_loop(builder, LONG(0), steps, [ZEROS] * len(places), step)
            sums = emit_added(builder, sums, more, lambda: [load_lanes(builder, c, place) for place in places])
            for place, total in zip(places, sums, strict=True):
                store_lanes(builder, total, c, place)
            return context.get_dummy_value()

        integer = types.int64
        return (
            types.void(a, integer, integer, integer, b, integer, integer, integer, c, integer, integer, types.boolean),
            generate,
        )

    return product


outer_product = outer(LANES, lambda builder, total, a, b: fma_lanes(builder, a, b, total))


@njit(inline="always")
def peak(scratch, count, lanes, top):
    """The largest score of each query so far: of ``top`` and of ``count`` keys."""
    for j in range(count):
        top = maximum(top, load(scratch, j * BLOCK + lanes))
    return top


@njit(inline="always")
def weigh(scratch, count, top0, top1):
    """Softmax weights in place of the scores of ``count`` keys; their sums in the two vectors."""
    sum0 = splat(F(0.0))
    sum1 = splat(F(0.0))
    for j in range(count):
        weight0 = exp(subtract(load(scratch, j * BLOCK), top0))
        weight1 = exp(subtract(load(scratch, j * BLOCK + WIDTH), top1))
        sum0 = add(sum0, weight0)
        sum1 = add(sum1, weight1)
        store(scratch, j * BLOCK, weight0)
        store(scratch, j * BLOCK + WIDTH, weight1)
    return sum0, sum1


@njit(inline="always")
def rescale(scratch, size, factor0, factor1):
    """Weighted sums made with a smaller maximum, times e^(that maximum - the new one)."""
    for feature in range(size):
        place = SCRATCH + feature * BLOCK
        store(scratch, place, multiply(load(scratch, place), factor0))
        store(scratch, place + WIDTH, multiply(load(scratch, place + WIDTH), factor1))


@njit(inline="always")
def finish(scratch, size, sum0, sum1, out, target, both):
    """Weighted sums divided by the sums of the weights, to the output; ``both``: the second vector too."""
    scale0 = divide(splat(F(1.0)), sum0)
    scale1 = divide(splat(F(1.0)), sum1)
    for feature in range(size):
        place = SCRATCH + feature * BLOCK
        row = target + feature * FRAMES
        store(out, row, multiply(load(scratch, place), scale0))
        if both:
            store(out, row + WIDTH, multiply(load(scratch, place + WIDTH), scale1))


@njit(nogil=True, cache=True)
def attend(qkv, query, key, value, tile_step, keys, size, out, target, scratch, vectors):
    """One head's attention for the queries of one tile.

    Args:
        qkv: queries (already divided by √size), keys and values of all tiles, flat.
        query: where the head's [size, FRAMES] queries of this tile begin.
        key: where the head's keys of the first tile begin.
        value: the same for its values.
        tile_step: elements from one tile to the next.
        keys: [tiles] int64, how many frames of each tile may be attended to.
        size: features of a head, a multiple of `ROWS`.
        out: the head's output [size, FRAMES], from ``target`` on.
        target: see above.
        scratch: `SCRATCH` + size · 2 · `WIDTH` floats of this thread's own.
        vectors: vectors of queries in the tile.
    """
    for part in range(0, vectors, _VECTORS):
        lanes = part * WIDTH
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
                outer_product(
                    qkv,
                    key + shift + j,
                    1,
                    FRAMES,
                    qkv,
                    query + lanes,
                    FRAMES,
                    size,
                    scratch,
                    j * BLOCK,
                    BLOCK,
                    False,
                )
            new0 = peak(scratch, count, 0, top0)
            new1 = peak(scratch, count, WIDTH, top1)
            old0 = exp(subtract(top0, new0))
            old1 = exp(subtract(top1, new1))
            more0, more1 = weigh(scratch, count, new0, new1)
            sum0 = fma(sum0, old0, more0)
            sum1 = fma(sum1, old1, more1)
            if started:
                rescale(scratch, size, old0, old1)
            for feature in range(0, size, ROWS):
                outer_product(
                    qkv,
                    value + shift + feature * FRAMES,
                    FRAMES,
                    1,
                    scratch,
                    0,
                    BLOCK,
                    count,
                    scratch,
                    SCRATCH + feature * BLOCK,
                    BLOCK,
                    started,
                )
            started = True
            top0 = new0
            top1 = new1
        finish(scratch, size, sum0, sum1, out, target + lanes, part + 1 < vectors)


@njit(nogil=True, cache=True)
def attend_heads(first, last, heads, size, qkv, tile, keys, out, target, scratch, vectors):
    """`attend` for some heads of a tile whose rows are queries, keys, values, head by head: [3, heads · size, FRAMES].

    Args:
        first: first head.
        last: one past the last.
        heads: of all.
        size: features of a head.
        qkv: all tiles, flat.
        tile: that of the queries.
        keys: as in `attend`, like all that follows; the output is [heads · size, FRAMES].
    """
    rows = heads * size * FRAMES
    for head in range(first, last):
        row = head * size * FRAMES
        query = 3 * tile * rows + row
        attend(qkv, query, rows + row, 2 * rows + row, 3 * rows, keys, size, out, target + row, scratch, vectors)
