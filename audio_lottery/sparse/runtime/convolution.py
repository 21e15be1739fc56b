"""`nn.Conv1d` with a sparse weight, alone or as a layer of a front end (normalisation and activation fused)."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from audio_lottery.errors import ModelError
from audio_lottery.sparse.kernels.convolve import LAYER_KERNELS, convolve_bytes, convolve_floats
from audio_lottery.sparse.kernels.elementwise import activate, layer_norm
from audio_lottery.sparse.kernels.packing import copy_rows, pack_phases
from audio_lottery.sparse.kernels.rows import FRAMES
from audio_lottery.sparse.kernels.vector import WIDTH
from audio_lottery.sparse.runtime.matrix import KERNELS, Places, SparseMatrix, compile_matrix
from audio_lottery.sparse.runtime.modules import (
    TRIAL_FRAMES,
    Packable,
    activation_code,
    bias_of,
    changed,
    input_array,
    no_kernel,
    to_numpy,
)
from audio_lottery.sparse.runtime.quantised import QuantisedMatrix
from audio_lottery.sparse.runtime.threads import each, tile_widths, whole, workspace

_ROWS = 128


class SparseConv1d(Packable):
    """[batch, channels, frames] → [batch, channels, frames].

    A convolution is a product with a taller tile: the input is split into ``stride`` phases, so that what one tap of
    one channel sees for consecutive outputs is one contiguous row at a fixed place of the tile.

    Args:
        convolution: the layer; it is not changed. Any stride, dilation and groups; zero padding.
        precision: see `accelerate.accelerate`.
        kernels: which kernels may be used, see `matrix.compile_matrix`; by default those of the precision.
        norm: layer normalisation over channels after the convolution.
        activation: after that; see `kernels.elementwise.ACTIVATIONS`.

    Raises:
        ModelError: padding that is not zeros.
    """

    kind = "convolution"

    def __init__(
        self,
        convolution: nn.Conv1d,
        precision: str = "float32",
        kernels: Sequence[str] | None = None,
        norm: nn.LayerNorm | None = None,
        activation: str = "none",
    ) -> None:
        super().__init__()
        if convolution.padding_mode != "zeros":
            raise ModelError(f"a convolution with padding mode '{convolution.padding_mode}' cannot be accelerated")
        (self.taps,), (self.stride,), (self.dilation,) = (
            convolution.kernel_size,
            convolution.stride,
            convolution.dilation,
        )
        self.padding = _padding(convolution)
        self.in_channels, self.out_channels = convolution.in_channels, convolution.out_channels
        self.groups = convolution.groups
        reach = (self.taps - 1) * self.dilation
        self.count = FRAMES + reach // self.stride
        self.row = -(-self.count // WIDTH) * WIDTH
        weight = to_numpy(convolution.weight)
        # a convolution's tile has no pairs of rows
        allowed = [kernel for kernel in kernels or KERNELS[precision] if kernel != "block16x2_bf16"]
        self.matrix = self._compile(weight, bias_of(convolution), allowed)
        self.kernel = self.matrix.kernel
        self.kept, self.weights = int(np.count_nonzero(weight)), weight.size
        self.macs_per_frame = weight.size
        self.norm = None if norm is None else (to_numpy(norm.weight), to_numpy(norm.bias), float(norm.eps))
        self.activation = activation_code(activation, precision)

    @classmethod
    def claims(cls, module: nn.Module) -> bool:
        """See `Runner`; a subclass may do more than its base."""
        return type(module) is nn.Conv1d

    @classmethod
    def misfit(cls, module: nn.Conv1d) -> str:
        """See `Runner`."""
        return no_kernel(module) if module.padding_mode != "zeros" else changed(module)

    @classmethod
    def trial_input(cls, module: nn.Conv1d) -> Tensor:
        """See `Runner`."""
        reach = (module.kernel_size[0] - 1) * module.dilation[0]
        return torch.randn(1, module.in_channels, TRIAL_FRAMES * module.stride[0] + reach)

    def _compile(self, weight: np.ndarray, bias: np.ndarray | None, kernels: Sequence[str]) -> SparseMatrix:
        shift = np.arange(self.taps) * self.dilation
        rows = (np.arange(self.in_channels)[:, None] * self.stride + shift % self.stride).reshape(-1)
        places = Places(rows, np.tile(shift // self.stride, self.in_channels), self.row)
        full = np.zeros((self.out_channels, self.in_channels * self.taps), np.float32)
        self._groups(full)[:] = weight.reshape(self.groups, -1, full.shape[1] // self.groups)
        return compile_matrix(full, places, bias, kernels)

    def _groups(self, full: np.ndarray) -> np.ndarray:
        """A view of the parts of [out_channels, in_channels · taps] in which groups have weights: [groups, …, …]."""
        parts = full.reshape(self.groups, len(full) // self.groups, self.groups, -1)
        return np.einsum("gogi->goi", parts)

    def unpack(self) -> dict[str, np.ndarray]:
        """See `Packable`."""
        parts = self._groups(self.matrix.dense())
        return {"weight": np.ascontiguousarray(parts).reshape(self.out_channels, -1, self.taps)}

    def frames(self, length: int) -> int:
        """Output frames of ``length`` input frames."""
        reach = (self.taps - 1) * self.dilation + 1
        return (length + sum(self.padding) - reach) // self.stride + 1

    def forward(self, x: Tensor) -> Tensor:
        """Apply the layer.

        Args:
            x: [batch, channels, frames] or [channels, frames], float32.

        Returns:
            The same with other channels and frames.

        Raises:
            ModelError: another number of channels, too few frames, or another type; see `modules.input_array`.
        """
        if x.dim() not in (2, 3) or x.shape[-2] != self.in_channels:
            raise ModelError(f"a convolution of {self.in_channels} channels got {tuple(x.shape)}")
        frames = self.frames(x.shape[-1])
        if frames < 1:
            raise ModelError(f"{x.shape[-1]} frames are too few for a convolution of {self.taps} taps")
        out = torch.empty(*x.shape[:-2], self.out_channels, frames)
        if out.numel():
            self.run(input_array(x, "a sparse convolution"), x.shape[-1], out.numpy().reshape(-1), frames)
        return out

    def run(self, source: np.ndarray, length: int, target: np.ndarray, frames: int) -> None:
        """All tiles of a batch.

        Args:
            source: [batch, channels, length], flat.
            length: see above.
            target: [batch, channels, frames], flat.
            frames: see above.
        """
        widths = tile_widths(frames, FRAMES, 2 * WIDTH)
        batch = source.size // (self.in_channels * length)

        def work(number: int, scratch: np.ndarray) -> None:
            item, tile_number = divmod(number, len(widths))
            first = tile_number * widths[0]
            origin, begin = item * self.in_channels * length, first * self.stride - self.padding[0]

            def fill(needed: int, tile: np.ndarray) -> None:
                pack_phases(
                    source, origin, self.in_channels, length, length, begin, self.stride, needed, tile, self.row
                )

            self.tile(fill, target, item * self.out_channels * frames + first, frames, widths[tile_number], scratch)

        each(work, batch * len(widths), self.scratch, "convolutions")

    def stretch(
        self,
        first: tuple[Any, ...],
        source: tuple[Any, ...],
        sampled: bool,
        begin: int,
        end: int,
        samples: np.ndarray,
        out: np.ndarray,
        pitch: int,
    ) -> None:
        """Output frames ``begin`` to ``end``, without padding; see `kernels.convolve.convolve_floats`.

        Args:
            first: the layer before it, where ``source`` is the samples.
            source: see there.
            sampled: whether it is.
            begin: see above.
            end: see above.
            samples: space for a tile of them.
            out: channels ``pitch`` apart.
            pitch: see above.
        """
        matrix, features = self.matrix, self.in_channels * self.stride
        row, size, kind = matrix.operand_space(features)
        quads = matrix.most * FRAMES if isinstance(matrix, QuantisedMatrix) else 0
        spaces = (
            workspace("tile", features * self.row),
            workspace("pairs", size).view(kind),
            workspace("quads", quads).view(np.int32),
            samples,
        )
        layer = (
            LAYER_KERNELS[matrix.kernel], *matrix.arrays, self.in_channels, self.stride, self.count - FRAMES, self.row,
            row, self.activation, norm_arrays(self.norm),
        )  # fmt: skip
        matrix.count(0, matrix.rows, whole(end - begin, 2 * WIDTH) // WIDTH)
        run = convolve_bytes if isinstance(matrix, QuantisedMatrix) else convolve_floats
        run(layer, first, source, sampled, begin, end, spaces, out, 0, pitch)

    @property
    def scratch(self) -> int:
        """Float32 numbers of workspace that `tile` needs."""
        return self.in_channels * self.stride * self.row + self._rows * FRAMES

    @property
    def _rows(self) -> int:
        """Output rows that are computed before they are written out."""
        return self.out_channels if self.norm else min(_ROWS, self.out_channels)

    def tile(
        self,
        fill: Callable[[int, np.ndarray], None],
        out: np.ndarray,
        target: int,
        pitch: int,
        count: int,
        scratch: np.ndarray,
    ) -> None:
        """One tile of the output.

        Args:
            fill: ``fill(needed, tile)`` writes the input, see `packing.pack_phases`: that many elements of each phase.
            out: flat; channel c is written from ``target + c·pitch`` on.
            target: see above.
            pitch: see above.
            count: frames, at most `FRAMES`.
            scratch: `scratch` numbers of this thread's own.
        """
        vectors = whole(count, 2 * WIDTH) // WIDTH
        tile, result = scratch[: -self._rows * FRAMES], scratch[-self._rows * FRAMES :]
        rows = self._rows
        # a norm over the channels comes between the product and its activation
        activation = 0 if self.norm else self.activation
        fill(vectors * WIDTH + self.count - FRAMES, tile)
        operand = self.matrix.operand(tile, 0, self.in_channels * self.stride, vectors)
        for row in range(0, self.out_channels, rows):
            last = min(row + rows, self.out_channels)
            place = target + row * pitch
            self.matrix.multiply(operand, result, 0, rows=(row, last), vectors=vectors, activation=activation)
            if self.norm is not None:
                layer_norm(result, 0, result, 0, rows, FRAMES, *self.norm, vectors)
                activate(self.activation, result, 0, rows, FRAMES, vectors)
            copy_rows(result, 0, FRAMES, last - row, count, out, place, pitch)


def norm_arrays(norm: tuple[np.ndarray, np.ndarray, float] | None) -> tuple[np.ndarray, np.ndarray, float]:
    """A layer norm as `kernels.convolve` takes it: without weights where there is none."""
    return norm or (np.zeros(0, np.float32), np.zeros(0, np.float32), 0.0)


def _padding(convolution: nn.Conv1d) -> tuple[int, int]:
    """Zeros before and after the signal."""
    if convolution.padding == "valid":
        return 0, 0
    if convolution.padding == "same":
        total = (convolution.kernel_size[0] - 1) * convolution.dilation[0]
        return total // 2, total - total // 2
    padding = int(convolution.padding[0])
    return padding, padding
