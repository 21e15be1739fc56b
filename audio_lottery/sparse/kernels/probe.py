"""What a core can do at most: multiply-adds from register to register, and bytes from memory."""

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.core.extending import intrinsic

from audio_lottery.sparse.kernels.half import WHOLE, dot_lanes
from audio_lottery.sparse.kernels.int8 import dot_bytes
from audio_lottery.sparse.kernels.vector import INT, LANES, LONG, WIDTH, add, emit_loop, fma_lanes, load, splat, total

# Sums under way at a time: they hide the latency of a multiply-add, and fit the registers.
SUMS = 16 if WIDTH == 16 else 8
# The bits of 1.0: sums that are numbers of ordinary size.
_ONE = 0x3F800000


def _chains(sums, factors, accumulate):
    """An intrinsic: ``turns`` · `SUMS` multiply-adds, of which `SUMS` do not wait for each other.

    Args:
        sums: what a vector of sums holds.
        factors: what a vector of factors holds.
        accumulate: emits total + a · b from (builder, total, a, b).
    """

    @intrinsic
    def chains(typing, turns, seed):
        def generate(context, builder, signature, arguments):
            # not known when this is compiled, so that nothing of it is computed then
            bits = builder.trunc(arguments[1], INT)
            factor = builder.bitcast(builder.insert_element(ir.Constant(WHOLE, [0] * WIDTH), bits, INT(0)), factors)
            initial = [builder.bitcast(ir.Constant(WHOLE, [_ONE + number] * WIDTH), sums) for number in range(SUMS)]

            def step(index, values):
                return [accumulate(builder, value, factor, factor) for value in values]

            found = emit_loop(builder, LONG(0), arguments[0], initial, step)
            together = ir.Constant(WHOLE, [0] * WIDTH)
            for value in found:
                together = builder.add(together, builder.bitcast(value, WHOLE))
            return builder.extract_element(together, INT(0))

        return types.int32(types.int64, types.int64), generate

    return chains


_single = _chains(LANES, LANES, lambda builder, total, a, b: fma_lanes(builder, a, b, total))
_half = _chains(LANES, WHOLE, dot_lanes)
_bytes = _chains(WHOLE, WHOLE, dot_bytes)


@njit(nogil=True, cache=True)
def multiply_adds_float32(turns, seed):
    """``turns`` · `SUMS` · `WIDTH` multiply-adds."""
    return _single(turns, seed)


@njit(nogil=True, cache=True)
def multiply_adds_bfloat16(turns, seed):
    """Twice as many."""
    return _half(turns, seed)


@njit(nogil=True, cache=True)
def multiply_adds_int8(turns, seed):
    """Four times as many."""
    return _bytes(turns, seed)


@njit(nogil=True, cache=True)
def read_through(array):
    """Read an array of float32, in whole steps of four vectors; its sum."""
    a = splat(np.float32(0.0))
    b = splat(np.float32(0.0))
    c = splat(np.float32(0.0))
    d = splat(np.float32(0.0))
    for place in range(0, array.size - 4 * WIDTH + 1, 4 * WIDTH):
        a = add(a, load(array, place))
        b = add(b, load(array, place + WIDTH))
        c = add(c, load(array, place + 2 * WIDTH))
        d = add(d, load(array, place + 3 * WIDTH))
    return total(add(add(a, b), add(c, d)))
