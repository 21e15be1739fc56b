"""The products of `rows` on tiles in bfloat16: half the traffic from the cache, sums still in float32.

Two layouts, both of 32-bit elements that hold two bfloat16 numbers:

- *frame pairs*, for single weights: element f of a row holds frame f (low half) and frame f + `half` (high half). The
  low number becomes a float32 by a shift. The high one is used as it stands, with the low number's bits as the end of
  its fraction: it was rounded with those bits in place, so it is within the half unit that any bfloat16 is within.
- *row pairs*, for blocks of 16×2: element f of a row holds input rows 2r (low) and 2r + 1 (high) of frame f, which is
  what AVX512-BF16's dot product multiplies with two weights of a row.
"""

from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.core.extending import intrinsic

from audio_lottery.sparse.kernels.rows import BLOCK_ROWS
from audio_lottery.sparse.kernels.vector import (
    HAS_BF16_DOT,
    INT,
    LANES,
    LONG,
    WIDTH,
    data_pointer,
    fma_lanes,
    load_lanes,
    splat_lanes,
    store_lanes,
)

__all__ = ["HAS_BF16_DOT", "block_rows_half", "csr_rows_half", "frame_pairs", "row_pairs"]

WHOLE = ir.VectorType(INT, WIDTH)


class _BFloat(ir.Type):
    """LLVM's bfloat, which llvmlite has no type for."""

    def _to_string(self) -> str:
        return "bfloat"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _BFloat)

    def __hash__(self) -> int:
        return hash(_BFloat)


_PAIRS = ir.VectorType(_BFloat(), 2 * WIDTH)


def dot_lanes(builder, total, a, b):  # type: ignore[no-untyped-def]
    """total + a₀·b₀ + a₁·b₁ in every lane, a and b pairs of bfloat16 in 32 bits."""
    kind = ir.FunctionType(LANES, [LANES, _PAIRS, _PAIRS])
    function = cgutils.get_or_insert_function(builder.module, kind, "llvm.x86.avx512bf16.dpbf16ps.512")
    return builder.call(function, [total, builder.bitcast(a, _PAIRS), builder.bitcast(b, _PAIRS)])


def whole(number: int):  # type: ignore[no-untyped-def]
    """The same 32-bit number in every lane."""
    signed = number - (1 << 32) if number >= 1 << 31 else number
    return ir.Constant(WHOLE, [signed] * WIDTH)


def round_lanes(builder, value):  # type: ignore[no-untyped-def]
    """bfloat16 bits of float32 lanes in the high half, rounded to nearest even; the low half is not cleared."""
    bits = builder.bitcast(value, WHOLE)
    odd = builder.and_(builder.lshr(bits, whole(16)), whole(1))
    return builder.add(builder.add(bits, whole(0x7FFF)), odd)


def pair_lanes(builder, low, high):  # type: ignore[no-untyped-def]
    """Two vectors of float32 as one of bfloat16 pairs, each rounded by itself."""
    first = builder.lshr(round_lanes(builder, low), whole(16))
    return builder.or_(first, builder.and_(round_lanes(builder, high), whole(0xFFFF0000)))


@intrinsic
def _pair_frames(typing, source, low, high, out, target):  # type: ignore[no-untyped-def]
    """One vector of frame pairs; the high number is rounded with the low one's bits behind it."""

    def generate(context, builder, signature, values):  # type: ignore[no-untyped-def]
        read = data_pointer(context, builder, signature.args[0], values[0])
        write = data_pointer(context, builder, signature.args[3], values[3])
        tail = builder.lshr(round_lanes(builder, load_lanes(builder, read, values[1])), whole(16))
        bits = builder.bitcast(load_lanes(builder, read, values[2]), WHOLE)
        size = builder.and_(bits, whole(0x7FFFFFFF))
        # keeps the subtraction from borrowing from the sign; what it lifts is below 1e-40
        smallest = whole(0x10000)
        size = builder.select(builder.icmp_unsigned(">", size, smallest), size, smallest)
        rounded = builder.and_(builder.sub(builder.add(size, whole(0x8000)), tail), whole(0xFFFF0000))
        pair = builder.or_(builder.or_(builder.and_(bits, whole(0x80000000)), rounded), tail)
        store_lanes(builder, pair, write, values[4])
        return context.get_dummy_value()

    return types.void(source, types.int64, types.int64, out, types.int64), generate


