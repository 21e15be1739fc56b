"""Attention whose scores hear how far a key lies from its query (Dai et al. 2019, arXiv:1901.02860), on tiles.

A score is (q + u)·k + (q + v)·r of the distance query - key. With queries in the lanes, the distances of one key to the
queries of a vector follow each other, so that what they multiply is one load from a table [features, distances]: the
"relative shift" of other implementations is an address here.
"""

import numpy as np
from numba import njit, types
from numba.core.extending import intrinsic

from audio_lottery.sparse.kernels.attention import BLOCK, ROWS, SCRATCH, finish, outer_product, peak, rescale, weigh
from audio_lottery.sparse.kernels.attention_half import halve_projections, outer_half, weigh_pairs
from audio_lottery.sparse.kernels.half import WHOLE, dot_lanes, row_pairs
from audio_lottery.sparse.kernels.rows import FRAMES
from audio_lottery.sparse.kernels.vector import (
    LANES,
    LONG,
    WIDTH,
    ZEROS,
    add,
    data_pointer,
    emit_loop,
    exp,
    fma,
    fma_lanes,
    load,
    load_lanes,
    splat,
    store,
    store_lanes,
    subtract,
)

F = np.float32
_VECTORS = BLOCK // WIDTH


def _distances(lanes, accumulate):
    """An intrinsic: c[r, :] = Σ_k table[k, place - r + lanes] · b[k, lanes] for `ROWS` rows and two vectors.

    Args:
        lanes: what a vector of the table and of b holds.
        accumulate: emits total + a · b from (builder, total, a, b).
    """

    @intrinsic
    def product(typing, table, place, pitch, b, b_start, b_step, steps, c, c_start, c_row):
        def generate(context, builder, signature, arguments):
            kinds = signature.args
            table, b, c = (data_pointer(context, builder, kinds[i], arguments[i]) for i in (0, 3, 7))
            place, pitch, b_start, b_step, steps, c_start, c_row = (arguments[i] for i in (1, 2, 4, 5, 6, 8, 9))
            spots = [(row, part) for row in range(ROWS) for part in range(_VECTORS)]
            targets = [
                builder.add(builder.add(c_start, builder.mul(c_row, LONG(row))), LONG(part * WIDTH))
                for row, part in spots
            ]

            def step(index, sums):
                b_place = builder.add(b_start, builder.mul(index, b_step))
                read = [
                    load_lanes(builder, b, builder.add(b_place, LONG(part * WIDTH)), lanes) for part in range(_VECTORS)
                ]
                first = builder.add(place, builder.mul(index, pitch))
                following = []
                for (row, part), total in zip(spots, sums, strict=True):
                    near = load_lanes(builder, table, builder.add(first, LONG(part * WIDTH - row)), lanes)
                    following.append(accumulate(builder, total, near, read[part]))
                return following

            sums = emit_loop(builder, LONG(0), steps, [ZEROS] * len(spots), step)
            for target, total in zip(targets, sums, strict=True):
                store_lanes(builder, total, c, target)
            return context.get_dummy_value()

        integer = types.int64
        return (
            types.void(table, integer, integer, b, integer, integer, integer, c, integer, integer),
            generate,
        )

    return product


_near = _distances(LANES, lambda builder, total, a, b: fma_lanes(builder, a, b, total))
_near_half = _distances(WHOLE, dot_lanes)


@njit(inline="always")
def _exp_of(x, top):
    return exp(subtract(x, top))


_weigh_pairs = weigh_pairs(_exp_of)


@njit(nogil=True, cache=True)
def add_bias(joined, origin, target, bias, vectors):
    """Rows of a tile plus a number each, to rows from ``target`` on of the same array."""
    for row in range(bias.size):
        more = splat(bias[row])
        for part in range(0, vectors * WIDTH, WIDTH):
            store(joined, target + row * FRAMES + part, add(load(joined, origin + row * FRAMES + part), more))


