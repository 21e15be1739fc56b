"""Sparse times dense: every output row is a weighted sum of a few rows of a tile.

A tile holds frames contiguously: element (row, frame) lies at ``row offset + frame``. A weight matrix keeps, for each
of its rows, the kept weights and for each of them the offset of the input row that it multiplies: rows of a linear
layer, or (channel, tap) rows of a convolution. One row of output is computed for up to 8 vectors of frames at a time:
their sums stay in registers, each kept weight is broadcast once and multiplied with as many vectors straight from the
L2 cache. Blocks of 16 output rows share what they read: the sums of 16 rows for one vector of frames stay in
registers.
"""

from numba import njit, types
from numba.core.extending import intrinsic

from audio_lottery.sparse.kernels.vector import (
    LANES,
    LONG,
    WIDTH,
    data_pointer,
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
_ROWS_AT_ONCE = 16 if WIDTH == 16 else 8


def _row(count):  # type: ignore[no-untyped-def]
    """out[o : o + count vectors] = start + Σ values[j] · x[offsets[j] : …] for j in [first, last)."""

    @intrinsic
    def row(typing, x, base, values, offsets, first, last, out, target, start, origin, bias):  # type: ignore[no-untyped-def]
        def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
            kinds = signature.args
            base, first, last, target, origin, bias = (arguments[i] for i in (1, 4, 5, 7, 9, 10))
            x, values, offsets, out, start = (
                data_pointer(context, builder, kinds[i], arguments[i]) for i in (0, 2, 3, 6, 8)
            )
            shift = [LONG(WIDTH * number) for number in range(count)]
            constant = splat_lanes(builder, bias)
            entry = builder.block
            carry, head, body, done = (builder.append_basic_block(name) for name in ("carry", "head", "body", "done"))
            # origin < 0: the sums start from the bias alone
            builder.cbranch(builder.icmp_signed("<", origin, LONG(0)), head, carry)
            builder.position_at_end(carry)
            carried = [
                builder.fadd(load_lanes(builder, start, builder.add(origin, offset)), constant) for offset in shift
            ]
            builder.branch(head)
            builder.position_at_end(head)
            index = builder.phi(LONG)
            sums = [builder.phi(LANES) for _ in shift]
            index.add_incoming(first, entry)
            index.add_incoming(first, carry)
            for number, total in enumerate(sums):
                total.add_incoming(constant, entry)
                total.add_incoming(carried[number], carry)
            builder.cbranch(builder.icmp_signed("<", index, last), body, done)
            builder.position_at_end(body)
            weight = splat_lanes(builder, builder.load(builder.gep(values, [index])))
            row_start = builder.add(base, builder.sext(builder.load(builder.gep(offsets, [index])), LONG))
            for offset, total in zip(shift, sums, strict=True):
                read = load_lanes(builder, x, builder.add(row_start, offset))
                total.add_incoming(fma_lanes(builder, weight, read, total), body)
            index.add_incoming(builder.add(index, LONG(1)), body)
            builder.branch(head)
            builder.position_at_end(done)
            for offset, total in zip(shift, sums, strict=True):
                store_lanes(builder, total, out, builder.add(target, offset))
            return context.get_dummy_value()

        integer = types.int64
        return (
            types.void(x, integer, values, offsets, integer, integer, out, integer, start, integer, types.float32),
            generate,
        )

    return row


_row1, _row2, _row3, _row4, _row5, _row6, _row7, _row8 = (_row(count) for count in range(1, 9))


@njit(nogil=True, cache=True)
def csr_rows(values, offsets, pointers, first, last, bias, x, base, out, target, stride, start, origin, step, vectors):  # type: ignore[no-untyped-def]
    """Rows ``first`` to ``last`` of W·X + bias (+ start) for ``vectors`` vectors of frames.

    Args:
        values: [kept] float32.
        offsets: [kept] int32, where in the tile the row lies that a weight multiplies.
        pointers: [rows + 1] int64, where each row's weights begin.
        first: first output row.
        last: one past the last.
        bias: [rows] float32.
        x: the tile (flat), from ``base`` on.
        base: see above.
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
            _row8(x, base, values, offsets, a, b, out, target, start, origin, bias[row])
        elif vectors == 7:
            _row7(x, base, values, offsets, a, b, out, target, start, origin, bias[row])
        elif vectors == 6:
            _row6(x, base, values, offsets, a, b, out, target, start, origin, bias[row])
        elif vectors == 5:
            _row5(x, base, values, offsets, a, b, out, target, start, origin, bias[row])
        elif vectors == 4:
            _row4(x, base, values, offsets, a, b, out, target, start, origin, bias[row])
        elif vectors == 3:
            _row3(x, base, values, offsets, a, b, out, target, start, origin, bias[row])
        elif vectors == 2:
            _row2(x, base, values, offsets, a, b, out, target, start, origin, bias[row])
        else:
            _row1(x, base, values, offsets, a, b, out, target, start, origin, bias[row])
        target += stride
        if origin >= 0:
            origin += step


@intrinsic
def _block(typing, x, base, values, offsets, first, last, out, target, stride, start, origin, step, bias, row):  # type: ignore[no-untyped-def]
    """One vector of frames of `_ROWS_AT_ONCE` output rows; values hold `BLOCK_ROWS` weights for every offset."""

    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        kinds = signature.args
        base, first, last, target, stride, origin, step, row = (arguments[i] for i in (1, 4, 5, 7, 8, 10, 11, 13))
        x, values, offsets, out, start, bias = (
            data_pointer(context, builder, kinds[i], arguments[i]) for i in (0, 2, 3, 6, 9, 12)
        )
        lines = [LONG(number) for number in range(_ROWS_AT_ONCE)]
        within = builder.and_(row, LONG(BLOCK_ROWS - 1))
        constants = [splat_lanes(builder, builder.load(builder.gep(bias, [builder.add(row, line)]))) for line in lines]
        entry = builder.block
        carry, head, body, done = (builder.append_basic_block(name) for name in ("carry", "head", "body", "done"))
        builder.cbranch(builder.icmp_signed("<", origin, LONG(0)), head, carry)
        builder.position_at_end(carry)
        carried = [
            builder.fadd(load_lanes(builder, start, builder.add(origin, builder.mul(step, line))), constant)
            for line, constant in zip(lines, constants, strict=True)
        ]
        builder.branch(head)
        builder.position_at_end(head)
        index = builder.phi(LONG)
        sums = [builder.phi(LANES) for _ in lines]
        index.add_incoming(first, entry)
        index.add_incoming(first, carry)
        for total, constant, more in zip(sums, constants, carried, strict=True):
            total.add_incoming(constant, entry)
            total.add_incoming(more, carry)
        builder.cbranch(builder.icmp_signed("<", index, last), body, done)
        builder.position_at_end(body)
        row_start = builder.add(base, builder.sext(builder.load(builder.gep(offsets, [index])), LONG))
        read = load_lanes(builder, x, row_start)
        weights = builder.add(builder.mul(index, LONG(BLOCK_ROWS)), within)
        for line, total in zip(lines, sums, strict=True):
            weight = splat_lanes(builder, builder.load(builder.gep(values, [builder.add(weights, line)])))
            total.add_incoming(fma_lanes(builder, weight, read, total), body)
        index.add_incoming(builder.add(index, LONG(1)), body)
        builder.branch(head)
        builder.position_at_end(done)
        for line, total in zip(lines, sums, strict=True):
            store_lanes(builder, total, out, builder.add(target, builder.mul(stride, line)))
        return context.get_dummy_value()

    integer = types.int64
    return (
        types.void(
            x, integer, values, offsets, integer, integer, out, integer, integer, start, integer, integer, bias, integer
        ),
        generate,
    )


@njit(nogil=True, cache=True)
def block_rows(
    values, offsets, pointers, first, last, bias, x, base, out, target, stride, start, origin, step, vectors
):  # type: ignore[no-untyped-def]
    """`csr_rows` for a matrix that is kept or pruned in blocks of 16 output rows.

    Args:
        values: [kept blocks, 16] float32, flat.
        offsets: [kept blocks] int32.
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
            _block(x, base + part, values, offsets, a, b, out, target + part, stride, start, where, step, bias, row)
        target += _ROWS_AT_ONCE * stride
        if origin >= 0:
            origin += _ROWS_AT_ONCE * step