@intrinsic
def _pair_rows(typing, source, low, high, out, target):  # type: ignore[no-untyped-def]
    """One vector of row pairs."""

    def generate(context, builder, signature, values):  # type: ignore[no-untyped-def]
        read = data_pointer(context, builder, signature.args[0], values[0])
        write = data_pointer(context, builder, signature.args[3], values[3])
        pair = pair_lanes(builder, load_lanes(builder, read, values[1]), load_lanes(builder, read, values[2]))
        store_lanes(builder, pair, write, values[4])
        return context.get_dummy_value()

    return types.void(source, types.int64, types.int64, out, types.int64), generate


@njit(nogil=True, cache=True)
def frame_pairs(tile, origin, rows, stride, half, count, out, target, row):  # type: ignore[no-untyped-def]
    """Rows of float32, ``stride`` apart, to rows of ``count`` frame pairs, ``row`` apart (count: whole vectors)."""
    for number in range(rows):
        read = origin + number * stride
        write = target + number * row
        for part in range(0, count, WIDTH):
            _pair_frames(tile, read + part, read + half + part, out, write + part)


@njit(nogil=True, cache=True)
def row_pairs(tile, origin, rows, stride, vectors, out, target):  # type: ignore[no-untyped-def]
    """Rows of float32, ``stride`` apart, to half as many rows of pairs, ``stride`` apart; ``rows`` is even."""
    for number in range(0, rows, 2):
        read = origin + number * stride
        write = target + number // 2 * stride
        for part in range(0, vectors * WIDTH, WIDTH):
            _pair_rows(tile, read + part, read + stride + part, out, write + part)


def _row(count):  # type: ignore[no-untyped-def]
    """`rows._row` on frame pairs: ``count`` vectors of pairs are 2·count vectors of output, ``half`` apart."""

    @intrinsic
    def row(typing, x, base, values, offsets, first, last, out, target, start, origin, bias, half):  # type: ignore[no-untyped-def]
        def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
            kinds = signature.args
            base, first, last, target, origin, bias, half = (arguments[i] for i in (1, 4, 5, 7, 9, 10, 11))
            x, values, offsets, out, start = (
                data_pointer(context, builder, kinds[i], arguments[i]) for i in (0, 2, 3, 6, 8)
            )
            shift = [LONG(WIDTH * number) for number in range(count)]
            places = shift + [builder.add(half, offset) for offset in shift]
            constant = splat_lanes(builder, bias)
            entry = builder.block
            carry, head, body, done = (builder.append_basic_block(name) for name in ("carry", "head", "body", "done"))
            builder.cbranch(builder.icmp_signed("<", origin, LONG(0)), head, carry)
            builder.position_at_end(carry)
            carried = [
                builder.fadd(load_lanes(builder, start, builder.add(origin, place)), constant) for place in places
            ]
            builder.branch(head)
            builder.position_at_end(head)
            index = builder.phi(LONG)
            sums = [builder.phi(LANES) for _ in places]
            index.add_incoming(first, entry)
            index.add_incoming(first, carry)
            for number, total in enumerate(sums):
                total.add_incoming(constant, entry)
                total.add_incoming(carried[number], carry)
            builder.cbranch(builder.icmp_signed("<", index, last), body, done)
            builder.position_at_end(body)
            weight = splat_lanes(builder, builder.load(builder.gep(values, [index])))
            row_start = builder.add(base, builder.sext(builder.load(builder.gep(offsets, [index])), LONG))
            for number, offset in enumerate(shift):
                pair = load_lanes(builder, x, builder.add(row_start, offset), WHOLE)
                low = builder.bitcast(builder.shl(pair, whole(16)), LANES)
                high = builder.bitcast(pair, LANES)
                for total, read in ((sums[number], low), (sums[number + count], high)):
                    total.add_incoming(fma_lanes(builder, weight, read, total), body)
            index.add_incoming(builder.add(index, LONG(1)), body)
            builder.branch(head)
            builder.position_at_end(done)
            for place, total in zip(places, sums, strict=True):
                store_lanes(builder, total, out, builder.add(target, place))
            return context.get_dummy_value()

        integer = types.int64
        return (
            types.void(
                x, integer, values, offsets, integer, integer, out, integer, start, integer, types.float32, integer
            ),
            generate,
        )

    return row


