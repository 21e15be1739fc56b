"""`nn.Linear` with a sparse weight."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from audio_lottery.sparse.kernels.elementwise import activate
from audio_lottery.sparse.kernels.packing import pack, unpack
from audio_lottery.sparse.kernels.rows import FRAMES
from audio_lottery.sparse.kernels.single import block_frame, csr_frame
from audio_lottery.sparse.kernels.vector import WIDTH
from audio_lottery.sparse.runtime.matrix import KERNELS, split_columns
from audio_lottery.sparse.runtime.modules import (
    TRIAL_FRAMES,
    Packable,
    activation_code,
    bias_of,
    changed,
    features_array,
    to_numpy,
)
from audio_lottery.sparse.runtime.threads import each, part, tile_widths, whole, workspace

# Up to so many frames are faster one by one than in the lanes, most of which would hold none (measured, 1024 features).
_FEW = 3
_FRAME_KERNELS = {"csr": csr_frame, "csr_bf16": csr_frame, "block16x1": block_frame}
# Output rows that are computed before they are put in torch's layout, while they are in the cache.
_ROWS = 256


class SparseLinear(Packable):
    """[…, in] → […, out]: frames are packed into tiles, multiplied, and unpacked, tile by tile on every thread.

    Args:
        linear: the layer; it is not changed.
        precision: see `accelerate.accelerate`.
        kernels: which kernels may be used, see `matrix.compile_matrix`; by default those of the precision.
        activation: applied to the output; see `kernels.elementwise.ACTIVATIONS`.
    """

    kind = "linear"

    def __init__(
        self,
        linear: nn.Linear,
        precision: str = "float32",
        kernels: Sequence[str] | None = None,
        activation: str = "none",
    ) -> None:
        super().__init__()
        weight = to_numpy(linear.weight)
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self.pieces = split_columns(weight, bias_of(linear), kernels or KERNELS[precision])
        self.activation = activation_code(activation, precision)
        self.kernel = self.pieces[0][1].kernel
        self.kept, self.weights = int(np.count_nonzero(weight)), weight.size
        self.macs_per_frame = weight.size

    @classmethod
    def claims(cls, module: nn.Module) -> bool:
        """See `Runner`; a subclass may do more than its base."""
        return type(module) is nn.Linear

    @classmethod
    def misfit(cls, module: nn.Linear) -> str:
        """See `Runner`."""
        return changed(module)

    @classmethod
    def trial_input(cls, module: nn.Linear) -> Tensor:
        """See `Runner`."""
        return torch.randn(TRIAL_FRAMES, module.in_features)

    def forward(self, x: Tensor) -> Tensor:
        """Apply the layer.

        Args:
            x: […, in] float32.

        Returns:
            […, out].

        Raises:
            ModelError: another number of features, or type; see `modules.features_array`.
        """
        source = features_array(x, self.in_features, "a sparse linear layer")
        out = torch.empty(*x.shape[:-1], self.out_features)
        if out.numel():
            self._run(source, out.numpy().reshape(-1), source.size // self.in_features)
        return out

    def unpack(self) -> dict[str, np.ndarray]:
        """See `Packable`."""
        return {"weight": np.concatenate([matrix.dense() for _, matrix in self.pieces], 1)}

    def _step(self, source: np.ndarray, out: np.ndarray, frames: int) -> None:
        """`_run` frame by frame, in float32."""
        for frame in range(frames):
            target = frame * self.out_features
            for piece, matrix in self.pieces:
                _FRAME_KERNELS[matrix.kernel](
                    matrix.values, matrix.columns, matrix.pointers, matrix.bias, source,
                    frame * self.in_features + piece.start, out, target, piece.start > 0,
                )  # fmt: skip
        if self.activation:
            rows = workspace("few", self.out_features * FRAMES)
            pack(out, 0, frames, self.out_features, 0, self.out_features, rows, 0)
            activate(self.activation, rows, 0, self.out_features, FRAMES, 1)
            unpack(rows, 0, self.out_features, frames, out, 0, self.out_features, 0)

    def _run(self, source: np.ndarray, out: np.ndarray, frames: int) -> None:
        if frames <= _FEW and all(matrix.kernel in _FRAME_KERNELS for _, matrix in self.pieces):
            with part("linear layers"):
                self._step(source, out, frames)
            return
        widths = tile_widths(frames, FRAMES, 2 * WIDTH)
        single = len(self.pieces) == 1
        width = max(piece.stop - piece.start for piece, _ in self.pieces)
        tile_size = width * FRAMES
        rows = min(_ROWS, self.out_features) if single else self.out_features

        def work(number: int, scratch: np.ndarray) -> None:
            first, count = number * widths[0], widths[number]
            vectors = whole(count, 2 * WIDTH) // WIDTH
            tile, result = scratch[:tile_size], scratch[tile_size:]
            if single:
                pack(source, first, count, self.in_features, 0, self.in_features, tile, 0)
                matrix = self.pieces[0][1]
                operand = matrix.operand(tile, 0, self.in_features, vectors)
                for row in range(0, self.out_features, rows):
                    last = min(row + rows, self.out_features)
                    ours = row, last
                    matrix.multiply(operand, result, 0, rows=ours, vectors=vectors, activation=self.activation)
                    unpack(result, 0, last - row, count, out, first, self.out_features, row)
                return
            for piece, matrix in self.pieces:
                pack(source, first, count, self.in_features, piece.start, piece.stop, tile, 0)
                operand = matrix.operand(tile, 0, piece.stop - piece.start, vectors)
                matrix.multiply(operand, result, 0, start=(result, 0) if piece.start else None, vectors=vectors)
            activate(self.activation, result, 0, rows, FRAMES, vectors)
            unpack(result, 0, rows, count, out, first, self.out_features, 0)

        each(work, len(widths), tile_size + rows * FRAMES, "linear layers")
