"""The wide grouped convolution of wav2vec2's position embedding, through the Fourier transform.

128 taps over every frame are 2.4 G multiply-adds for ten seconds of speech in the base model, as many as a third of an
encoder at 90 % sparsity. Overlap-save (Oppenheim and Schafer, Discrete-Time Signal Processing, 8.7.3) needs thirty
times fewer: in the frequency domain a convolution is one small matrix product for each frequency and group.
"""

import numpy as np
import scipy.fft
from torch import nn

from audio_lottery.sparse.kernels.spectral import SCRATCH, add_to_signal, cut_windows, multiply_group
from audio_lottery.sparse.kernels.vector import WIDTH
from audio_lottery.sparse.runtime.matrix import bfloat16_pairs
from audio_lottery.sparse.runtime.modules import activation_code, bias_of, to_numpy
from audio_lottery.sparse.runtime.threads import each, part, record, whole, workspace


class FourierConv1d:
    """A dense `nn.Conv1d` of stride 1 with many taps and as many channels out as in, and its activation.

    Args:
        convolution: the layer; its weight may be parametrised (weight norm). It is not changed.
        precision: in all but float32, the weights' spectrum is kept in bfloat16.
        activation: of what it makes, see `kernels.elementwise.ACTIVATIONS`.
    """

    def __init__(self, convolution: nn.Conv1d, precision: str = "float32", activation: str = "none") -> None:
        self.channels, self.activation = convolution.out_channels, activation_code(activation, precision)
        self.taps, self.padding = convolution.kernel_size[0], int(convolution.padding[0])
        self.groups = convolution.groups
        self.size = max(1 << (2 * self.taps - 1).bit_length(), 2 * WIDTH)
        self.vectors = self.size // 2 // WIDTH
        self.pairs = precision != "float32"
        self.spectrum = self._spectrum(to_numpy(convolution.weight))
        bias = bias_of(convolution)
        self.bias = np.zeros(self.channels, np.float32) if bias is None else bias

    def _spectrum(self, weight: np.ndarray) -> np.ndarray:
        """As `kernels.spectral` reads it: [groups, vectors, rows, channels, …], flat."""
        rows, channels = len(weight) // self.groups, weight.shape[1]
        found = np.fft.rfft(weight, self.size).conj()
        real, imaginary = found.real[..., :-1].astype(np.float32), found.imag[..., :-1].astype(np.float32)
        imaginary[..., 0] = found.real[..., -1]
        parts = np.stack([real, imaginary], -1).reshape(self.groups, rows, channels, self.vectors, WIDTH, 2)
        if self.pairs:
            pairs = bfloat16_pairs(parts.reshape(-1, 2)).reshape(parts.shape[:-1])
            return np.ascontiguousarray(pairs.transpose(0, 3, 1, 2, 4)).reshape(-1)
        return np.ascontiguousarray(parts.transpose(0, 3, 1, 2, 5, 4)).reshape(-1)

    def add_to(self, source: np.ndarray, length: int) -> tuple[np.ndarray, int]:
        """A signal, and the activation of what the layer makes of it.

        Args:
            source: [frames, channels] float32, flat; what lies behind ``length`` frames counts as zero.
            length: frames that are not padding.

        Returns:
            The sum, [channels, row], flat, of this thread's own until the next one, and its row, at least ``frames``.
        """
        frames, width = source.size // self.channels, self.channels // self.groups
        step = self.size - self.taps + 1
        blocks = whole(frames, step) // step
        # rows of neighbours lie in different sets of the cache
        row = whole(frames, 2 * WIDTH) + WIDTH
        out = workspace("signal", self.channels * row)
        place = self.spectrum.size // self.groups

        def work(group: int, scratch: np.ndarray) -> None:
            column = group * width
            windows = workspace("windows", width * blocks * self.size)
            cut_windows(source, self.channels, column, width, length, self.padding, blocks, step, self.size, windows)
            # not torch's, whose threads wait for each other busily: a machine with other work to do pays for that
            spectrum = scipy.fft.rfft(windows.reshape(width, blocks, self.size))
            product = np.empty_like(spectrum)
            multiply_group(
                self.spectrum, group * place, self.pairs, width, self.vectors, spectrum.view(np.float32).reshape(-1),
                self.size + 2, blocks, product.view(np.float32).reshape(-1), scratch,
            )  # fmt: skip
            found = scipy.fft.irfft(product, self.size).reshape(-1)
            # out of every tap's reach the sum is exactly zero; rounding left there would be blown up by a layer norm
            add_to_signal(
                found, blocks, step, self.size, self.bias[column : column + width], length + self.taps, self.activation,
                source, self.channels, column, frames, length, out, column * row, row,
            )  # fmt: skip

        with part("positional convolution"):
            counter = record()
            if counter is not None:
                counter.add(2 * self.channels * width * self.size * blocks, id(self), self.spectrum.nbytes)
            each(work, self.groups, SCRATCH * width, "")
        return out, row