_row1, _row2, _row3, _row4 = (_row(count) for count in range(1, 5))


@njit(nogil=True, cache=True)
def csr_rows_half(
    values, offsets, pointers, first, last, bias, x, base, out, target, stride, start, origin, step, vectors
):  # type: ignore[no-untyped-def]
    """`rows.csr_rows` on a tile of frame pairs; ``vectors`` is even, ``half`` of the pairs is ``vectors``/2 vectors."""
    half = vectors // 2 * WIDTH
    for row in range(first, last):
        a = pointers[row]
        b = pointers[row + 1]
        if vectors == 8:
            _row4(x, base, values, offsets, a, b, out, target, start, origin, bias[row], half)
        elif vectors == 6:
            _row3(x, base, values, offsets, a, b, out, target, start, origin, bias[row], half)
        elif vectors == 4:
            _row2(x, base, values, offsets, a, b, out, target, start, origin, bias[row], half)
        else:
            _row1(x, base, values, offsets, a, b, out, target, start, origin, bias[row], half)
        target += stride
        if origin >= 0:
            origin += step


@intrinsic
def _block(typing, x, base, values, offsets, first, last, out, target, stride, start, origin, step, bias, row):  # type: ignore[no-untyped-def]
    """`rows._block` on row pairs: one vector of frames of 16 output rows, two input rows at a time."""

    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        kinds = signature.args
        base, first, last, target, stride, origin, step, row = (arguments[i] for i in (1, 4, 5, 7, 8, 10, 11, 13))
        x, values, offsets, out, start, bias = (
            data_pointer(context, builder, kinds[i], arguments[i]) for i in (0, 2, 3, 6, 9, 12)
        )
        lines = [LONG(number) for number in range(BLOCK_ROWS)]
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
        read = load_lanes(builder, x, row_start, WHOLE)
        weights = builder.mul(index, LONG(BLOCK_ROWS))
        for line, total in zip(lines, sums, strict=True):
            pair = builder.load(builder.gep(values, [builder.add(weights, line)]))
            total.add_incoming(dot_lanes(builder, total, read, splat_lanes(builder, pair, WHOLE)), body)
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
def block_rows_half(
    values, offsets, pointers, first, last, bias, x, base, out, target, stride, start, origin, step, vectors
):  # type: ignore[no-untyped-def]
    """`rows.block_rows` for blocks of 16×2 on a tile of row pairs; values are [blocks, 16] pairs as int32, flat."""
    for row in range(first, last, BLOCK_ROWS):
        a = pointers[row // BLOCK_ROWS]
        b = pointers[row // BLOCK_ROWS + 1]
        for part in range(0, vectors * WIDTH, WIDTH):
            where = origin + part if origin >= 0 else origin
            _block(x, base + part, values, offsets, a, b, out, target + part, stride, start, where, step, bias, row)
        target += BLOCK_ROWS * stride
        if origin >= 0:
            origin += BLOCK_ROWS * step
