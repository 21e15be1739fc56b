"""What lies between the attentions of a decoder's layer, for a few frames: `narrow`'s products, norms, residuals."""

from numba import njit

from audio_lottery.sparse.kernels.elementwise import activate, layer_norm
from audio_lottery.sparse.kernels.narrow import narrow_product, norm_row, pack_narrow, single_product, unpack_narrow
from audio_lottery.sparse.kernels.vector import WIDTH


@njit(nogil=True, cache=True)
def project(states, first, frames, size, norm, matrix, scratch, out):
    """Rows of [rows, size] through a layer norm and a product, to rows of the product's own length.

    Args:
        states: flat.
        first: which rows: ``frames`` from here on.
        frames: at most ``WIDTH``.
        size: see above.
        norm: weight, bias, epsilon.
        matrix: see `narrow_product`.
        scratch: (size + rows of the matrix) · ``WIDTH`` floats.
        out: flat.
    """
    rows = matrix[4].size
    tile, result = scratch[: size * WIDTH], scratch[size * WIDTH :]
    if frames == 1:
        norm_row(states, first * size, size, norm, tile)
        single_product(matrix, tile, out[first * rows :], False)
        return
    pack_narrow(states, first * size, size, frames, size, tile)
    layer_norm(tile, 0, tile, 0, size, WIDTH, norm[0], norm[1], norm[2], 1)
    narrow_product(matrix, tile, result, False)
    unpack_narrow(result, 0, rows, frames, out, first * rows, rows)


@njit(nogil=True, cache=True)
def _output(context, states, first, frames, size, matrix, scratch):
    """states += the output projection of attention's ``context``; arguments as in `project`."""
    if frames == 1:
        single_product(matrix, context[first * size :], states[first * size :], True)
        return
    tile, sums = scratch[: size * WIDTH], scratch[size * WIDTH :]
    pack_narrow(states, first * size, size, frames, size, sums)
    pack_narrow(context, first * size, size, frames, size, tile)
    narrow_product(matrix, tile, sums, True)
    unpack_narrow(sums, 0, size, frames, states, first * size, size)


@njit(nogil=True, cache=True)
def output_project(context, states, first, frames, size, outer, norm, matrix, scratch, out):
    """states += the output projection ``outer`` of attention's ``context``; then `project`."""
    _output(context, states, first, frames, size, outer, scratch)
    project(states, first, frames, size, norm, matrix, scratch, out)


@njit(nogil=True, cache=True)
def output_feed_forward(context, states, first, frames, size, outer, norm, inner, last, activation, scratch):
    """states += the output projection ``outer`` of ``context``, and += the feed-forward layer of their norm.

    Args:
        context: flat; rows of ``size``, like ``states``.
        states: flat.
        first: which rows: ``frames`` from here on.
        frames: at most ``WIDTH``.
        size: see above.
        outer: see `narrow_product`.
        norm: weight, bias, epsilon.
        inner: the first matrix of the feed-forward layer.
        last: its second.
        activation: see `elementwise.ACTIVATIONS`.
        scratch: (2 · size + rows of inner) · ``WIDTH`` floats.
    """
    _output(context, states, first, frames, size, outer, scratch)
    _feed_forward(states, first, frames, size, norm, inner, last, activation, scratch)


@njit(nogil=True, cache=True)
def _feed_forward(states, first, frames, size, norm, inner, outer, activation, scratch):
    """states += the feed-forward layer of their norm; ``scratch`` has (2 · size + rows of inner) · ``WIDTH``."""
    width = size * WIDTH
    rows = inner[4].size
    if frames == 1:
        norm_row(states, first * size, size, norm, scratch)
        hidden = scratch[width:]
        single_product(inner, scratch, hidden, False)
        activate(activation, hidden, 0, 1, 0, (rows + WIDTH - 1) // WIDTH)
        single_product(outer, hidden, states[first * size :], True)
        return
    sums, tile, hidden = scratch[:width], scratch[width : 2 * width], scratch[2 * width :]
    pack_narrow(states, first * size, size, frames, size, sums)
    layer_norm(sums, 0, tile, 0, size, WIDTH, norm[0], norm[1], norm[2], 1)
    narrow_product(inner, tile, hidden, False)
    activate(activation, hidden, 0, rows, WIDTH, 1)
    narrow_product(outer, hidden, sums, True)
    unpack_narrow(sums, 0, size, frames, states, first * size, size)
