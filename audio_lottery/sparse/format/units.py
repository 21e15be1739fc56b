"""Units that a structured mask keeps or prunes whole: 1×4, 16×1, rows, channels ... of the matrix [out, in·k].

A tensor [out, in, k, …] is read as the matrix of its first axis by all others flattened, as in `pruning.patterns`.
Coding the positions of units and not of weights costs nothing in exactness: a unit is kept when any of its weights is
not zero, and zeros inside are stored as values.
"""

from collections.abc import Sequence

import numpy as np

from audio_lottery.sparse.format.positions import entropy_bits

Unit = tuple[int, int]
SINGLE: Unit = (1, 1)
_BLOCKS: tuple[Unit, ...] = ((1, 4), (4, 1), (1, 16), (16, 1), (16, 2), (4, 4), (8, 8), (16, 16))


def matrix_shape(shape: Sequence[int]) -> tuple[int, int]:
    """(rows, columns) of a tensor of ``shape``, which is not empty; a vector is one row."""
    rows = shape[0] if len(shape) > 1 else 1
    return rows, int(np.prod(shape, dtype=np.int64)) // rows


def candidates(shape: Sequence[int]) -> list[Unit]:
    """The units that divide a tensor of ``shape``: blocks, kernels of a convolution, rows and columns."""
    rows, columns = matrix_shape(shape)
    taps = int(np.prod(shape[2:], dtype=np.int64)) if len(shape) > 2 else 1
    found = [unit for unit in (*_BLOCKS, (1, taps), (rows, taps), (1, columns)) if unit != SINGLE]
    return [unit for unit in dict.fromkeys(found) if rows % unit[0] == 0 and columns % unit[1] == 0]


def grid(keep: np.ndarray, unit: Unit) -> np.ndarray:
    """Which units hold a kept weight.

    Args:
        keep: bool [rows, columns].
        unit: (height, width), dividing it.

    Returns:
        bool [rows / height, columns / width].
    """
    height, width = unit
    rows, columns = keep.shape
    if height > 1:
        keep = np.bitwise_or.reduce(keep.reshape(rows // height, height, columns), axis=1)
    if width in (2, 4, 8):  # a word of bools at once
        return np.not_equal(np.ascontiguousarray(keep).view(f"u{width}"), 0)
    if width > 1:
        keep = np.bitwise_or.reduce(keep.reshape(len(keep), columns // width, width), axis=2)
    return keep


def choose(keep: np.ndarray, shape: Sequence[int], value_bits: int) -> tuple[Unit, np.ndarray]:
    """The unit with the fewest bits for positions (at their entropy) and values.

    Args:
        keep: bool [rows, columns].
        shape: the tensor's own shape.
        value_bits: bits of one stored value.

    Returns:
        The unit and its grid, bool [rows / height, columns / width].
    """
    kept = int(np.count_nonzero(keep))
    best, best_grid = SINGLE, keep
    fewest = entropy_bits(keep.size, kept) + kept * value_bits
    for unit in candidates(shape):
        size = unit[0] * unit[1]
        # A unit that is bound to store more zeros than positions can save is not worth the look; one strip tells.
        strip = keep[: max(unit[0], 64 // unit[0] * unit[0])]
        if size * np.count_nonzero(grid(strip, unit)) * value_bits > np.count_nonzero(strip) * (value_bits + 16) + 4096:
            continue
        units = grid(keep, unit)
        held = int(np.count_nonzero(units))
        bits = entropy_bits(units.size, held) + held * size * value_bits
        if bits < fewest:
            best, best_grid, fewest = unit, units, bits
    return best, best_grid


def members(kept: np.ndarray, unit: Unit, columns: int) -> np.ndarray:
    """Flat positions in the matrix of the weights of units, unit by unit, row by row inside each.

    Args:
        kept: int64 [units], positions in the flattened grid.
        unit: (height, width).
        columns: of the matrix.
    """
    if unit == SINGLE:
        return kept
    height, width = unit
    across = columns // width
    corners = kept // across * (height * columns) + kept % across * width
    inside = (np.arange(height)[:, None] * columns + np.arange(width)).reshape(-1)
    return (corners[:, None] + inside).reshape(-1)
