"""The wide grouped convolution of wav2vec2's position embedding, through the Fourier transform.

128 taps over every frame are 2.4 G multiply-adds for ten seconds of speech in the base model, as many as a third of an
encoder at 90 % sparsity. Overlap-save (Oppenheim and Schafer, Discrete-Time Signal Processing, 8.7.3) needs thirty
times fewer: in the frequency domain a convolution is one small matrix product for each frequency and group.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class FourierConv1d(nn.Module):
    """A dense `nn.Conv1d` of stride 1 with many taps: [channels, frames] → [channels, frames].

    Args:
        convolution: the layer; its weight may be parametrised (weight norm). It is not changed.
    """

    def __init__(self, convolution: nn.Conv1d) -> None:
        super().__init__()
        with torch.no_grad():
            weight = convolution.weight.detach().float()
        self.taps, self.padding = convolution.kernel_size[0], int(convolution.padding[0])
        self.groups = convolution.groups
        self.size = 1 << (2 * self.taps - 1).bit_length()
        spectrum = torch.fft.rfft(weight, self.size).conj()
        rows = weight.shape[0] // self.groups
        self.spectrum = spectrum.view(self.groups, rows, -1, spectrum.shape[-1]).permute(3, 0, 1, 2).contiguous()
        self.bias = None if convolution.bias is None else convolution.bias.detach().float()[:, None]

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
        spectrum = torch.fft.rfft(padded.unfold(1, self.size, step))  # [channels, blocks, frequencies]
        spectrum = spectrum.view(self.groups, channels // self.groups, blocks, -1).permute(3, 0, 1, 2)
        product = torch.matmul(self.spectrum, spectrum)  # [frequencies, groups, rows, blocks]
        out = torch.fft.irfft(product.permute(1, 2, 3, 0), self.size)[..., :step]
        out = out.reshape(-1, blocks * step)[:, :frames]
        # out of every tap's reach the sum is exactly zero; rounding left there would be blown up by a layer norm
        out[:, length + self.taps :] = 0
        return out if self.bias is None else out + self.bias
