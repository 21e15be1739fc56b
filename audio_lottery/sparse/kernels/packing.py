"""Between torch's layouts and tiles.

A tile holds up to `FRAMES` frames of all features, frames contiguous: [features, FRAMES]. Linear layers of torch hold
features contiguous: [frames, features]; convolutions hold [channels, frames], of which a tile is a strided copy: a
convolution of stride s reads every s-th frame, so its tile is [channels, s phases, frames + halo], and every (channel,
tap) is one contiguous row of it.
"""

from numba import njit

from audio_lottery.sparse.kernels.rows import FRAMES
from audio_lottery.sparse.kernels.vector import WIDTH, even_lanes, load, odd_lanes, store, transpose


@njit(nogil=True, cache=True)
def pack(source, first, frames, stride, begin, end, tile, target):
    """Columns ``begin`` to ``end`` of ``frames`` rows of [frames, stride] to a tile; zeros up to a whole vector.

    Args:
        source: flat.
        first: first row.
        frames: rows, at most `FRAMES`.
        stride: elements of a row.
        begin: first column.
        end: one past the last.
        tile: flat, from ``target`` on.
        target: see above.
    """
    whole = frames - frames % WIDTH
    wide = begin + (end - begin) // WIDTH * WIDTH
    for frame in range(0, whole, WIDTH):
        for feature in range(begin, wide, WIDTH):
            where = target + (feature - begin) * FRAMES + frame
            transpose(source, (first + frame) * stride + feature, stride, tile, where, FRAMES)
        for feature in range(wide, end):
            for lane in range(frame, frame + WIDTH):
                tile[target + (feature - begin) * FRAMES + lane] = source[(first + lane) * stride + feature]
    if whole < frames:
        for feature in range(begin, end):
            row = target + (feature - begin) * FRAMES
            for frame in range(whole, frames):
                tile[row + frame] = source[(first + frame) * stride + feature]
            for frame in range(frames, whole + WIDTH):
                tile[row + frame] = 0.0


@njit(nogil=True, cache=True)
def unpack(tile, origin, features, frames, out, first, stride, column):
    """A tile's ``features`` rows from ``origin`` on to rows ``first`` … of [frames, stride], from ``column`` on."""
    whole = frames - frames % WIDTH
    wide = features - features % WIDTH
    for frame in range(0, whole, WIDTH):
        for feature in range(0, wide, WIDTH):
            transpose(
                tile,
                origin + feature * FRAMES + frame,
                FRAMES,
                out,
                (first + frame) * stride + column + feature,
                stride,
            )
        for feature in range(wide, features):
            for lane in range(frame, frame + WIDTH):
                out[(first + lane) * stride + column + feature] = tile[origin + feature * FRAMES + lane]
    for frame in range(whole, frames):
        for feature in range(features):
            out[(first + frame) * stride + column + feature] = tile[origin + feature * FRAMES + frame]


@njit(nogil=True, cache=True)
def pack_phases(source, origin, channels, pitch, length, begin, stride, count, tile, row):
    """Frames ``begin``, ``begin + 1`` … of [channels, length] to a tile [channels, stride phases, row].

    Element j of phase p is frame ``begin + j·stride + p``, zero outside the signal.

    Args:
        source: flat; channel c begins at ``origin + c·pitch``.
        origin: see above.
        channels: see above.
        pitch: see above.
        length: frames of the signal.
        begin: first frame, negative within the padding.
        stride: of the convolution.
        count: elements of each phase that are needed.
        tile: flat.
        row: elements between the rows of the tile, at least ``count`` rounded up to whole vectors.
    """
    # vectors that lie inside the signal; what is left is copied one by one
    inside = 0
    if begin >= 0 and stride <= 2:
        inside = max(min(count, (length - begin) // stride), 0) // WIDTH * WIDTH
    for channel in range(channels):
        start = origin + channel * pitch + begin
        target = channel * stride * row
        if stride == 1:
            for position in range(0, inside, WIDTH):
                store(tile, target + position, load(source, start + position))
        elif stride == 2:
            for position in range(0, inside, WIDTH):
                a = load(source, start + 2 * position)
                b = load(source, start + 2 * position + WIDTH)
                store(tile, target + position, even_lanes(a, b))
                store(tile, target + row + position, odd_lanes(a, b))
        for phase in range(stride):
            for position in range(inside, count):
                frame = begin + position * stride + phase
                value = source[origin + channel * pitch + frame] if 0 <= frame < length else 0.0
                tile[target + phase * row + position] = value


@njit(nogil=True, cache=True)
def copy_rows(tile, origin, row, rows, frames, out, target, stride):
    """``frames`` frames of a tile's rows, ``row`` apart, to rows ``stride`` apart."""
    whole = frames - frames % WIDTH
    for number in range(rows):
        read = origin + number * row
        write = target + number * stride
        for frame in range(0, whole, WIDTH):
            store(out, write + frame, load(tile, read + frame))
        for frame in range(whole, frames):
            out[write + frame] = tile[read + frame]
