"""LSTM recurrences (Hochreiter and Schmidhuber 1997, with forget gates) with a sparse recurrent matrix.

A step can only begin when the one before it has ended, so there are no frames to lay in the lanes. Alone, an utterance
lays 16 gate rows there: each takes the state that its next kept weight multiplies out of two registers (32 states),
which takes one instruction where a gather from memory takes one for every lane. A batch lays utterances in the lanes
and uses the products of all other layers.

Rows of gates are ordered in groups: input, forget, cell and output gate of the first `WIDTH` units, then of the next.
"""

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.core.extending import intrinsic

from audio_lottery.sparse.kernels.elementwise import sigmoid
from audio_lottery.sparse.kernels.rows import block_rows, csr_rows
from audio_lottery.sparse.kernels.vector import (
    INT,
    LANES,
    LONG,
    WIDTH,
    add,
    data_pointer,
    fma,
    load,
    load_lanes,
    multiply,
    splat,
    store,
    transpose,
    vector,
)

F = np.float32
GATES = 4
# States that a row of a segment may read: what two registers hold with AVX-512; elsewhere (0) all of them.
SEGMENT = 2 * WIDTH if WIDTH == 16 else 0


@intrinsic
def _pick(typing, states, place, index, at):
    """A state for every lane: ``states[place + index[at + lane]]``."""

    def generate(context, builder, signature, values):
        states, index = (data_pointer(context, builder, signature.args[i], values[i]) for i in (0, 2))
        place, at = values[1], values[3]
        if SEGMENT:
            kind = ir.VectorType(index.type.pointee, WIDTH)
            lanes = builder.zext(load_lanes(builder, index, at, kind), ir.VectorType(INT, WIDTH))
            low, high = (load_lanes(builder, states, builder.add(place, LONG(part))) for part in (0, WIDTH))
            function = ir.FunctionType(LANES, [LANES, lanes.type, LANES])
            name = "llvm.x86.avx512.vpermi2var.ps.512"
            return builder.call(cgutils.get_or_insert_function(builder.module, function, name), [low, lanes, high])
        picked = ir.Constant(LANES, ir.Undefined)
        for lane in range(WIDTH):
            number = builder.zext(builder.load(builder.gep(index, [builder.add(at, LONG(lane))])), LONG)
            value = builder.load(builder.gep(states, [builder.add(place, number)]))
            picked = builder.insert_element(picked, value, INT(lane))
        return picked

    return vector(states, types.int64, index, types.int64), generate


@njit(inline="always")
def tanh(x):
    """2·σ(2x) - 1, to about 2e-7."""
    return fma(splat(F(2.0)), sigmoid(add(x, x)), splat(F(-1.0)))


@njit(nogil=True, cache=True)
def recur(
    values, index, counts, segments, gates, pitch, column, rows, begin, step, frames, state, cell, spare, units, out,
    out_pitch, out_column
):  # fmt: skip
    """All steps of one utterance in one direction.

    Args:
        values: the recurrent weights, [slots, WIDTH], flat: a slot is one weight of each row of a group's gate.
            Slots follow each other by group, segment and gate.
        index: the same shape: the state, counted from the segment's first, that a weight multiplies.
        counts: [groups · segments · 4], slots of each.
        segments: of `SEGMENT` states each; 1 where that is 0.
        gates: products with the input, and biases: [frames, pitch], flat.
        pitch: see above.
        column: where in a row of ``gates`` this direction begins.
        rows: the rows of the frames in ``gates`` and ``out``; the first step's is ``rows[begin]``, the next's
            ``rows[begin + step]``.
        begin: see above.
        step: 1 or -1.
        frames: steps, at least one.
        state: [units, up to whole segments] the state h before the first step, after it that of the last.
        cell: the same of the cell c.
        spare: as many numbers.
        units: [hidden] where in ``out`` the units go.
        out: [frames, out_pitch], flat.
        out_pitch: see above.
        out_column: where in a row of it this direction begins.
    """
    old = state
    new = spare
    for t in range(frames):
        row = rows[begin + t * step]
        read = row * pitch + column
        slot = 0
        block = 0
        for unit in range(0, state.size, WIDTH):
            place = read + GATES * unit
            a = splat(F(0.0))
            f = splat(F(0.0))
            g = splat(F(0.0))
            o = splat(F(0.0))
            for segment in range(segments):
                first = segment * SEGMENT
                end = slot + WIDTH * np.int64(counts[block])
                while slot < end:
                    a = fma(_pick(old, first, index, slot), load(values, slot), a)
                    slot += WIDTH
                end = slot + WIDTH * np.int64(counts[block + 1])
                while slot < end:
                    f = fma(_pick(old, first, index, slot), load(values, slot), f)
                    slot += WIDTH
                end = slot + WIDTH * np.int64(counts[block + 2])
                while slot < end:
                    g = fma(_pick(old, first, index, slot), load(values, slot), g)
                    slot += WIDTH
                end = slot + WIDTH * np.int64(counts[block + 3])
                while slot < end:
                    o = fma(_pick(old, first, index, slot), load(values, slot), o)
                    slot += WIDTH
                block += GATES
            a = add(a, load(gates, place))
            f = add(f, load(gates, place + WIDTH))
            g = add(g, load(gates, place + 2 * WIDTH))
            o = add(o, load(gates, place + 3 * WIDTH))
            c = fma(sigmoid(f), load(cell, unit), multiply(sigmoid(a), tanh(g)))
            store(cell, unit, c)
            store(new, unit, multiply(sigmoid(o), tanh(c)))
        target = row * out_pitch + out_column
        for unit in range(units.size):
            out[target + units[unit]] = new[unit]
        old, new = new, old
    if frames % 2:
        for unit in range(state.size):
            state[unit] = spare[unit]


