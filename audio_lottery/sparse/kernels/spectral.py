"""Products of spectra: matrices of complex numbers, one for each frequency; frequencies lie in the lanes.

A real signal's spectrum is real at its first and its last frequency: the last one takes the place of the first one's
imaginary part, so that spectra of 2·n samples have n lanes. In lane 0 two real products are then wanted instead of a
complex one; zeros in that lane of copies of the input make them of it.
"""

from llvmlite import ir
from numba import njit, types
from numba.core.extending import intrinsic

from audio_lottery.sparse.kernels.elementwise import activate
from audio_lottery.sparse.kernels.vector import (
    INT,
    LANES,
    LONG,
    WIDTH,
    data_pointer,
    emit_loop,
    even_lanes,
    fma_lanes,
    load,
    load_lanes,
    odd_lanes,
    store,
    store_lanes,
)

# Blocks of a signal that a weight is multiplied with at a time.
BLOCKS = 4
# Vectors of the input for each of them: real parts; imaginary parts; real parts with the last frequency in lane 0.
_PARTS = 3
# Floats of scratch for each input channel.
SCRATCH = BLOCKS * _PARTS * WIDTH
_WHOLE = ir.VectorType(INT, WIDTH)


def _row(blocks, pairs):
    """An intrinsic: one output channel, `WIDTH` frequencies, so many blocks; ``pairs``: weights in bfloat16."""

    @intrinsic
    def row(typing, weights, place, x, channels, out, target, step):
        def generate(context, builder, signature, arguments):
            weights, x, out = (data_pointer(context, builder, signature.args[i], arguments[i]) for i in (0, 2, 4))
            place, channels, target, step = (arguments[i] for i in (1, 3, 5, 6))

            def weight(channel):
                if not pairs:
                    where = builder.add(place, builder.mul(channel, LONG(2 * WIDTH)))
                    return [load_lanes(builder, weights, builder.add(where, LONG(n * WIDTH))) for n in range(2)]
                both = load_lanes(builder, weights, builder.add(place, builder.mul(channel, LONG(WIDTH))), _WHOLE)
                low = builder.shl(both, ir.Constant(_WHOLE, [16] * WIDTH))
                high = builder.and_(both, ir.Constant(_WHOLE, [-65536] * WIDTH))
                return builder.bitcast(low, LANES), builder.bitcast(high, LANES)

            def add(channel, sums):
                real, imaginary = weight(channel)
                less = builder.fneg(imaginary)
                begin = builder.mul(channel, LONG(SCRATCH))
                following = []
                for block in range(blocks):
                    a, b, c = (
                        load_lanes(builder, x, builder.add(begin, LONG((block * _PARTS + n) * WIDTH)))
                        for n in range(_PARTS)
                    )
                    following.append(fma_lanes(builder, less, b, fma_lanes(builder, real, a, sums[2 * block])))
                    following.append(fma_lanes(builder, imaginary, c, fma_lanes(builder, real, b, sums[2 * block + 1])))
                return following

            zeros = [ir.Constant(LANES, [0.0] * WIDTH)] * (2 * blocks)
            sums = emit_loop(builder, LONG(0), channels, zeros, add)
            for block in range(blocks):
                where = builder.add(target, builder.mul(step, LONG(block)))
                for half in range(2):
                    begin = half * WIDTH // 2
                    turns = [n + part for n in range(begin, begin + WIDTH // 2) for part in (0, WIDTH)]
                    both = builder.shuffle_vector(*sums[2 * block : 2 * block + 2], ir.Constant(_WHOLE, turns))
                    store_lanes(builder, both, out, builder.add(where, LONG(half * WIDTH)))
            return context.get_dummy_value()

        integer = types.int64
        return types.void(weights, integer, x, integer, out, integer, integer), generate

    return row


_whole1, _whole2, _whole3, _whole4 = (_row(blocks, False) for blocks in range(1, BLOCKS + 1))
_pairs1, _pairs2, _pairs3, _pairs4 = (_row(blocks, True) for blocks in range(1, BLOCKS + 1))


@njit(nogil=True, cache=True)
def _read(spectrum, origin, step, channels, pitch, blocks, first, x):
    """Spectra as torch writes them, interleaved, to what `_row` reads; ``first``: it begins at the first frequency."""
    for channel in range(channels):
        for block in range(blocks):
            read = origin + channel * pitch + block * step
            write = channel * SCRATCH + block * _PARTS * WIDTH
            a = load(spectrum, read)
            b = load(spectrum, read + WIDTH)
            real = even_lanes(a, b)
            store(x, write, real)
            store(x, write + WIDTH, odd_lanes(a, b))
            store(x, write + 2 * WIDTH, real)
            if first:
                x[write + WIDTH] = 0.0
                x[write + 2 * WIDTH] = spectrum[read + step - 2]


@njit(nogil=True, cache=True)
def multiply_spectra(weights, place, pairs, rows, channels, spectrum, origin, step, blocks, first, out, target, x):
    """`WIDTH` frequencies of one group: out[row, block] = Σ weights[row, channel] · spectrum[channel, block].

    Args:
        weights: [rows, channels, 2, WIDTH] float32, real and imaginary parts, from ``place`` on; or [rows, channels,
            WIDTH] int32 with the real part in bfloat16 in the low half, the imaginary part in the high one.
        place: see above.
        pairs: which of them.
        rows: output channels.
        channels: input channels.
        spectrum: [channels, blocks, step] float32, real and imaginary parts in turns, from ``origin`` on (which is
            within a block: the first of the frequencies).
        origin: see above.
        step: numbers of one spectrum: two more than its samples.
        blocks: spectra of each channel.
        first: whether these are the first frequencies.
        out: [rows, blocks, step], as ``spectrum``, from ``target`` on.
        target: see above.
        x: `SCRATCH` · channels floats of this thread's own.
    """
    pitch = blocks * step
    size = WIDTH * channels if pairs else 2 * WIDTH * channels
    for block in range(0, blocks, BLOCKS):
        count = min(BLOCKS, blocks - block)
        _read(spectrum, origin + block * step, step, channels, pitch, count, first, x)
        for row in range(rows):
            where = place + row * size
            write = target + row * pitch + block * step
            if pairs:
                if count == 4:
                    _pairs4(weights, where, x, channels, out, write, step)
                elif count == 3:
                    _pairs3(weights, where, x, channels, out, write, step)
                elif count == 2:
                    _pairs2(weights, where, x, channels, out, write, step)
                else:
                    _pairs1(weights, where, x, channels, out, write, step)
            elif count == 4:
                _whole4(weights, where, x, channels, out, write, step)
            elif count == 3:
                _whole3(weights, where, x, channels, out, write, step)
            elif count == 2:
                _whole2(weights, where, x, channels, out, write, step)
            else:
                _whole1(weights, where, x, channels, out, write, step)
            if first:
                for number in range(count):
                    begin = write + number * step
                    out[begin + step - 2] = out[begin + 1]
                    out[begin + step - 1] = 0.0
                    out[begin + 1] = 0.0


@njit(nogil=True, cache=True)
def multiply_group(weights, place, pairs, channels, vectors, spectrum, step, blocks, out, x):
    """`multiply_spectra` for all frequencies of a group with as many channels out as in.

    Args:
        weights: as there, [vectors, …] from ``place`` on.
        place: see above.
        pairs: as there.
        channels: of the group.
        vectors: of frequencies.
        spectrum: [channels, blocks, step], flat.
        step: see above.
        blocks: see above.
        out: as ``spectrum``.
        x: as there.
    """
    size = channels * channels * WIDTH * (1 if pairs else 2)
    for vector in range(vectors):
        first = 2 * WIDTH * vector
        multiply_spectra(
            weights, place + vector * size, pairs, channels, channels, spectrum, first, step, blocks, vector == 0, out,
            first, x,
        )  # fmt: skip


@njit(nogil=True, cache=True)
def cut_windows(source, pitch, column, channels, length, padding, blocks, step, size, out):
    """Some columns of [frames, pitch] in windows, [channels, blocks, size]: the next begins ``step`` frames later.

    The first begins ``padding`` frames before the signal, which is zero there and from frame ``length`` on.
    """
    for block in range(blocks):
        begin = block * step - padding
        for number in range(size):
            frame = begin + number
            read = frame * pitch + column
            write = block * size + number
            if 0 <= frame < length:
                for channel in range(channels):
                    out[channel * blocks * size + write] = source[read + channel]
            else:
                for channel in range(channels):
                    out[channel * blocks * size + write] = 0.0


@njit(nogil=True, cache=True)
def add_to_signal(
    found, blocks, step, size, bias, reach, activation, source, pitch, column, frames, length, out, target, row
):
    """source + activation(found + bias), in rows of frames.

    Args:
        found: [channels, blocks, size], of which the first ``step`` of a block count, and those from ``reach`` on are
            zero.
        blocks: see above.
        step: see above.
        size: see above.
        bias: [channels].
        reach: see above.
        activation: see `elementwise.activate`.
        source: [frames, pitch] float32, the columns from ``column`` on; zero from frame ``length`` on.
        pitch: see above.
        column: see above.
        frames: see above.
        length: see above.
        out: [channels, row] from ``target`` on; what is behind the frames is without meaning.
        target: see above.
        row: ``frames`` in whole vectors, or more.
    """
    vectors = (frames + WIDTH - 1) // WIDTH
    for channel in range(bias.size):
        write = target + channel * row
        read = channel * blocks * size
        for frame in range(vectors * WIDTH):
            out[write + frame] = bias[channel]
        for block in range(blocks):
            begin = block * step
            for frame in range(begin, min(begin + step, frames, reach)):
                out[write + frame] += found[read + block * size + frame - begin]
        activate(activation, out, write, 1, row, vectors)
        for frame in range(length):
            out[write + frame] += source[frame * pitch + column + channel]
