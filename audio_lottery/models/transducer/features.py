"""Log-mel features that do not look ahead, so that a stream gives the numbers of the whole recording."""

from functools import lru_cache
from typing import Any

import torch
from torch import Tensor
from torchaudio.functional import melscale_fbanks

from audio_lottery.models.cnn_lstm import LogSpectrogramFeatureExtractor

# Power under which there is nothing to hear: digital silence must not be an outlier of the logarithm.
_FLOOR = 1e-7


class LogMelFeatureExtractor(LogSpectrogramFeatureExtractor):
    """Logarithms of mel power every 10 ms, over the 25 ms of a Hann window that *end* there, shifted and scaled by
    constants.

    Mean and variance of an utterance are known when it has ended, and running ones depend on where a recording was cut;
    constants depend on nothing (global statistics, as He et al. 2019, arXiv:1811.06621, and torchaudio's recipes take
    them). A frame needs no sample behind its own, so features of a stream are those of the whole recording.

    Args:
        feature_size: mel bins.
        win_length: samples of a window.
        mean: what is subtracted from the logarithms; both defaults are those of read speech at -20 to -30 dBFS.
        deviation: what they are divided by.
        fields: as for `LogSpectrogramFeatureExtractor`.
    """

    def __init__(
        self,
        feature_size: int = 80,
        win_length: int = 400,
        mean: float = -9.5,
        deviation: float = 4.3,
        **fields: Any,
    ) -> None:
        super().__init__(feature_size=feature_size, win_length=win_length, **fields)
        self.mean = mean
        self.deviation = deviation

    @property
    def context(self) -> int:
        """Samples before its own hop that a frame looks back on."""
        return int(self.win_length - self.hop_length)

    def transform(self, audio: Tensor) -> Tensor:
        """[context + frames · hop] samples → [frames, bins]; samples of an unfinished hop count for nothing."""
        if audio.shape[0] < self.win_length:
            return audio.new_zeros(0, self.feature_size)
        size = 2 ** (self.win_length - 1).bit_length()
        window, filters = _tables(self.win_length, size, self.feature_size, self.sampling_rate)
        spectrum = torch.fft.rfft(audio.unfold(0, self.win_length, self.hop_length) * window, n=size)
        power = spectrum.real.square() + spectrum.imag.square()
        return ((power @ filters + _FLOOR).log() - self.mean) / self.deviation

    def _log_spectrogram(self, audio: Tensor) -> Tensor:
        return self.transform(torch.nn.functional.pad(audio, (self.context, 0)))


@lru_cache(maxsize=8)
def _tables(window: int, size: int, bins: int, rate: int) -> tuple[Tensor, Tensor]:
    """The window, and [size / 2 + 1, bins] triangles of equal area, as Slaney's Auditory Toolbox has them."""
    filters = melscale_fbanks(size // 2 + 1, 0.0, rate / 2, bins, rate, norm="slaney", mel_scale="slaney")
    return torch.hann_window(window, periodic=False), filters
