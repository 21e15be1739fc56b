"""Convolutions of 3×3 that halve time and frequency (stride 2, one zero around), frames in the lanes.

Rows hold consecutive frames. Element i of a row that is read belongs to two frames before twice the frame of element i
of the row that is made: so the taps at -1, 0 and 1 are the odd lanes of what lies there, and the even and the odd ones
of what lies two elements behind.
"""

import numpy as np
from numba import njit

from audio_lottery.sparse.kernels.vector import (
    WIDTH,
    add,
    even_lanes,
    fma,
    load,
    maximum,
    multiply,
    odd_lanes,
    splat,
    store,
)

F = np.float32
TAPS = 9


@njit(inline="always")
def _clear_outside(rows, origin, low, high, count):
    """Zeros before element ``low`` and from ``high`` on, of ``count``."""
    for position in range(min(low, count)):
        rows[origin + position] = F(0.0)
    for position in range(max(high, 0), count):
        rows[origin + position] = F(0.0)


@njit(inline="always")
def _add_halved(total, source, place, weight, tap):
    """Plus three taps of a row, see the module's description."""
    a = load(source, place)
    b = load(source, place + WIDTH)
    c = load(source, place + 2)
    d = load(source, place + WIDTH + 2)
    total = fma(splat(weight[tap]), odd_lanes(a, b), total)
    total = fma(splat(weight[tap + 1]), even_lanes(c, d), total)
    return fma(splat(weight[tap + 2]), odd_lanes(c, d), total)


@njit(nogil=True, cache=True)
def halve(source, bin_pitch, row, bins, number, weight, bias, out, out_row, vectors):
    """A depthwise convolution, one bin of its output.

    Args:
        source: [bins, channels, row], flat, ``bin_pitch`` elements a bin.
        bin_pitch: see above.
        row: see above.
        bins: see above.
        number: of the bin that is made.
        weight: [channels, 9], (frequency, time) of each, flat.
        bias: [channels].
        out: [channels, out_row], flat.
        out_row: see above.
        vectors: vectors of frames that are made.
    """
    first = max(2 * number - 1, 0)
    last = min(2 * number + 2, bins)
    for channel in range(bias.size):
        offset = splat(bias[channel])
        for part in range(0, vectors * WIDTH, WIDTH):
            total = splat(F(0.0))
            for other in range(first, last):
                tap = channel * TAPS + 3 * (other - 2 * number + 1)
                total = _add_halved(total, source, other * bin_pitch + channel * row + 2 * part, weight, tap)
            store(out, channel * out_row + part, add(total, offset))


@njit(nogil=True, cache=True)
def halve_twice(
    tile, row, bins, number, weight, bias, low, high, wide, second_weight, second_bias, out, out_row, vectors, lines
):  # fmt: skip
    """The first convolution (one channel in), ReLU, and a bin of the depthwise convolution behind it.

    Args:
        tile: [1 + input bins + 1, 2, row], flat: even and odd frames of each bin, the first and last bin zeros.
        row: see above.
        bins: that the first convolution makes.
        number: of the bin that is made.
        weight: [channels, 9] of the first convolution, flat.
        bias: [channels].
        low: where in its rows the utterance's frames begin.
        high: where they end; zeros are read outside.
        wide: vectors of its frames that are needed.
        second_weight: [channels, 9] of the depthwise convolution, flat.
        second_bias: [channels].
        out: [channels, out_row], flat.
        out_row: see above.
        vectors: vectors of frames that are made.
        lines: (wide + 3) · WIDTH numbers, three times.
    """
    first = max(2 * number - 1, 0)
    last = min(2 * number + 2, bins)
    pitch = lines.size // 3
    for channel in range(bias.size):
        offset = splat(bias[channel])
        at = channel * TAPS
        w0 = splat(weight[at])
        w1 = splat(weight[at + 1])
        w2 = splat(weight[at + 2])
        w3 = splat(weight[at + 3])
        w4 = splat(weight[at + 4])
        w5 = splat(weight[at + 5])
        w6 = splat(weight[at + 6])
        w7 = splat(weight[at + 7])
        w8 = splat(weight[at + 8])
        for other in range(first, last):
            line = (other - first) * pitch
            # bin 2·other - 1 of the input, behind the one of zeros
            even = 4 * other * row
            odd = even + row
            for part in range(0, wide * WIDTH, WIDTH):
                total = multiply(w0, load(tile, odd + part))
                total = fma(w1, load(tile, even + part + 1), total)
                total = fma(w2, load(tile, odd + part + 1), total)
                total = fma(w3, load(tile, odd + 2 * row + part), total)
                total = fma(w4, load(tile, even + 2 * row + part + 1), total)
                total = fma(w5, load(tile, odd + 2 * row + part + 1), total)
                total = fma(w6, load(tile, odd + 4 * row + part), total)
                total = fma(w7, load(tile, even + 4 * row + part + 1), total)
                total = fma(w8, load(tile, odd + 4 * row + part + 1), total)
                store(lines, line + part, maximum(splat(F(0.0)), add(total, offset)))
            _clear_outside(lines, line, low, high, wide * WIDTH)
        offset = splat(second_bias[channel])
        for part in range(0, vectors * WIDTH, WIDTH):
            total = splat(F(0.0))
            for other in range(first, last):
                tap = channel * TAPS + 3 * (other - 2 * number + 1)
                total = _add_halved(total, lines, (other - first) * pitch + 2 * part, second_weight, tap)
            store(out, channel * out_row + part, add(total, offset))


@njit(nogil=True, cache=True)
def rectify(tile, origin, rows, stride, low, high, vectors):
    """ReLU in place on ``rows`` rows ``stride`` apart; zeros before element ``low`` and from ``high`` on."""
    zero = splat(F(0.0))
    for row in range(rows):
        place = origin + row * stride
        for part in range(0, vectors * WIDTH, WIDTH):
            store(tile, place + part, maximum(zero, load(tile, place + part)))
        _clear_outside(tile, place, low, high, vectors * WIDTH)
