"""Sparse times dense: every output row is a weighted sum of a few rows of a tile.

A tile holds frames contiguously: element (row, frame) lies at ``row offset + frame``. A weight matrix keeps, for each
of its rows, the kept weights and for each of them the number of the input row that it multiplies, in two bytes; or, for
convolutions, where that row begins, in four. One row of output is computed for up to 8 vectors of frames at a time:
their sums stay in registers, each kept weight is broadcast once and multiplied with as many vectors straight from the
L2 cache. Blocks of 16 output rows share what they read: the sums of 16 rows for one vector of frames stay in registers.
"""

from functools import reduce

from numba import njit, types
from numba.core.extending import intrinsic

from audio_lottery.sparse.kernels.elementwise import activate
from audio_lottery.sparse.kernels.vector import (
    INT,
    LANES,
    LONG,
    WIDTH,
    ZEROS,
    data_pointer,
    emit_added,
    emit_loop,
    fma_lanes,
    load_lanes,
    splat_lanes,
    store_lanes,
)

# Frames of a tile: 8 vectors of 16 floats; 8 sums hide the latency of a multiply-add and leave registers to spare.
VECTORS = 8
FRAMES = VECTORS * WIDTH
# Output rows of a block kernel, as many sums as fit the registers (32 with AVX-512, 16 without).
BLOCK_ROWS = 16
# Sums that a row has for each vector, see `row_kernel`: as many for any number of vectors, so that the width of a tile
# changes no number. Two times 8 sums fit 32 registers, and not 16.
TURNS = 2 if WIDTH == 16 else 1
_ROWS_AT_ONCE = 16 if WIDTH == 16 else 8


def _emit_turns(builder, first, last, step, count, turns):
    """``count`` sums from zero, each made of ``turns`` sums that products are added to one after the other.

    Args:
        builder: where the loops begin.
        first: first index.
        last: one past the last.
        step: see `vector.emit_loop`.
        count: see above.
        turns: see above.
    """

    def several(number, sums):
        index = builder.add(first, builder.mul(number, LONG(turns)))
        parts = [step(builder.add(index, LONG(turn)), sums[turn::turns]) for turn in range(turns)]
        return [total for totals in zip(*parts, strict=True) for total in totals]

    rounds = builder.sdiv(builder.sub(last, first), LONG(turns))
    sums = emit_loop(builder, LONG(0), rounds, [ZEROS] * (count * turns), several)
    totals = [reduce(builder.fadd, sums[place : place + turns]) for place in range(0, len(sums), turns)]
    # what is left over
    return emit_loop(builder, builder.add(first, builder.mul(rounds, LONG(turns))), last, totals, step)


def row_start(builder, columns, unit, index):
    """Where in the tile the row begins that weight number ``index`` multiplies."""
    column = builder.load(builder.gep(columns, [index]))
    wide = builder.sext(column, LONG) if column.type == INT else builder.zext(column, LONG)
    return builder.mul(wide, unit)


def row_kernel(places, reads, turns=1):
    """An intrinsic: out = Σ values[j] · x[unit · columns[j] : …] + bias + start, j in [first, last): an output row.

    Args:
        places: (builder, half) to where in a row of the output each sum belongs.
        reads: (builder, x, offset of a row) to what its weight multiplies, one for each sum.
        turns: weights that are added to sums of their own, one after the other: where there are few vectors of frames,
            their sums alone do not hide the latency of a multiply-add.
    """

    @intrinsic
    def row(typing, x, values, columns, unit, first, last, out, target, start, origin, bias, half):
        def generate(context, builder, signature, arguments):
            kinds = signature.args
            unit, first, last, target, origin, bias, half = (arguments[i] for i in (3, 4, 5, 7, 9, 10, 11))
            x, values, columns, out, start = (
                data_pointer(context, builder, kinds[i], arguments[i]) for i in (0, 1, 2, 6, 8)
            )
            spots = places(builder, half)

            def step(index, sums):
                weight = splat_lanes(builder, builder.load(builder.gep(values, [index])))
                read = reads(builder, x, row_start(builder, columns, unit, index))
                return [fma_lanes(builder, weight, a, b) for a, b in zip(read, sums, strict=True)]

            sums = _emit_turns(builder, first, last, step, len(spots), turns)
            offset = splat_lanes(builder, bias)
            sums = emit_added(
                builder,
                [builder.fadd(total, offset) for total in sums],
                builder.icmp_signed(">=", origin, LONG(0)),
                lambda: [load_lanes(builder, start, builder.add(origin, spot)) for spot in spots],
            )
            for spot, total in zip(spots, sums, strict=True):
                store_lanes(builder, total, out, builder.add(target, spot))
            return context.get_dummy_value()

        integer = types.int64
        return (
            types.void(
                x, values, columns, integer, integer, integer, out, integer, start, integer, types.float32, integer
            ),
            generate,
        )

    return row


def row_of(count, turns):
    """`row_kernel` for ``count`` vectors of frames, one behind the other."""
    shift = [LONG(WIDTH * number) for number in range(count)]
    return row_kernel(
        lambda builder, half: shift,
        lambda builder, x, place: [load_lanes(builder, x, builder.add(place, offset)) for offset in shift],
        turns,
    )


_row1, _row2, _row3, _row4, _row5, _row6, _row7, _row8 = (row_of(count, TURNS) for count in range(1, 9))


