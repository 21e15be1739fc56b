"""What attention with relative positions looks up: the keys of all distances, of all layers of an encoder."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from audio_lottery.sparse.kernels.half import row_pairs
from audio_lottery.sparse.kernels.rows import FRAMES, VECTORS
from audio_lottery.sparse.kernels.vector import WIDTH
from audio_lottery.sparse.runtime.matrix import SparseMatrix
from audio_lottery.sparse.runtime.threads import aligned, each, whole

# Utterances of up to this many frames find their tables where an earlier one left them (40 s at 12.5 frames a second).
_KEPT = 4 * FRAMES


@dataclass(frozen=True)
class Table:
    """Keys of the distances -pitch/2 … pitch/2 - 1.

    Attributes:
        pitch: distances, and elements of a row.
        owner: makes the tables.
        layers: [rows, pitch] of each layer, flat; None where they are made when they are asked for.
    """

    pitch: int
    owner: "Distances"
    layers: list[np.ndarray] | None

    def of_layer(self, index: int) -> np.ndarray:
        """A layer's."""
        if self.layers is not None:
            return self.layers[index]
        return self.owner.make(self.pitch, [index])[0]


class Distances:
    """Sinusoids of distances (Vaswani et al. 2017), projected by a matrix of each layer.

    They do not depend on what is said, so they are made once, for the longest utterance so far.

    Args:
        frequencies: [features / 2], radians a frame.
        matrices: [rows, features] of each layer.
        half: whether rows come in pairs of bfloat16, see `kernels.half`.
    """

    def __init__(self, frequencies: Tensor, matrices: Sequence[SparseMatrix], half: bool) -> None:
        self._frequencies = frequencies.detach().float().cpu()
        self._matrices = list(matrices)
        self._half = half
        self._table = Table(0, self, [])

    def table(self, frames: int) -> Table:
        """For an utterance of this many frames."""
        table = self._table
        pitch = 2 * whole(frames, FRAMES)
        if pitch <= table.pitch:
            return table
        if frames > _KEPT:
            return Table(pitch, self, None)
        # another thread may make the same: one of the two stays
        table = self._table = Table(pitch, self, self.make(pitch, range(len(self._matrices))))
        return table

    def make(self, pitch: int, layers: Sequence[int]) -> list[np.ndarray]:
        """The tables of some layers, ``pitch`` distances long."""
        waves = self._waves(pitch)
        features = waves.shape[1]
        tables = [aligned(self._matrices[layer].rows * pitch) for layer in layers]
        tiles = pitch // FRAMES

        def work(number: int, scratch: np.ndarray) -> None:
            index, tile = divmod(number, tiles)
            matrix = self._matrices[layers[index]]
            operand = matrix.operand(waves[tile].reshape(-1), 0, features, VECTORS)
            matrix.multiply(operand, tables[index], tile * FRAMES, pitch)

        each(work, len(layers) * tiles, 0, "distances")
        return [_halved(table, pitch) for table in tables] if self._half else tables

    def _waves(self, pitch: int) -> np.ndarray:
        """[tiles, features, FRAMES]."""
        places = torch.arange(-pitch // 2, pitch // 2)
        angles = places[:, None].float() * self._frequencies
        waves = torch.stack([angles.sin(), angles.cos()], -1).flatten(1)
        return waves.view(-1, FRAMES, waves.shape[1]).transpose(1, 2).contiguous().numpy()


def _halved(table: np.ndarray, pitch: int) -> np.ndarray:
    pairs = aligned(table.size // 2).view(np.int32)
    row_pairs(table, 0, table.size // pitch, pitch, pitch // WIDTH, pairs, 0)
    return pairs
