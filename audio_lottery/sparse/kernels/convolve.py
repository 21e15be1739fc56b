"""Layers of convolutions, a stretch of frames at a time: tiles are filled, rounded, multiplied and normalised here.

There are hundreds of them in some milliseconds, and between two calls from Python one thread waits for the other.

Three tuples come with every call. *Layer*: kernel (`LAYER_KERNELS`), values, columns, unit, pointers, zeros, scales,
bias, input channels, stride, halo (frames of a phase beyond a tile's), row of the tile, row of the operand,
activation, norm (weight, bias and epsilon of a layer norm over channels; no weights: none). *First*: the layer that
makes this layer's input of samples, if one does: kernel (0 or 1), values, columns of every phase, pointers, bias,
samples from one frame to the next, phases, row of the samples' tile, its halo, activation, norm. *Spaces*: this
thread's tile, operand, interleaved rows and samples, none of them cleared.
"""

from numba import njit

from audio_lottery.sparse.kernels.elementwise import activate, layer_norm
from audio_lottery.sparse.kernels.half import csr_rows_half, frame_pairs
from audio_lottery.sparse.kernels.int8 import block_rows_int8, csr_rows_int8
from audio_lottery.sparse.kernels.packing import pack_phases
from audio_lottery.sparse.kernels.quantise import quantise_frames, quantise_tile
from audio_lottery.sparse.kernels.rows import FRAMES, VECTORS, block_rows, csr_rows
from audio_lottery.sparse.kernels.vector import WIDTH

# Each function below has those of its operands.
LAYER_KERNELS = {"csr": 0, "block16x1": 1, "csr_bf16": 2, "csr_int8": 0, "block16_int8": 1}


@njit(nogil=True, cache=True)
def _norm_and_activate(norm, activation, tile, place, rows, stride, vectors):
    weight, bias, epsilon = norm
    if weight.size:
        layer_norm(tile, place, tile, place, rows, stride, weight, bias, epsilon, vectors)
        activate(activation, tile, place, rows, stride, vectors)


@njit(nogil=True, cache=True)
def _from_samples(first, signal, begin, needed, tile, row, samples):
    """`pack_phases` of what the first layer makes of ``signal`` from its frame ``begin`` on."""
    kernel, values, columns, pointers, bias, hop, phases, wide, reach, activation, norm = first
    vectors = (needed + WIDTH - 1) // WIDTH
    count = vectors * WIDTH + reach
    pack_phases(signal, 0, 1, 0, signal.size, begin * hop, hop * phases, count, samples, wide)
    kept = columns.size // phases
    stride = phases * row
    # a norm over the channels comes between the product and its activation
    directly = 0 if norm[0].size else activation
    for phase in range(phases):
        ours = columns[phase * kept : (phase + 1) * kept]
        for part in range(0, vectors, VECTORS):
            now = min(VECTORS, vectors - part)
            place = phase * row + part * WIDTH
            read = samples[part * WIDTH :]
            if kernel == 0:
                csr_rows(
                    values, ours, 1, pointers, 0, bias.size, bias, read, tile, place, stride, tile, -1, 0, now, directly
                )
            else:
                block_rows(
                    values, ours, 1, pointers, 0, bias.size, bias, read, tile, place, stride, tile, -1, 0, now, directly
                )
        _norm_and_activate(norm, activation, tile, phase * row, bias.size, stride, vectors)


@njit(nogil=True, cache=True)
def _fill(layer_shape, first, source, sampled, begin, needed, tile, samples):
    """A tile of a layer, from its own output frame ``begin`` on.

    Args:
        layer_shape: channels, stride, row.
        first: see the module.
        source: (flat, channels ``pitch`` apart, pitch, frames, the layer's output frame that begins at its first one).
        sampled: whether that is not the layer's input but the samples, which are not [channels, frames].
        begin: see above.
        needed: elements of each phase.
        tile: is filled.
        samples: a space.
    """
    channels, stride, row = layer_shape
    array, pitch, frames, origin = source
    if sampled:
        _from_samples(first, array, begin * stride, needed, tile, row, samples)
    else:
        pack_phases(array, 0, channels, pitch, frames, begin * stride - origin, stride, needed, tile, row)