@njit(nogil=True, cache=True)
def csr_rows(
    values, columns, unit, pointers, first, last, bias, x, out, target, stride, start, origin, step, vectors,
    activation,
):  # fmt: skip
    """Rows ``first`` to ``last`` of W·X + bias (+ start) for ``vectors`` vectors of frames.

    Args:
        values: [kept] float32.
        columns: [kept] uint16 or int32, of each weight; the row that it multiplies begins at ``unit`` times that.
        unit: see above.
        pointers: [rows + 1] int64, where each row's weights begin.
        first: first output row.
        last: one past the last.
        bias: [rows] float32.
        x: the tile (flat).
        out: output row ``r`` is written from ``target + (r - first)·stride`` on.
        target: see above.
        stride: see above.
        start: what is added to row ``r``, from ``origin + (r - first)·step`` on (a residual, or sums so far).
        origin: see above; negative where nothing is added.
        step: see above.
        vectors: 1 to `VECTORS`.
    """
    for row in range(first, last):
        a = pointers[row]
        b = pointers[row + 1]
        if vectors == 8:
            _row8(x, values, columns, unit, a, b, out, target, start, origin, bias[row], 0)
        elif vectors == 7:
            _row7(x, values, columns, unit, a, b, out, target, start, origin, bias[row], 0)
        elif vectors == 6:
            _row6(x, values, columns, unit, a, b, out, target, start, origin, bias[row], 0)
        elif vectors == 5:
            _row5(x, values, columns, unit, a, b, out, target, start, origin, bias[row], 0)
        elif vectors == 4:
            _row4(x, values, columns, unit, a, b, out, target, start, origin, bias[row], 0)
        elif vectors == 3:
            _row3(x, values, columns, unit, a, b, out, target, start, origin, bias[row], 0)
        elif vectors == 2:
            _row2(x, values, columns, unit, a, b, out, target, start, origin, bias[row], 0)
        else:
            _row1(x, values, columns, unit, a, b, out, target, start, origin, bias[row], 0)
        if activation:
            activate(activation, out, target, 1, stride, vectors)
        target += stride
        if origin >= 0:
            origin += step


def block_kernel(rows, lanes, accumulate):
    """An intrinsic: one vector of frames of ``rows`` output rows; values hold `BLOCK_ROWS` weights for every column.

    Args:
        rows: output rows whose sums are held at a time, a divisor of `BLOCK_ROWS`.
        lanes: what a vector of x holds.
        accumulate: emits total + weight · x from (builder, total, weight in every lane, x).
    """

    @intrinsic
    def block(typing, x, base, values, columns, unit, first, last, out, target, stride, start, origin, step, bias, row):
        def generate(context, builder, signature, arguments):
            kinds = signature.args
            base, unit, first, last, target, stride, origin, hop, row = (
                arguments[i] for i in (1, 4, 5, 6, 8, 9, 11, 12, 14)
            )
            x, values, columns, out, start, bias = (
                data_pointer(context, builder, kinds[i], arguments[i]) for i in (0, 2, 3, 7, 10, 13)
            )
            lines = [LONG(number) for number in range(rows)]
            within = builder.and_(row, LONG(BLOCK_ROWS - 1))

            def step(index, sums):
                place = builder.add(base, row_start(builder, columns, unit, index))
                read = load_lanes(builder, x, place, lanes)
                weights = builder.add(builder.mul(index, LONG(BLOCK_ROWS)), within)
                following = []
                for line, total in zip(lines, sums, strict=True):
                    weight = builder.load(builder.gep(values, [builder.add(weights, line)]))
                    following.append(accumulate(builder, total, splat_lanes(builder, weight, lanes), read))
                return following

            sums = emit_loop(builder, first, last, [ZEROS] * rows, step)
            biases = [builder.load(builder.gep(bias, [builder.add(row, line)])) for line in lines]
            sums = emit_added(
                builder,
                [builder.fadd(total, splat_lanes(builder, one)) for total, one in zip(sums, biases, strict=True)],
                builder.icmp_signed(">=", origin, LONG(0)),
                lambda: [load_lanes(builder, start, builder.add(origin, builder.mul(hop, line))) for line in lines],
            )
            for line, total in zip(lines, sums, strict=True):
                store_lanes(builder, total, out, builder.add(target, builder.mul(stride, line)))
            return context.get_dummy_value()

        integer = types.int64
        return (
            types.void(
                x, integer, values, columns, integer, integer, integer, out, integer, integer, start, integer,
                integer, bias, integer,
            ),
            generate,
        )  # fmt: skip

    return block


_block = block_kernel(_ROWS_AT_ONCE, LANES, lambda builder, total, weight, x: fma_lanes(builder, weight, x, total))


@njit(nogil=True, cache=True)
def block_rows(
    values, columns, unit, pointers, first, last, bias, x, out, target, stride, start, origin, step, vectors,
    activation,
):  # fmt: skip
    """`csr_rows` for a matrix that is kept or pruned in blocks of 16 output rows.

    Args:
        values: [kept blocks, 16] float32, flat.
        columns: [kept blocks].
        unit: as in `csr_rows`.
        pointers: [rows / 16 + 1] int64, where the blocks of each 16 rows begin.
        first: first output row, a multiple of 16.
        last: one past the last; a multiple of 16.
        bias: [rows] float32.
        x: as in `csr_rows`, like all that follows.
    """
    for row in range(first, last, _ROWS_AT_ONCE):
        a = pointers[row // BLOCK_ROWS]
        b = pointers[row // BLOCK_ROWS + 1]
        for part in range(0, vectors * WIDTH, WIDTH):
            where = origin + part if origin >= 0 else origin
            _block(x, part, values, columns, unit, a, b, out, target + part, stride, start, where, step, bias, row)
        if activation:
            activate(activation, out, target, _ROWS_AT_ONCE, stride, vectors)
        target += _ROWS_AT_ONCE * stride
        if origin >= 0:
            origin += _ROWS_AT_ONCE * step
