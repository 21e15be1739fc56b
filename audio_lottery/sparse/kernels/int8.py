"""The products of `rows` on bytes: four weights and four inputs a lane and instruction (AVX512-VNNI), sums in int32.

A tile in bytes holds, behind the scale of each of its `FRAMES` frames (float32), rows of unsigned bytes, frames
contiguous: an input x is the byte round(x / scale) + `ZERO` (`quantise`). Weights are signed bytes with a scale for
each output row. The instruction wants the four inputs that belong to a frame side by side, and which four rows that
are differs from weight to weight: rows are interleaved as they are read. Interleaving works within a quarter of a
vector, so the sums' quarters change places before they are written. What the zero point adds to a row's sum is known
beforehand: it is what the sum starts from.
"""

from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.core.extending import intrinsic

from audio_lottery.sparse.kernels.elementwise import activate
from audio_lottery.sparse.kernels.rows import BLOCK_ROWS, FRAMES, row_start
from audio_lottery.sparse.kernels.vector import (
    FLOAT,
    HAS_INT8_DOT,
    INT,
    LANES,
    LONG,
    WIDTH,
    data_pointer,
    emit_loop,
    load_lanes,
    splat_lanes,
    store_lanes,
)

__all__ = [
    "HAS_INT8_DOT",
    "HEAD",
    "QUAD",
    "ZERO",
    "block_rows_int8",
    "csr_rows_int8",
    "row_bytes",
]

BYTE = ir.IntType(8)
# Weights, and rows, of one product of a lane.
QUAD = 4
# Vectors whose bytes fill one register, and their frames.
GROUP = 4
GROUP_FRAMES = GROUP * WIDTH
# The byte of zero.
ZERO = 128
# Bytes before the first row: the frames' scales.
HEAD = 4 * FRAMES
# Output rows whose sums are held at a time.
_LINES = 4
_WHOLE = ir.VectorType(INT, WIDTH)
_BYTES = ir.VectorType(BYTE, GROUP_FRAMES)


