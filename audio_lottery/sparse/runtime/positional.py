"""The wide grouped convolution of wav2vec2's position embedding, through the Fourier transform.

128 taps over every frame are 2.4 G multiply-adds for ten seconds of speech in the base model, as many as a third of an
encoder at 90 % sparsity. Overlap-save (Oppenheim and Schafer, Discrete-Time Signal Processing, 8.7.3) needs thirty
times fewer: in the frequency domain a convolution is one small matrix product for each frequency and group.
"""

import numpy as np
import scipy.fft
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from audio_lottery.sparse.kernels.spectral import SCRATCH, multiply_spectra
from audio_lottery.sparse.kernels.vector import WIDTH
from audio_lottery.sparse.runtime.matrix import bfloat16_pairs
from audio_lottery.sparse.runtime.modules import to_numpy
from audio_lottery.sparse.runtime.threads import each


class FourierConv1d(nn.Module):
    """A dense `nn.Conv1d` of stride 1 with many taps: [channels, frames] → [channels, frames].

    Args:
        convolution: the layer; its weight may be parametrised (weight norm). It is not changed.
        precision: in all but float32, the weights' spectrum is kept in bfloat16.
    """

    def __init__(self, convolution: nn.Conv1d, precision: str = "float32") -> None:
        super().__init__()
        self.taps, self.padding = convolution.kernel_size[0], int(convolution.padding[0])
        self.groups = convolution.groups
        self.size = max(1 << (2 * self.taps - 1).bit_length(), 2 * WIDTH)
        self.vectors = self.size // 2 // WIDTH
        self.pairs = precision != "float32"
        self.spectrum = self._spectrum(to_numpy(convolution.weight))
        self.bias = None if convolution.bias is None else convolution.bias.detach().float()[:, None]

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

    def forward(self, x: Tensor, length: int) -> Tensor:
        """Apply the layer.

        Args:
            x: [channels, frames] float32.
            length: frames that are not padding; x is zero after them.

        Returns:
            [channels, frames].
        """
        channels, frames = x.shape
        step = self.size - self.taps + 1
        blocks = -(-frames // step)
        padded = F.pad(x, (self.padding, (blocks - 1) * step + self.size - self.padding - frames))
        windows = padded.unfold(1, self.size, step).numpy()
        found = np.empty((channels, blocks, step), np.float32)
        self._multiply(windows, found)
        out = torch.from_numpy(found).reshape(-1, blocks * step)[:, :frames]
        # out of every tap's reach the sum is exactly zero; rounding left there would be blown up by a layer norm
        out[:, length + self.taps :] = 0
        return out if self.bias is None else out + self.bias

    def _multiply(self, windows: np.ndarray, found: np.ndarray) -> None:
        """[channels, blocks, size] to [channels, blocks, step], a group at a time; as many channels out as in."""
        channels, blocks, _ = windows.shape
        width = channels // self.groups
        place = self.spectrum.size // (self.groups * self.vectors)

        def work(group: int, scratch: np.ndarray) -> None:
            rows = slice(group * width, (group + 1) * width)
            # not torch's, whose threads wait for each other busily: a machine with other work to do pays for that
            spectrum = scipy.fft.rfft(windows[rows])
            product = np.empty_like(spectrum)
            source, target = (array.view(np.float32).reshape(-1) for array in (spectrum, product))
            for vector in range(self.vectors):
                where, first = (group * self.vectors + vector) * place, 2 * WIDTH * vector
                multiply_spectra(
                    self.spectrum, where, self.pairs, width, width, source, first, self.size + 2, blocks, vector == 0,
                    target, first, scratch,
                )  # fmt: skip
            found[rows] = scipy.fft.irfft(product, self.size)[..., : found.shape[2]]

        each(work, self.groups, SCRATCH * width, "")