@njit(nogil=True, cache=True)
def halve_queries(joined, features, out, target, vectors):
    """[(q + v), (q + u), k, v] of a tile, [4·features, FRAMES], to pairs of bfloat16.

    Neighbouring features of the first three lie in one element, [3·features/2, FRAMES], neighbouring frames of the
    values, [features, FRAMES/2]; see `attention_half`.
    """
    row_pairs(joined, 0, features, FRAMES, vectors, out, target)
    halve_projections(joined, features * FRAMES, 1, features, 0, 1, out, target + features // 2 * FRAMES, vectors)


@njit(nogil=True, cache=True)
def attend_near(
    joined, query, moved, key, value, tile_step, keys, size, table, place, pitch, tile, width, out, target, scratch,
    vectors
):  # fmt: skip
    """One head's attention for the queries of one tile.

    Args:
        joined: q + u and q + v (both already divided by √size), keys and values of all tiles, flat.
        query: where the head's [size, FRAMES] q + u of this tile begin.
        moved: the same of q + v.
        key: where the head's keys of the first tile begin.
        value: the same for its values.
        tile_step: elements from one tile to the next.
        keys: [tiles] int64, how many frames of each tile may be attended to.
        size: features of a head, a multiple of `ROWS`.
        table: [size, pitch] of the distances -pitch/2 … pitch/2 - 1 on the head, flat; pitch/2 is at least the frames
            of all tiles, rounded up to `BLOCK`.
        place: where the head's begins.
        pitch: see above.
        tile: number of this tile.
        width: frames of every tile but the last.
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
        for other in range(keys.size):
            count = keys[other]
            if count == 0:
                continue
            shift = other * tile_step
            near = place + pitch // 2 + (tile - other) * width + lanes
            for j in range(0, count, ROWS):
                _near(table, near - j, pitch, joined, moved + lanes, FRAMES, size, scratch, j * BLOCK, BLOCK)
                outer_product(
                    joined, key + shift + j, 1, FRAMES, joined, query + lanes, FRAMES, size, scratch, j * BLOCK, BLOCK,
                    True,
                )  # fmt: skip
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
                    joined, value + shift + feature * FRAMES, FRAMES, 1, scratch, 0, BLOCK, count, scratch,
                    SCRATCH + feature * BLOCK, BLOCK, started,
                )  # fmt: skip
            started = True
            top0 = new0
            top1 = new1
        finish(scratch, size, sum0, sum1, out, target + lanes, part + 1 < vectors)


@njit(nogil=True, cache=True)
def attend_near_half(
    pairs, query, moved, key, value, tile_step, keys, size, table, place, pitch, tile, width, out, target, scratch,
    weights, vectors
):  # fmt: skip
    """`attend_near` on what `halve_queries` writes, and on a table of row pairs, [size/2, pitch].

    Args:
        pairs: see `halve_queries`; ``query``, ``moved``, ``key`` and ``value`` are places in it.
        query: see `attend_near`, as all that is not named here.
        scratch: `SCRATCH` + size · 2 · `WIDTH` floats of this thread's own.
        weights: int32, `SCRATCH` / 2 of this thread's own.
        vectors: vectors of queries in the tile, even.
    """
    for lanes in range(0, vectors * WIDTH, BLOCK):
        top0 = splat(F(-3e38))
        top1 = splat(F(-3e38))
        sum0 = splat(F(0.0))
        sum1 = splat(F(0.0))
        started = False
        for other in range(keys.size):
            count = keys[other]
            if count == 0:
                continue
            shift = other * tile_step
            near = place + pitch // 2 + (tile - other) * width + lanes
            for j in range(0, count, ROWS):
                _near_half(table, near - j, pitch, pairs, moved + lanes, FRAMES, size // 2, scratch, j * BLOCK, BLOCK)
                outer_half(
                    pairs, key + shift + j, 1, FRAMES, pairs, query + lanes, FRAMES, size // 2, scratch, j * BLOCK,
                    BLOCK, True,
                )  # fmt: skip
            new0 = peak(scratch, count, 0, top0)
            new1 = peak(scratch, count, WIDTH, top1)
            old0 = exp(subtract(top0, new0))
            old1 = exp(subtract(top1, new1))
            more0, more1 = _weigh_pairs(scratch, count, new0, new1, weights)
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
