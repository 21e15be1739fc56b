"""What lies around the depthwise convolutions of conformers: gates, taps over neighbouring frames, subsampling."""

import numpy as np
from numba import njit

from audio_lottery.sparse.kernels.elementwise import sigmoid
from audio_lottery.sparse.kernels.rows import FRAMES
from audio_lottery.sparse.kernels.vector import WIDTH, add, fma, load, multiply, splat, store

F = np.float32


@njit(nogil=True, cache=True)
def gate(source, origin, rows, frames, out, target, pitch, vectors):
    """Gated linear units (Dauphin et al. 2017): x·σ(y), zero for frames that are padding.

    Args:
        source: a tile: ``rows`` rows of x from ``origin`` on, then as many of y.
        origin: see above.
        rows: see above.
        frames: of the tile that are not padding.
        out: row r is written from ``target + r·pitch`` on.
        target: see above.
        pitch: see above.
        vectors: vectors of frames that are written.
    """
    for row in range(rows):
        read = origin + row * FRAMES
        write = target + row * pitch
        for part in range(0, vectors * WIDTH, WIDTH):
            gates = sigmoid(load(source, read + rows * FRAMES + part))
            store(out, write + part, multiply(load(source, read + part), gates))
        for frame in range(frames, vectors * WIDTH):
            out[write + frame] = F(0.0)


@njit(nogil=True, cache=True)
def depthwise(source, start, pitch, weight, taps, bias, out, target, vectors):
    """Each channel's own convolution over time, to a tile.

    Args:
        source: flat; what the first tap of channel c's first frame multiplies is at ``start + c·pitch``.
        start: see above.
        pitch: see above.
        weight: [channels, taps], flat.
        taps: see above.
        bias: [channels].
        out: [channels, FRAMES], from ``target`` on.
        target: see above.
        vectors: vectors of frames.
    """
    for channel in range(bias.size):
        read = start + channel * pitch
        write = target + channel * FRAMES
        first = channel * taps
        offset = splat(bias[channel])
        for part in range(0, vectors * WIDTH, WIDTH):
            total = splat(F(0.0))
            for tap in range(taps):
                total = fma(splat(weight[first + tap]), load(source, read + part + tap), total)
            store(out, write + part, add(total, offset))
