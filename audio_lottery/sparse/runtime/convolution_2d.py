"""`nn.Conv2d` with a sparse weight."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from audio_lottery.errors import ModelError
from audio_lottery.sparse.kernels.packing import copy_rows, pack_phases
from audio_lottery.sparse.kernels.rows import FRAMES
from audio_lottery.sparse.kernels.vector import WIDTH
from audio_lottery.sparse.runtime.matrix import KERNELS, Places, compile_matrix
from audio_lottery.sparse.runtime.modules import (
    TRIAL_FRAMES,
    Packable,
    bias_of,
    changed,
    input_array,
    no_kernel,
    to_numpy,
)
from audio_lottery.sparse.runtime.threads import each, tile_widths, whole

# Rows of the trial's input: the bins of most spectrograms.
_TRIAL_ROWS = 80
_KERNELS = ("csr", "block16x1", "csr_bf16")


class SparseConv2d(Packable):
    """[batch, channels, rows, columns] → the same with other sizes; columns (time) lie in the lanes.

    The tile of some columns holds all rows of the input one below the other, [rows, channels, stride phases, columns],
    with zeros around it: what an output row reads then lies at the same places behind a beginning of its own.

    Args:
        convolution: the layer; it is not changed. Any stride and dilation, zero padding, one group.
        precision: see `accelerate.accelerate`.
        kernels: which kernels may be used, see `matrix.compile_matrix`; by default those of the precision.
    """

    kind = "convolution"

    def __init__(
        self, convolution: nn.Conv2d, precision: str = "float32", kernels: Sequence[str] | None = None
    ) -> None:
        super().__init__()
        self.taps, self.stride, self.dilation = convolution.kernel_size, convolution.stride, convolution.dilation
        self.padding = _padding(convolution)
        self.in_channels, self.out_channels = convolution.in_channels, convolution.out_channels
        self.halo = (self.taps[1] - 1) * self.dilation[1] // self.stride[1]
        self.row = whole(FRAMES + self.halo, WIDTH)
        weight = to_numpy(convolution.weight)
        # a tile has no pairs of rows, and every output row reads it from another place on
        allowed = [kernel for kernel in kernels or KERNELS[precision] if kernel in _KERNELS] or KERNELS["float32"]
        shift = np.arange(self.taps[1]) * self.dilation[1]
        lines = np.arange(self.in_channels)[:, None] + np.arange(self.taps[0]) * self.dilation[0] * self.in_channels
        rows = lines[:, :, None] * self.stride[1] + shift % self.stride[1]
        shifts = np.broadcast_to(shift // self.stride[1], rows.shape)
        places = Places(rows.reshape(-1), shifts.reshape(-1), self.row)
        self.matrix = compile_matrix(weight.reshape(self.out_channels, -1), places, bias_of(convolution), allowed)
        self.kernel = self.matrix.kernel
        self.kept, self.weights = int(np.count_nonzero(weight)), weight.size

    @classmethod
    def claims(cls, module: nn.Module) -> bool:
        """See `Runner`; a subclass may do more than its base."""
        return type(module) is nn.Conv2d

    @classmethod
    def misfit(cls, module: nn.Conv2d) -> str:
        """See `Runner`."""
        return no_kernel(module) if module.padding_mode != "zeros" or module.groups > 1 else changed(module)

    @classmethod
    def trial_input(cls, module: nn.Conv2d) -> Tensor:
        """See `Runner`."""
        reach = [(taps - 1) * step + 1 for taps, step in zip(module.kernel_size, module.dilation, strict=True)]
        rows, columns = max(_TRIAL_ROWS, reach[0]), TRIAL_FRAMES * module.stride[1] + reach[1]
        return torch.randn(1, module.in_channels, rows, columns)

    def unpack(self) -> dict[str, np.ndarray]:
        """See `Packable`."""
        return {"weight": self.matrix.dense().reshape(self.out_channels, self.in_channels, *self.taps)}

    def forward(self, x: Tensor) -> Tensor:
        """Apply the layer.

        Args:
            x: [batch, channels, rows, columns] or [channels, rows, columns], float32.

        Raises:
            ModelError: another number of channels, too few rows or columns, another type; see `modules.input_array`.
        """
        if x.dim() not in (3, 4) or x.shape[-3] != self.in_channels:
            raise ModelError(f"a convolution of {self.in_channels} channels got {tuple(x.shape)}")
        rows, columns = (self._length(x.shape[axis - 2], axis) for axis in (0, 1))
        if min(rows, columns) < 1:
            raise ModelError(f"{tuple(x.shape[-2:])} are too few for a convolution of {self.taps} taps")
        out = torch.empty(*x.shape[:-3], self.out_channels, rows, columns)
        if out.numel():
            source = input_array(x, "a sparse convolution")
            self._run(source, (x.shape[-2], x.shape[-1]), out.numpy().reshape(-1), (rows, columns))
        return out

    def _length(self, length: int, axis: int) -> int:
        reach = (self.taps[axis] - 1) * self.dilation[axis] + 1
        return (length + sum(self.padding[axis]) - reach) // self.stride[axis] + 1

    def _run(self, source: np.ndarray, shape: tuple[int, int], target: np.ndarray, made: tuple[int, int]) -> None:
        height, length = shape
        rows, columns = made
        widths = tile_widths(columns, FRAMES, 2 * WIDTH)
        batch = source.size // (self.in_channels * height * length)
        needed = (rows - 1) * self.stride[0] + (self.taps[0] - 1) * self.dilation[0] + 1
        line = self.in_channels * self.stride[1] * self.row

        def work(number: int, scratch: np.ndarray) -> None:
            item, tile_number = divmod(number, len(widths))
            first, count = tile_number * widths[0], widths[tile_number]
            vectors = whole(count, 2 * WIDTH) // WIDTH
            tile, result = scratch[: needed * line], scratch[needed * line :]
            begin = first * self.stride[1] - self.padding[1][0]
            for place in range(needed):
                row = place - self.padding[0][0]
                if not 0 <= row < height:
                    tile[place * line : (place + 1) * line] = 0
                    continue
                origin = (item * self.in_channels * height + row) * length
                pack_phases(
                    source, origin, self.in_channels, height * length, length, begin, self.stride[1],
                    vectors * WIDTH + self.halo, tile[place * line :], self.row,
                )  # fmt: skip
            operand = self.matrix.operand(tile, 0, needed * self.in_channels * self.stride[1], vectors)
            step = self.stride[0] * line
            if self.matrix.kernel == "csr_bf16":
                step = step // self.row * self.matrix.places.half_stride
            for row in range(rows):
                self.matrix.multiply(operand[row * step :], result, 0, vectors=vectors)
                where = (item * self.out_channels * rows + row) * columns + first
                copy_rows(result, 0, FRAMES, self.out_channels, count, target, where, rows * columns)

        each(work, batch * len(widths), needed * line + self.out_channels * FRAMES, "convolutions")


def _padding(convolution: nn.Conv2d) -> list[tuple[int, int]]:
    """Zeros before and after, for rows and for columns."""
    found = []
    for axis in (0, 1):
        if isinstance(convolution.padding, str):
            total = (convolution.kernel_size[axis] - 1) * convolution.dilation[axis]
            total = total if convolution.padding == "same" else 0
            found.append((total // 2, total - total // 2))
        else:
            found.append((int(convolution.padding[axis]),) * 2)
    return found