@njit(nogil=True, cache=True)
def recur_lanes(
    blocks, values, columns, stride, pointers, bias, gates, pitch, column, rows, begin, step, frames, state, cell,
    work, ends, units, out, out_pitch, out_column,
):  # fmt: skip
    """All steps of up to `WIDTH` utterances in one direction, an utterance in each lane.

    Args:
        blocks: whether the matrix is one of `block_rows`, and not of `csr_rows`; the next five are its arguments, with
            the rows of ``state`` as the tile's.
        values: see above.
        columns: see above.
        stride: see above; `rows.csr_rows` calls it unit.
        pointers: see above.
        bias: see above.
        gates: see `recur`.
        pitch: see `recur`.
        column: see `recur`.
        rows: see `recur`.
        begin: [lanes], as in `recur`.
        step: 1 or -1.
        frames: [lanes] steps of each, at least one.
        state: [units, WIDTH] the state h before the first step; overwritten.
        cell: the same of c.
        work: (4 · units + WIDTH) · WIDTH numbers.
        ends: [2, WIDTH, units], the last state and cell of every lane, is written.
        units: see `recur`.
        out: see `recur`.
        out_pitch: see `recur`.
        out_column: see `recur`.
    """
    lanes = frames.size
    size = state.size // WIDTH
    square = GATES * size * WIDTH
    for place in range(square, square + WIDTH * WIDTH):
        work[place] = 0.0  # lanes without an utterance
    for t in range(frames.max()):
        for row in range(0, GATES * size, WIDTH):
            for lane in range(lanes):
                if t < frames[lane]:
                    read = rows[begin[lane] + t * step] * pitch + column + row
                    store(work, square + lane * WIDTH, load(gates, read))
            transpose(work, square, WIDTH, work, row * WIDTH, WIDTH)
        if blocks:
            block_rows(
                values, columns, stride, pointers, 0, GATES * size, bias, state, work, 0, WIDTH, work, 0, WIDTH, 1, 0
            )
        else:
            csr_rows(
                values, columns, stride, pointers, 0, GATES * size, bias, state, work, 0, WIDTH, work, 0, WIDTH, 1, 0
            )
        for unit in range(size):
            place = (unit // WIDTH * GATES * WIDTH + unit % WIDTH) * WIDTH
            a = sigmoid(load(work, place))
            f = sigmoid(load(work, place + WIDTH * WIDTH))
            g = tanh(load(work, place + 2 * WIDTH * WIDTH))
            o = sigmoid(load(work, place + 3 * WIDTH * WIDTH))
            c = fma(f, load(cell, unit * WIDTH), multiply(a, g))
            store(cell, unit * WIDTH, c)
            store(state, unit * WIDTH, multiply(o, tanh(c)))
        for unit in range(0, size, WIDTH):
            transpose(state, unit * WIDTH, WIDTH, work, square, WIDTH)
            for lane in range(lanes):
                if t < frames[lane]:
                    target = rows[begin[lane] + t * step] * out_pitch + out_column
                    for number in range(unit, min(unit + WIDTH, units.size)):
                        out[target + units[number]] = work[square + lane * WIDTH + number - unit]
        for lane in range(lanes):
            if t == frames[lane] - 1:
                for unit in range(size):
                    ends[lane * size + unit] = state[unit * WIDTH + lane]
                    ends[(WIDTH + lane) * size + unit] = cell[unit * WIDTH + lane]
