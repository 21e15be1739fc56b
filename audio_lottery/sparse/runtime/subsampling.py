"""The convolutions that lower the frame rate before Parakeet's conformer blocks."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from audio_lottery.errors import ModelError
from audio_lottery.sparse.kernels.packing import pack_phases, unpack
from audio_lottery.sparse.kernels.rows import FRAMES, VECTORS
from audio_lottery.sparse.kernels.subsampling import halve, halve_twice, rectify
from audio_lottery.sparse.kernels.vector import WIDTH
from audio_lottery.sparse.runtime.matrix import KERNELS, Places, SparseMatrix, compile_matrix, split_columns
from audio_lottery.sparse.runtime.modules import TRIAL_FRAMES, Runner, bias_of, input_array, no_kernel, to_numpy
from audio_lottery.sparse.runtime.threads import each, tile_widths, whole, workspace

# Output frames that go through all convolutions at a time.
_FRAMES = FRAMES // 2
# Elements behind a row that are read with its last frames and count for nothing.
_SLACK = 3 * WIDTH


@dataclass(frozen=True)
class _Stage:
    """A depthwise convolution that halves time and frequency, and the products over channels behind it.

    Attributes:
        weight: [channels, 9], flat.
        bias: [channels].
        mixing: [channels, channels].
        frames: that the products are made for.
        row: elements between rows of its output.
    """

    weight: np.ndarray
    bias: np.ndarray
    mixing: SparseMatrix
    frames: int
    row: int


class Subsampling(Runner):
    """[batch, mel frames, bins] → [batch, frames, features].

    A tile of output frames goes through all layers, so that what lies between them stays in the cache: the first layer
    makes by far the most numbers, and they are never written out.

    Args:
        module: transformers' ``ParakeetEncoderSubsamplingConv2D``.
        precision: see `accelerate.accelerate`; convolutions stay in float32.
        scale: what the output is multiplied with.
    """

    kind = "convolution"

    def __init__(self, module: Any, precision: str = "float32", scale: float = 1.0) -> None:
        super().__init__()
        convolutions = [layer for layer in module.layers if isinstance(layer, nn.Conv2d)]
        self.channels = convolutions[0].out_channels
        self.first = _taps(convolutions[0]), _bias(convolutions[0])
        halvings = (len(convolutions) - 1) // 2
        self.frames = [_FRAMES]  # of each level, the first convolution's at the end
        for _ in range(halvings):
            self.frames.append(2 * self.frames[-1] + 2)
        self.stages = [
            _compile_stage(depthwise, mixing, self.frames[halvings - 1 - number])
            for number, (depthwise, mixing) in enumerate(zip(convolutions[1::2], convolutions[2::2], strict=True))
        ]
        bins = module.linear.in_features // self.channels
        # rows of the last stage's output lie by bins, not by channels
        weight = to_numpy(module.linear.weight).reshape(-1, self.channels, bins).transpose(0, 2, 1)
        weight = np.ascontiguousarray(weight).reshape(len(weight), -1) * np.float32(scale)
        self.features, self.bins = len(weight), bins << halvings + 1
        self.pieces = split_columns(weight, to_numpy(module.linear.bias) * np.float32(scale), KERNELS[precision])
        self.kernel = self.pieces[0][1].kernel
        weights = [layer.weight for layer in (*convolutions, module.linear)]
        self.kept = sum(int(torch.count_nonzero(part)) for part in weights)
        self.weights = sum(part.numel() for part in weights)

    @classmethod
    def claims(cls, module: nn.Module) -> bool:
        """See `Runner`."""
        return type(module).__name__ == "ParakeetEncoderSubsamplingConv2D"

    @classmethod
    def misfit(cls, module: Any) -> str:
        """See `Runner`: at least two convolutions of 3×3 with stride 2, ReLU between them."""
        convolutions = [layer for layer in module.layers if isinstance(layer, nn.Conv2d)]
        fits = (
            len(convolutions) > 2
            and all(layer.kernel_size in ((3, 3), (1, 1)) for layer in convolutions)
            and all(layer.stride == (2, 2) for layer in convolutions if layer.kernel_size == (3, 3))
        )
        return "" if fits else no_kernel(module)

    @classmethod
    def trial_input(cls, module: Any) -> Tensor:
        """See `Runner`."""
        bins = module.linear.in_features // module.channels << module.num_layers
        return torch.randn(1, TRIAL_FRAMES << module.num_layers, bins)

    def forward(self, input_features: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        """Apply the layers.

        Args:
            input_features: [batch, mel frames, bins] float32.
            attention_mask: [batch, mel frames], whose sums are the frames of each utterance; None: all.

        Raises:
            ModelError: another number of bins, or another type; see `modules.input_array`.
        """
        if input_features.dim() != 3 or input_features.shape[2] != self.bins:
            raise ModelError(f"subsampling of {self.bins} bins got {tuple(input_features.shape)}")
        batch, longest, bins = input_features.shape
        source = input_array(input_features.detach().transpose(1, 2), "subsampling")
        lengths = [longest] * batch if attention_mask is None else attention_mask.sum(1).tolist()
        sizes = [bins]
        for _ in range(len(self.stages) + 1):
            longest, sizes = _halved(longest), [*sizes, _halved(sizes[-1])]
        out = torch.empty(batch, longest, self.features)
        target = out.numpy().reshape(-1)
        widths = tile_widths(longest, _FRAMES, 2 * WIDTH)

        def work(number: int, scratch: np.ndarray) -> None:
            item, tile = divmod(number, len(widths))
            first, count = tile * widths[0], widths[tile]
            vectors = whole(count, 2 * WIDTH) // WIDTH
            signal = source[item * bins * input_features.shape[1] : (item + 1) * bins * input_features.shape[1]]
            last = self._stages(signal, sizes, first, lengths[item])
            for piece, matrix in self.pieces:
                operand = matrix.operand(last, piece.start * FRAMES, piece.stop - piece.start, vectors)
                matrix.multiply(operand, scratch, 0, start=(scratch, 0) if piece.start else None, vectors=vectors)
            unpack(scratch, 0, self.features, count, target, item * longest + first, self.features, 0)

        if out.numel():
            each(work, batch * len(widths), self.features * FRAMES, "subsampling")
        return out

    def _stages(self, signal: np.ndarray, sizes: Sequence[int], first: int, length: int) -> np.ndarray:
        """[bins · channels, FRAMES] behind the convolutions, of the output frames from ``first`` on.

        Args:
            signal: [bins, mel frames], flat.
            sizes: bins of the signal, and behind each halving.
            first: see above.
            length: mel frames of the utterance.
        """
        # where the rows of each level begin, and how many frames the utterance has there
        begins = [first]
        for _ in self.stages:
            begins.insert(0, 2 * begins[0] - 2)
        lengths = [length]
        for _ in begins:
            lengths.append(_halved(lengths[-1]))
        wide = whole(self.frames[-1], WIDTH) // WIDTH
        row = wide * WIDTH + _SLACK
        tile = workspace("spectrogram", (sizes[0] + 2) * 2 * row)
        tile[: 2 * row] = 0
        tile[(sizes[0] + 1) * 2 * row :] = 0
        frames = signal.size // sizes[0]
        begin, count = 2 * begins[0] - 2, wide * WIDTH + WIDTH
        pack_phases(signal, 0, sizes[0], frames, frames, begin, 2, count, tile[2 * row :], row)
        lines = workspace("lines", 3 * row)
        low, high = -begins[0], lengths[1] - begins[0]
        below = tile
        for number, stage in enumerate(self.stages):
            vectors = whole(stage.frames, WIDTH) // WIDTH
            step = self.channels * stage.row
            halved = workspace("halved", step)
            bins = sizes[number + 2]
            made = workspace(f"stage {number}", bins * step)
            start, end = -begins[number + 1], lengths[number + 2] - begins[number + 1]
            for place in range(bins):
                if number == 0:
                    halve_twice(
                        below, row, sizes[1], place, *self.first, low, high, wide, stage.weight, stage.bias, halved,
                        stage.row, vectors, lines,
                    )  # fmt: skip
                else:
                    pitch = self.channels * self.stages[number - 1].row
                    halve(
                        below, pitch, self.stages[number - 1].row, sizes[number + 1], place, stage.weight, stage.bias,
                        halved, stage.row, vectors,
                    )  # fmt: skip
                for part in range(0, vectors, VECTORS):
                    shift, now = part * WIDTH, min(VECTORS, vectors - part)
                    stage.mixing.multiply(halved[shift:], made, place * step + shift, stage.row, vectors=now)
                rectify(made, place * step, self.channels, stage.row, start, end, vectors)
            below = made
        return below


def _halved(size: int) -> int:
    return (size - 1) // 2 + 1


def _taps(convolution: nn.Conv2d) -> np.ndarray:
    """[channels, (frequency, time)], flat: torch has time first here."""
    return np.ascontiguousarray(to_numpy(convolution.weight)[:, 0].transpose(0, 2, 1)).reshape(-1)


def _bias(convolution: nn.Conv2d) -> np.ndarray:
    bias = bias_of(convolution)
    return np.zeros(convolution.out_channels, np.float32) if bias is None else bias


def _compile_stage(depthwise: nn.Conv2d, mixing: nn.Conv2d, frames: int) -> _Stage:
    weight = to_numpy(mixing.weight)[:, :, 0, 0]
    channels = len(weight)
    row = FRAMES if frames == _FRAMES else whole(frames, WIDTH) + _SLACK
    places = Places(np.arange(channels), np.zeros(channels, np.int64), row)
    return _Stage(_taps(depthwise), _bias(depthwise), compile_matrix(weight, places, bias_of(mixing)), frames, row)
