"""Noise from a formula."""

from collections.abc import Callable

import numpy as np
from scipy.fft import irfft, next_fast_len

from audio_lottery.data.levels import mean_power


def white_noise(n: int, rng: np.random.Generator) -> np.ndarray:
    """Gaussian white noise: float32 ``[n]``, expected mean 0 and power 1."""
    return rng.standard_normal(n, dtype=np.float32)


def pink_noise(n: int, rng: np.random.Generator) -> np.ndarray:
    """Pink noise, power falling as 1/f (-10 dB a decade): float32 ``[n]``, mean 0 and power 1.

    A Gaussian spectrum whose bin k is divided by √k, and its inverse Fourier transform (Timmer and König 1995, "On
    generating power law noise"), of the next length that is fast to transform, cut to ``n``. A single sample has no
    spectrum: it is white.
    """
    if n < 2:
        return white_noise(n, rng)
    length = next_fast_len(n, real=True)
    spectrum = rng.standard_normal(2 * (length // 2 + 1), dtype=np.float32).view(np.complex64)
    spectrum[0] = 0.0
    spectrum[1:] /= np.sqrt(np.arange(1, len(spectrum), dtype=np.float32))
    noise = irfft(spectrum, length, overwrite_x=True)[:n].astype(np.float32, copy=False)
    noise -= np.float32(np.mean(noise, dtype=np.float64))
    noise /= np.float32(np.sqrt(mean_power(noise)))
    return noise


GENERATORS: dict[str, Callable[[int, np.random.Generator], np.ndarray]] = {"white": white_noise, "pink": pink_noise}
