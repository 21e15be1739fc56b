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

from audio_lottery.sparse.kernels.elementwise import activate
from audio_lottery.sparse.kernels.rows import BLOCK_ROWS, TURNS, block_kernel, row_kernel
from audio_lottery.sparse.kernels.vector import (
    HALF,
    HAS_BF16_DOT,
    INT,
    LANES,
    LONG,
    WIDTH,
    data_pointer,
    load_lanes,
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


def dot_lanes(builder, total, a, b):
    """total + a₀·b₀ + a₁·b₁ in every lane, a and b pairs of bfloat16 in 32 bits."""
    kind = ir.FunctionType(LANES, [LANES, _PAIRS, _PAIRS])
    function = cgutils.get_or_insert_function(builder.module, kind, "llvm.x86.avx512bf16.dpbf16ps.512")
    return builder.call(function, [total, builder.bitcast(a, _PAIRS), builder.bitcast(b, _PAIRS)])


def whole(number: int):
    """The same 32-bit number in every lane."""
    signed = number - (1 << 32) if number >= 1 << 31 else number
    return ir.Constant(WHOLE, [signed] * WIDTH)


def round_lanes(builder, value):
    """bfloat16 bits of float32 lanes in the high half, rounded to nearest even; the low half is not cleared."""
    bits = builder.bitcast(value, WHOLE)
    odd = builder.and_(builder.lshr(bits, whole(16)), whole(1))
    return builder.add(builder.add(bits, whole(0x7FFF)), odd)


def pair_lanes(builder, low, high):
    """Two vectors of float32 as one of bfloat16 pairs, each rounded by itself."""
    if HAS_BF16_DOT:
        # one after the other, then in turns
        function = cgutils.get_or_insert_function(
            builder.module, ir.FunctionType(_PAIRS, [LANES, LANES]), "llvm.x86.avx512bf16.cvtne2ps2bf16.512"
        )
        halves = ir.VectorType(HALF, 2 * WIDTH)
        rounded = builder.bitcast(builder.call(function, [high, low]), halves)
        turns = [place + part for place in range(WIDTH) for part in (0, WIDTH)]
        turned = builder.shuffle_vector(rounded, rounded, ir.Constant(ir.VectorType(INT, 2 * WIDTH), turns))
        return builder.bitcast(turned, WHOLE)
    first = builder.lshr(round_lanes(builder, low), whole(16))
    return builder.or_(first, builder.and_(round_lanes(builder, high), whole(0xFFFF0000)))


@intrinsic
def _pair_frames(typing, source, low, high, out, target):
    """One vector of frame pairs; the high number is rounded with the low one's bits behind it."""

    def generate(context, builder, signature, values):
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
def _pair_rows(typing, source, low, high, out, target):
    """One vector of row pairs."""

    def generate(context, builder, signature, values):
        read = data_pointer(context, builder, signature.args[0], values[0])
        write = data_pointer(context, builder, signature.args[3], values[3])
        pair = pair_lanes(builder, load_lanes(builder, read, values[1]), load_lanes(builder, read, values[2]))
        store_lanes(builder, pair, write, values[4])
        return context.get_dummy_value()

    return types.void(source, types.int64, types.int64, out, types.int64), generate


@njit(nogil=True, cache=True)
def frame_pairs(tile, origin, rows, stride, half, count, out, target, row):
    """Rows of float32, ``stride`` apart, to rows of ``count`` frame pairs, ``row`` apart (count: whole vectors)."""
    for number in range(rows):
        read = origin + number * stride
        write = target + number * row
        for part in range(0, count, WIDTH):
            _pair_frames(tile, read + part, read + half + part, out, write + part)


@njit(nogil=True, cache=True)
def row_pairs(tile, origin, rows, stride, vectors, out, target):
    """Rows of float32, ``stride`` apart, to half as many rows of pairs, ``stride`` apart; ``rows`` is even."""
    for number in range(0, rows, 2):
        read = origin + number * stride
        write = target + number // 2 * stride
        for part in range(0, vectors * WIDTH, WIDTH):
            _pair_rows(tile, read + part, read + stride + part, out, write + part)


def _row(count):
    """`rows.row_kernel` on frame pairs: ``count`` vectors of pairs are 2·count vectors of output, ``half`` apart."""
    shift = [LONG(WIDTH * number) for number in range(count)]

    def reads(builder, x, place):
        pairs = [load_lanes(builder, x, builder.add(place, offset), WHOLE) for offset in shift]
        low = [builder.bitcast(builder.shl(pair, whole(16)), LANES) for pair in pairs]
        return low + [builder.bitcast(pair, LANES) for pair in pairs]

    return row_kernel(lambda builder, half: shift + [builder.add(half, offset) for offset in shift], reads, TURNS)


_row1, _row2, _row3, _row4 = (_row(count) for count in range(1, 5))


@njit(nogil=True, cache=True)
def csr_rows_half(
    values, columns, unit, pointers, first, last, bias, x, out, target, stride, start, origin, step, vectors,
    activation,
):  # fmt: skip
    """`rows.csr_rows` on a tile of frame pairs; ``vectors`` is even, ``half`` of the pairs is ``vectors``/2 vectors."""
    half = vectors // 2 * WIDTH
    for row in range(first, last):
        a = pointers[row]
        b = pointers[row + 1]
        if vectors == 8:
            _row4(x, values, columns, unit, a, b, out, target, start, origin, bias[row], half)
        elif vectors == 6:
            _row3(x, values, columns, unit, a, b, out, target, start, origin, bias[row], half)
        elif vectors == 4:
            _row2(x, values, columns, unit, a, b, out, target, start, origin, bias[row], half)
        else:
            _row1(x, values, columns, unit, a, b, out, target, start, origin, bias[row], half)
        if activation:
            activate(activation, out, target, 1, stride, vectors)
        target += stride
        if origin >= 0:
            origin += step


# two input rows at a time
_block = block_kernel(BLOCK_ROWS, WHOLE, lambda builder, total, weight, x: dot_lanes(builder, total, x, weight))


@njit(nogil=True, cache=True)
def block_rows_half(
    values, columns, unit, pointers, first, last, bias, x, out, target, stride, start, origin, step, vectors,
    activation,
):  # fmt: skip
    """`rows.block_rows` for blocks of 16×2 on a tile of row pairs: a column is a pair, and so is a value."""
    for row in range(first, last, BLOCK_ROWS):
        a = pointers[row // BLOCK_ROWS]
        b = pointers[row // BLOCK_ROWS + 1]
        for part in range(0, vectors * WIDTH, WIDTH):
            where = origin + part if origin >= 0 else origin
            _block(x, part, values, columns, unit, a, b, out, target + part, stride, start, where, step, bias, row)
        if activation:
            activate(activation, out, target, BLOCK_ROWS, stride, vectors)
        target += BLOCK_ROWS * stride
        if origin >= 0:
            origin += BLOCK_ROWS * step