def row_bytes(shift: int) -> int:
    """Bytes from one row to the next where rows are read from up to ``shift`` frames after their beginning."""
    return -(-(FRAMES + shift) // GROUP_FRAMES) * GROUP_FRAMES


def dot_bytes(builder, total, inputs, weights):
    """total + the sum of four products in every lane: inputs unsigned, weights signed."""
    kind = ir.FunctionType(_WHOLE, [_WHOLE] * 3)
    function = cgutils.get_or_insert_function(builder.module, kind, "llvm.x86.avx512.vpdpbusd.512")
    return builder.call(function, [total, inputs, weights])


def _interleave(builder, a, b, size):
    """Elements of ``size`` bytes of a and b in turn, within each quarter: (first halves, second halves)."""
    count = GROUP_FRAMES // size
    kind = ir.VectorType(ir.IntType(8 * size), count)
    a, b = builder.bitcast(a, kind), builder.bitcast(b, kind)
    quarter = count // GROUP
    found = []
    for half in range(2):
        places = []
        for part in range(GROUP):
            begin = part * quarter + half * quarter // 2
            for number in range(begin, begin + quarter // 2):
                places += [number, count + number]
        found.append(builder.shuffle_vector(a, b, ir.Constant(ir.VectorType(INT, count), places)))
    return found


def _quads(builder, x, places):
    """`GROUP_FRAMES` bytes of four rows as `GROUP` vectors, a byte of each row in a lane; quarters are out of order."""
    a, b, c, d = (load_bytes(builder, x, place) for place in places)
    upper, lower = _interleave(builder, a, b, 1), _interleave(builder, c, d, 1)
    found = []
    for half in range(2):
        found += [builder.bitcast(quad, _WHOLE) for quad in _interleave(builder, upper[half], lower[half], 2)]
    return found


def _rows(builder, columns, unit, quad, base):
    """Where the four rows of a quad begin."""
    first = builder.mul(quad, LONG(QUAD))
    numbers = [builder.add(first, LONG(n)) for n in range(QUAD)]
    return [builder.add(base, row_start(builder, columns, unit, number)) for number in numbers]


def load_bytes(builder, pointer, offset):
    """`GROUP_FRAMES` bytes from an offset in bytes on."""
    return builder.load(builder.bitcast(builder.gep(pointer, [offset]), _BYTES.as_pointer()), align=1)


def _in_order(builder, sums):
    """Sums of `_quads` with the quarters where they belong: a transposition of quarters."""
    kind = ir.VectorType(INT, WIDTH)

    def pick(a, b, quarters):
        places = [quarter * GROUP + lane for quarter in quarters for lane in range(GROUP)]
        return builder.shuffle_vector(a, b, ir.Constant(kind, places))

    # quarters 0 to 3 are those of the first vector, 4 to 7 of the second
    first, second = (0, 1, 4, 5), (2, 3, 6, 7)
    outer, inner = (0, 2, 4, 6), (1, 3, 5, 7)
    found = []
    for quarters in (first, second):
        low, high = pick(sums[0], sums[1], quarters), pick(sums[2], sums[3], quarters)
        found += [pick(low, high, outer), pick(low, high, inner)]
    return found


def _finish(builder, sums, frames, scale, bias, start, origin, out, target, count):
    """Write one row of `GROUP` vectors: sums · frame's scale · row's scale + (bias + start).

    Args:
        sums: as `_quads` orders them.
        frames: the frames' scales.
        scale: the row's.
        bias: the row's.
        start: pointer to what is added; from ``origin`` on, unless that is negative.
        origin: see above.
        out: pointer to where the row is written; from ``target`` on.
        target: see above.
        count: how many vectors are written; 1 or 2 stand for 2, more for all.
    """
    scale, bias = splat_lanes(builder, scale), splat_lanes(builder, bias)
    values = []
    for total, frame in zip(_in_order(builder, sums), frames, strict=True):
        values.append(builder.fmul(builder.sitofp(total, LANES), builder.fmul(frame, scale)))
    added = builder.icmp_signed(">=", origin, LONG(0))

    def write(numbers):
        places = [LONG(WIDTH * number) for number in numbers]
        with builder.if_else(added) as (carried, alone):
            with carried:
                for number, place in zip(numbers, places, strict=True):
                    more = builder.fadd(bias, load_lanes(builder, start, builder.add(origin, place)))
                    store_lanes(builder, builder.fadd(values[number], more), out, builder.add(target, place))
            with alone:
                for number, place in zip(numbers, places, strict=True):
                    store_lanes(builder, builder.fadd(values[number], bias), out, builder.add(target, place))

    write(range(2))
    with builder.if_then(builder.icmp_signed(">", count, LONG(2))):
        write(range(2, GROUP))


def _frame_scales(builder, x, group):
    """Scales of a group's frames, from the head of a tile."""
    head = builder.bitcast(x, FLOAT.as_pointer())
    return [load_lanes(builder, head, builder.add(group, LONG(WIDTH * number))) for number in range(GROUP)]


def _row(groups):
    """An intrinsic: one row of the output for so many groups of frames; single weights."""

    @intrinsic
    def row(typing, x, values, columns, unit, first, last, zero, scale, bias, out, target, start, origin, begin, count):
        def generate(context, builder, signature, arguments):
            kinds = signature.args
            first, last, zero, scale, bias, target, origin, begin, count = (
                arguments[i] for i in (4, 5, 6, 7, 8, 10, 12, 13, 14)
            )
            unit = arguments[3]
            x, values, columns, out, start = (
                data_pointer(context, builder, kinds[i], arguments[i]) for i in (0, 1, 2, 9, 11)
            )
            base = builder.add(begin, LONG(HEAD))

            def step(index, sums):
                weights = splat_lanes(builder, builder.load(builder.gep(values, [index])), _WHOLE)
                rows = _rows(builder, columns, unit, index, base)
                following = []
                for group in range(groups):
                    shift = LONG(group * GROUP_FRAMES)
                    inputs = _quads(builder, x, [builder.add(row, shift) for row in rows])
                    for number, read in enumerate(inputs):
                        following.append(dot_bytes(builder, sums[group * GROUP + number], read, weights))
                return following

            initial = [splat_lanes(builder, zero, _WHOLE)] * (groups * GROUP)
            sums = emit_loop(builder, first, last, initial, step)
            for group in range(groups):
                shift = LONG(group * GROUP_FRAMES)
                frames = _frame_scales(builder, x, builder.add(begin, shift))
                where = builder.select(builder.icmp_signed(">=", origin, LONG(0)), builder.add(origin, shift), origin)
                left = builder.sub(count, LONG(group * GROUP))
                these = sums[group * GROUP : (group + 1) * GROUP]
                _finish(builder, these, frames, scale, bias, start, where, out, builder.add(target, shift), left)
            return context.get_dummy_value()

        integer, real = types.int64, types.float32
        return (
            types.void(
                x, values, columns, integer, integer, integer, types.int32, real, real, out, integer, start, integer,
                integer, integer,
            ),
            generate,
        )  # fmt: skip

    return row


_row1, _row2 = _row(1), _row(2)


@njit(nogil=True, cache=True)
def csr_rows_int8(
    values, columns, unit, pointers, zeros, scales, first, last, bias, x, out, target, stride, start, origin, step,
    vectors, activation,
):  # fmt: skip
    """`rows.csr_rows` on bytes.

    Args:
        values: [quads] int32, four signed bytes each; a row's last quad is filled up with zeros.
        columns: [quads · 4] uint16 or int32, of each weight; its row begins at ``unit`` times that behind the head.
        unit: see above.
        pointers: [rows + 1] int64, where each row's quads begin.
        zeros: [rows] int32, what each row's sum starts from: -`ZERO` · the sum of its weights.
        scales: [rows] float32.
        first: as in `csr_rows`, like all that follows.
        x: the tile in bytes.
        vectors: even.
    """
    for row in range(first, last):
        a = pointers[row]
        b = pointers[row + 1]
        if vectors > GROUP:
            _row2(
                x, values, columns, unit, a, b, zeros[row], scales[row], bias[row], out, target, start, origin, 0,
                vectors,
            )  # fmt: skip
        else:
            _row1(
                x, values, columns, unit, a, b, zeros[row], scales[row], bias[row], out, target, start, origin, 0,
                vectors,
            )  # fmt: skip
        if activation:
            activate(activation, out, target, 1, stride, vectors)
        target += stride
        if origin >= 0:
            origin += step


@intrinsic
def _gather(typing, x, columns, unit, quad, begin, quads, place):
    """A group of frames of four rows to lanes of four, quarters out of order."""

    def generate(context, builder, signature, arguments):
        unit, quad, begin, place = (arguments[i] for i in (2, 3, 4, 6))
        x, columns, quads = (data_pointer(context, builder, signature.args[i], arguments[i]) for i in (0, 1, 5))
        base = builder.add(begin, LONG(HEAD))
        rows = _rows(builder, columns, unit, quad, base)
        for number, read in enumerate(_quads(builder, x, rows)):
            store_lanes(builder, read, quads, builder.add(place, LONG(number * WIDTH)))
        return context.get_dummy_value()

    return types.void(x, columns, types.int64, types.int64, types.int64, quads, types.int64), generate


@intrinsic
def _block(
    typing, x, quads, begin, values, first, last, row, zeros, scales, bias, out, target, stride, start, origin, step,
    count,
):  # fmt: skip
    """A group of frames of `_LINES` output rows of a block; ``quads`` is what `_gather` wrote, from ``first`` on."""

    def generate(context, builder, signature, arguments):
        kinds = signature.args
        begin, first, last, row, target, stride, origin, hop, count = (
            arguments[i] for i in (2, 4, 5, 6, 11, 12, 14, 15, 16)
        )
        x, quads, values, zeros, scales, bias, out, start = (
            data_pointer(context, builder, kinds[i], arguments[i]) for i in (0, 1, 3, 7, 8, 9, 10, 13)
        )
        within = builder.and_(row, LONG(BLOCK_ROWS - 1))

        def of_line(array, line):
            return builder.load(builder.gep(array, [builder.add(row, LONG(line))]))

        def step(index, sums):
            place = builder.add(builder.mul(builder.sub(index, first), LONG(FRAMES)), begin)
            inputs = [
                load_lanes(builder, quads, builder.add(place, LONG(WIDTH * number)), _WHOLE) for number in range(GROUP)
            ]
            where = builder.add(builder.mul(index, LONG(BLOCK_ROWS)), within)
            following = []
            for line in range(_LINES):
                weight = builder.load(builder.gep(values, [builder.add(where, LONG(line))]))
                weights = splat_lanes(builder, weight, _WHOLE)
                for number, read in enumerate(inputs):
                    following.append(dot_bytes(builder, sums[line * GROUP + number], read, weights))
            return following

        initial = []
        for line in range(_LINES):
            initial += [splat_lanes(builder, of_line(zeros, line), _WHOLE)] * GROUP
        sums = emit_loop(builder, first, last, initial, step)
        frames = _frame_scales(builder, x, begin)
        carried = builder.icmp_signed(">=", origin, LONG(0))
        for line in range(_LINES):
            these = sums[line * GROUP : (line + 1) * GROUP]
            where = builder.select(carried, builder.add(origin, builder.mul(hop, LONG(line))), origin)
            place = builder.add(target, builder.mul(stride, LONG(line)))
            scale, offset = of_line(scales, line), of_line(bias, line)
            _finish(builder, these, frames, scale, offset, start, where, out, place, count)
        return context.get_dummy_value()

    integer = types.int64
    return (
        types.void(
            x, quads, integer, values, integer, integer, integer, zeros, scales, bias, out, integer, integer, start,
            integer, integer, integer,
        ),
        generate,
    )  # fmt: skip


@njit(nogil=True, cache=True)
def block_rows_int8(
    values, columns, unit, pointers, zeros, scales, first, last, bias, x, out, target, stride, start, origin, step,
    vectors, activation, quads,
):  # fmt: skip
    """`csr_rows_int8` for a matrix that is kept or pruned in blocks of 16 output rows, of any columns.

    Args:
        values: [quads · 16] int32: of each four columns that 16 rows keep, four signed bytes a row.
        columns: [quads · 4], as in `csr_rows_int8`, like all that follows but for pointers and rows.
        pointers: [rows / 16 + 1] int64, where the quads of each 16 rows begin.
        first: a multiple of 16, like ``last``.
        quads: int32 scratch of this thread's own: `FRAMES` for each quad that 16 rows have at most.
    """
    for row in range(first, last, BLOCK_ROWS):
        a = pointers[row // BLOCK_ROWS]
        b = pointers[row // BLOCK_ROWS + 1]
        for quad in range(a, b):
            for begin in range(0, vectors * WIDTH, GROUP_FRAMES):
                _gather(x, columns, unit, quad, begin, quads, (quad - a) * FRAMES + begin)
        for line in range(row, row + BLOCK_ROWS, _LINES):
            for begin in range(0, vectors * WIDTH, GROUP_FRAMES):
                where = origin + begin if origin >= 0 else origin
                _block(
                    x, quads, begin, values, a, b, line, zeros, scales, bias, out, target + begin, stride, start,
                    where, step, vectors - begin // WIDTH,
                )  # fmt: skip
            if activation:
                activate(activation, out, target, _LINES, stride, vectors)
            target += _LINES * stride
            if origin >= 0:
                origin += _LINES * step
