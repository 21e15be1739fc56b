"""The convolutional front end of wav2vec2-like models: samples in, features out."""

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from audio_lottery.errors import ModelError
from audio_lottery.sparse.kernels.convolve import LAYER_KERNELS
from audio_lottery.sparse.kernels.packing import copy_rows
from audio_lottery.sparse.kernels.rows import BLOCK_ROWS
from audio_lottery.sparse.kernels.vector import WIDTH
from audio_lottery.sparse.runtime.convolution import SparseConv1d, norm_arrays
from audio_lottery.sparse.runtime.matrix import Places, SparseMatrix, compile_matrix
from audio_lottery.sparse.runtime.modules import (
    Runner,
    activation_name,
    bias_of,
    input_array,
    no_kernel,
    to_numpy,
)
from audio_lottery.sparse.runtime.threads import each, part, whole, workspace

# Output frames that go through all layers before the next ones do: what lies between the layers stays small.
_FRAMES = 64

_CLASSES = ("Wav2Vec2FeatureEncoder", "HubertFeatureEncoder")
# A second of audio.
_TRIAL_SAMPLES = 16000


class FrontEnd(Runner):
    """Samples [batch, samples] → features [batch, channels, frames], with norms and activations inside the layers.

    The first layer makes by far the most numbers and takes few operations to make them, so they are never written out:
    every tile of the second layer computes what it reads of them. The group norm of the first layer (every channel
    over time) is folded into its weights: mean and variance of a channel are a linear and a quadratic form of its taps
    in the mean and covariance of the windows of the signal.

    Args:
        module: ``Wav2Vec2FeatureEncoder`` or HuBERT's; see `misfit`.
        precision: see `accelerate.accelerate`.
    """

    kind = "convolution"

    def __init__(self, module: Any, precision: str = "float32") -> None:
        super().__init__()
        layers = []
        for layer in module.conv_layers:
            norm = getattr(layer, "layer_norm", None)
            norm = norm if isinstance(norm, nn.LayerNorm) else None
            layers.append(SparseConv1d(layer.conv, precision, None, norm, activation_name(layer.activation)))
        first = module.conv_layers[0]
        norm = getattr(first, "layer_norm", None)
        self.source = _Source(first.conv, layers[0], layers[1], norm if isinstance(norm, nn.GroupNorm) else None)
        self.layers = layers[1:]
        self.kept = sum(layer.kept for layer in layers)
        self.weights = sum(layer.weights for layer in layers)
        self.kernel = self.layers[0].kernel

    @classmethod
    def claims(cls, module: nn.Module) -> bool:
        """See `Runner`: the front ends of Wav2Vec2 and HuBERT."""
        return type(module).__name__ in _CLASSES

    @classmethod
    def misfit(cls, module: Any) -> str:
        """See `Runner`: all layers must be of the kinds that are built here."""
        layers = list(module.conv_layers)
        fits = (
            len(layers) > 1
            and all(activation_name(layer.activation) for layer in layers)
            and all(layer.conv.padding == (0,) and layer.conv.dilation == (1,) for layer in layers)
            and layers[0].conv.in_channels == 1
        )
        return "" if fits else no_kernel(module)

    @classmethod
    def trial_input(cls, module: Any) -> Tensor:
        """See `Runner`."""
        return torch.randn(1, _TRIAL_SAMPLES)

    def _freeze_parameters(self) -> None:
        """transformers' switch; there is nothing left to freeze."""

    def forward(self, input_values: Tensor) -> Tensor:
        """Apply the front end.

        Args:
            input_values: [batch, samples] float32.

        Returns:
            [batch, channels, frames].

        Raises:
            ModelError: too few samples for a single frame; another type, see `modules.input_array`.
        """
        samples = input_array(input_values, "the front end")
        batch, length = input_values.shape
        lengths = [self.source.frames(length)]
        for layer in self.layers:
            lengths.append(layer.frames(lengths[-1]))
        if min(lengths) < 1:
            raise ModelError(f"{length} samples are too few for a frame of the model's front end")
        frames = lengths[-1]
        out = torch.empty(batch, self.layers[-1].out_channels, frames)
        signals = [samples[item * length : (item + 1) * length] for item in range(batch)]
        with part("convolutions"):
            firsts = [self.source.prepare(signal, lengths[0]) for signal in signals]
        target = out.numpy().reshape(-1)
        pieces = whole(whole(frames, _FRAMES) // _FRAMES, torch.get_num_threads())
        width = whole(frames, pieces) // pieces
        starts = range(0, frames, width)

        def work(number: int, scratch: np.ndarray) -> None:
            item, piece = divmod(number, len(starts))
            first, last = starts[piece], min(starts[piece] + width, frames)
            found, row = self._piece(signals[item], firsts[item], first, last)
            copy_rows(
                found, 0, row, self.layers[-1].out_channels, last - first, target, item * out[0].numel() + first, frames
            )

        each(work, batch * len(starts), 0, "convolutions")
        return out

    def _piece(self, signal: np.ndarray, source: tuple[Any, ...], first: int, last: int) -> tuple[np.ndarray, int]:
        """All layers for the frames ``first`` to ``last`` of the last one, in rows so far apart."""
        ranges = [(first, last)]
        for layer in reversed(self.layers):
            begin, end = ranges[0]
            ranges.insert(0, (begin * layer.stride, (end - 1) * layer.stride + layer.taps))
        samples = workspace("samples", self.source.step * self.source.wide)
        read: tuple[Any, ...] = (signal, 0, 0, 0)
        for number, layer in enumerate(self.layers):
            begin, end = ranges[number + 1]
            # two buffers take turns; rows begin on a cache line, and neighbours in different sets of the cache
            row = whole(end - begin, 2 * WIDTH) + WIDTH
            result = workspace(f"front end {number % 2}", layer.out_channels * row)
            layer.stretch(source, read, number == 0, begin, end, samples, result, row)
            read = (result, row, end - begin, begin)
        return result, row


class _Source:
    """The first layer, computed for a tile of the second: one matrix for each phase of that tile."""

    def __init__(
        self, convolution: nn.Conv1d, layer: SparseConv1d, reader: SparseConv1d, norm: nn.GroupNorm | None
    ) -> None:
        weight, bias = to_numpy(convolution.weight)[:, 0], bias_of(convolution)
        self.weight = weight.astype(np.float64)
        self.channels, self.taps = weight.shape
        self.stride, self.row, self.phases = layer.stride, reader.row, reader.stride
        self.frames, self.norm, self.activation = layer.frames, layer.norm, layer.activation
        self.step = self.stride * self.phases
        reach = ((self.phases - 1) * self.stride + self.taps - 1) // self.step
        self.wide = self.row + -(-reach // WIDTH) * WIDTH
        self.reach = reach
        self.matrices = []
        for phase in range(self.phases):
            shift = phase * self.stride + np.arange(self.taps)
            places = Places(shift % self.step, shift // self.step, self.wide)
            self.matrices.append(compile_matrix(weight, places, bias))
        self.folds = norm is not None
        if norm is not None:
            self.epsilon = float(norm.eps)
            self.gain, self.offset = to_numpy(norm.weight).astype(np.float64), to_numpy(norm.bias).astype(np.float64)

    def prepare(self, signal: np.ndarray, frames: int) -> tuple[Any, ...]:
        """The layer for this signal, as `kernels.convolve` takes it."""
        matrices = self._fold(signal, frames) if self.folds else self.matrices
        one = matrices[0]
        for matrix in matrices:
            matrix.count(0, matrix.rows, whole(frames, self.phases) // self.phases // WIDTH + 1)
        columns = np.concatenate([matrix.columns.astype(np.int32) * np.int32(matrix.unit) for matrix in matrices])
        return (
            LAYER_KERNELS[one.kernel], one.values, columns, one.pointers, one.bias, self.stride, self.phases, self.wide,
            self.reach, self.activation, norm_arrays(self.norm),
        )  # fmt: skip

    def _fold(self, signal: np.ndarray, frames: int) -> list[SparseMatrix]:
        """The matrices with the group norm of this signal in their values and biases."""
        last = (frames - 1) * self.stride + 1
        windows = np.stack([signal[tap : tap + last : self.stride] for tap in range(self.taps)]).astype(np.float64)
        means = windows.mean(1)
        windows -= means[:, None]
        variance = np.einsum("ci,ij,cj->c", self.weight, windows @ windows.T / frames, self.weight)
        scale = self.gain / np.sqrt(variance + self.epsilon)
        # the convolution's own bias moves the mean by as much, and drops out
        bias = (self.offset - scale * (self.weight @ means)).astype(np.float32)
        return [
            replace(matrix, values=(matrix.values * _spread(matrix, scale)).astype(np.float32), bias=bias)
            for matrix in self.matrices
        ]


def _spread(matrix: SparseMatrix, rows: np.ndarray) -> np.ndarray:
    """A number for each row as one for each stored value."""
    counts = np.diff(matrix.pointers)
    if matrix.kernel == "csr":
        return np.repeat(rows, counts)
    return np.repeat(rows.reshape(-1, BLOCK_ROWS), counts, axis=0).reshape(-1)