@njit(nogil=True, cache=True)
def convolve_floats(layer, first, source, sampled, begin, end, spaces, out, target, pitch):
    """Output frames ``begin`` to ``end`` of a layer; kernels "csr", "block16x1" and "csr_bf16".

    Args:
        layer: see the module.
        first: see the module.
        source: see `_fill`.
        sampled: see `_fill`.
        begin: see above.
        end: see above.
        spaces: see the module.
        out: channels ``pitch`` apart, from ``target`` on; written up to a whole number of two vectors.
        target: see above.
        pitch: see above.
    """
    kernel, values, columns, unit, pointers, _, _, bias, channels, stride, halo, row, x_row, activation, norm = layer
    tile, x, _, samples = spaces
    directly = 0 if norm[0].size else activation
    for start in range(begin, end, FRAMES):
        vectors = (min(FRAMES, end - start) + 2 * WIDTH - 1) // (2 * WIDTH) * 2
        _fill((channels, stride, row), first, source, sampled, start, vectors * WIDTH + halo, tile, samples)
        place = target + start - begin
        if kernel == 0:
            csr_rows(
                values, columns, unit, pointers, 0, bias.size, bias, tile, out, place, pitch, out, -1, 0, vectors,
                directly,
            )  # fmt: skip
        elif kernel == 1:
            block_rows(
                values, columns, unit, pointers, 0, bias.size, bias, tile, out, place, pitch, out, -1, 0, vectors,
                directly,
            )  # fmt: skip
        else:
            half = vectors // 2 * WIDTH
            count = min((half + halo + WIDTH - 1) // WIDTH * WIDTH, x_row)
            frame_pairs(tile, 0, channels * stride, row, half, count, x, 0, x_row)
            csr_rows_half(
                values, columns, unit, pointers, 0, bias.size, bias, x, out, place, pitch, out, -1, 0, vectors,
                directly,
            )  # fmt: skip
        _norm_and_activate(norm, activation, out, place, bias.size, pitch, vectors)


@njit(nogil=True, cache=True)
def convolve_bytes(layer, first, source, sampled, begin, end, spaces, out, target, pitch):
    """`convolve_floats` for the kernels "csr_int8" and "block16_int8"."""
    (
        kernel,
        values,
        columns,
        unit,
        pointers,
        zeros,
        scales,
        bias,
        channels,
        stride,
        halo,
        row,
        x_row,
        activation,
        norm,
    ) = layer
    tile, x, quads, samples = spaces
    directly = 0 if norm[0].size else activation
    for start in range(begin, end, FRAMES):
        vectors = (min(FRAMES, end - start) + 2 * WIDTH - 1) // (2 * WIDTH) * 2
        _fill((channels, stride, row), first, source, sampled, start, vectors * WIDTH + halo, tile, samples)
        place = target + start - begin
        if halo:
            quantise_tile(tile, 0, channels * stride, row, vectors * WIDTH + halo, x, x_row)
        else:  # no product mixes frames
            quantise_frames(tile, 0, channels * stride, row, vectors, x, x_row)
        if kernel == 0:
            csr_rows_int8(
                values, columns, unit, pointers, zeros, scales, 0, bias.size, bias, x, out, place, pitch, out, -1, 0,
                vectors, directly,
            )  # fmt: skip
        else:
            block_rows_int8(
                values, columns, unit, pointers, zeros, scales, 0, bias.size, bias, x, out, place, pitch, out, -1, 0,
                vectors, directly, quads,
            )  # fmt: skip
        _norm_and_activate(norm, activation, out, place, bias.size, pitch, vectors)
