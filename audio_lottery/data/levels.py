"""Levels of signals: mean power, constant offsets, digital silence, and the active speech level of ITU-T P.56."""

import numpy as np

from audio_lottery.data.audio import SAMPLE_RATE

# Mean power of -100 dB re full scale, less than dither of one step in 16-bit audio. Not exactly zero: a click of one
# step in a second of digital silence would pass for noise, and be amplified to the level of speech.
SILENCE_POWER = 1e-10

# A constant (DC) offset that moves a level by no more than this is left alone: a piece of a recording without any has a
# mean, too. P.56 itself is less exact: its thresholds are fixed, and the level of louder speech may be 0.2 dB off.
OFFSET_TOLERANCE_DB = 0.03

# The constants of ITU-T P.56, method B.
SMOOTHING_SECONDS = 0.03
HANGOVER_SECONDS = 0.2
MARGIN_DB = 15.9

# The lowest threshold is 2**-20, 20 dB below SILENCE_POWER. P.56 stops at one step of its quantiser, 2**-15 of 16 bits,
# and could not measure quiet speech; thresholds below the level by more than the margin change nothing.
_LOWEST_EXPONENT = -20


def mean_power(signal: np.ndarray) -> float:
    """Mean of the squared samples in float64; 0 for no samples."""
    return float(np.mean(np.square(signal, dtype=np.float64))) if signal.size else 0.0


def centred(signal: np.ndarray) -> np.ndarray:
    """A signal less its mean (its constant, or DC, offset), in its own type; of one sample nothing would be left."""
    return signal - signal.dtype.type(np.mean(signal, dtype=np.float64)) if signal.size > 1 else signal


def without_offset(signal: np.ndarray) -> np.ndarray:
    """A signal less its mean, or the signal itself where that leaves its mean power within ``OFFSET_TOLERANCE_DB``."""
    without = centred(signal)
    return without if _differ(mean_power(signal), mean_power(without)) else signal


def is_silent(signal: np.ndarray) -> bool:
    """Whether a signal has no usable power (mean below ``SILENCE_POWER``), so that no SNR can be set with it.

    An offset counts as power: of signals that may have one, `centred` comes first.
    """
    return mean_power(signal) < SILENCE_POWER


def active_power(speech: np.ndarray, sample_rate: int = SAMPLE_RATE) -> float:
    """Power of the active parts of speech, by ITU-T P.56 (12/2011), method B; 10·log10 of it is the active level in dB.

    An envelope (the magnitude through two one-pole smoothers of 0.03 s) is compared with thresholds that are powers of
    two. Time above a threshold, and 0.2 s after it, is active; the active power at a threshold is the energy of the
    whole signal over that time. The threshold sought lies 15.9 dB below the active level that it gives; between two
    thresholds both are interpolated in dB. No band-pass filter is applied, as in the ITU's own sv56 (G.191).

    Args:
        speech: ``[samples]``, floating point, full scale ±1.
        sample_rate: in Hz.

    Returns:
        The active power, at least the mean power. It is the mean power where P.56 says nothing: digital silence, speech
        that is not longer than the hangover of 0.2 s (which would bridge any pause in it), and single clicks (the
        envelope stays below every threshold sought).
    """
    mean = mean_power(speech)
    if mean < SILENCE_POWER or len(speech) <= HANGOVER_SECONDS * sample_rate:
        return mean
    active = _active_samples(speech, sample_rate)
    active = active[active > 0]
    level = 10.0 * np.log10(mean * len(speech) / active)
    threshold = 20.0 * np.log10(2.0) * (_LOWEST_EXPONENT + np.arange(len(active)))
    excess = level - threshold - MARGIN_DB
    found = np.flatnonzero(excess <= 0)
    if not found.size:
        return mean
    upper = int(found[0])  # never the first: that one lies 20 dB or more below the mean power
    share = excess[upper - 1] / (excess[upper - 1] - excess[upper])
    return float(10.0 ** ((level[upper - 1] + share * (level[upper] - level[upper - 1])) / 10.0))


def speech_power(speech: np.ndarray, sample_rate: int = SAMPLE_RATE) -> float:
    """`active_power` without the offset, or with it where that is the same within ``OFFSET_TOLERANCE_DB``."""
    power, without = active_power(speech, sample_rate), active_power(centred(speech), sample_rate)
    return without if _differ(power, without) else power


def _differ(power: float, other: float) -> bool:
    factor = 10.0 ** (OFFSET_TOLERANCE_DB / 10.0)
    return power > other * factor or other > power * factor


def _active_samples(speech: np.ndarray, sample_rate: int) -> np.ndarray:
    """Samples that are active at threshold ``2**_LOWEST_EXPONENT`` and every power of two above it."""
    # Here: they take 30 MB, and short recordings are transcribed without them.
    from scipy.ndimage import maximum_filter1d
    from scipy.signal import lfilter

    decay = np.exp(-1.0 / (SMOOTHING_SECONDS * sample_rate))
    envelope = lfilter([(1.0 - decay) ** 2], [1.0, -2.0 * decay, decay**2], np.abs(speech).astype(np.float64))
    # envelope >= 2**k exactly where its binary exponent is above k; a byte holds it, which makes the maximum fast.
    exponent = np.clip(np.frexp(envelope)[1] - 1, _LOWEST_EXPONENT - 1, 100).astype(np.int8)
    exponent[envelope <= 0.0] = _LOWEST_EXPONENT - 1  # zero has exponent 0
    window = int(np.ceil(HANGOVER_SECONDS * sample_rate)) + 1
    # The maximum of this sample and the hangover before it: active as long as it reaches the threshold.
    held = maximum_filter1d(
        exponent, window, origin=(window - 1) // 2, mode="constant", cval=_LOWEST_EXPONENT - 1
    ).astype(np.intp)
    counts = np.bincount(held - (_LOWEST_EXPONENT - 1))
    return np.cumsum(counts[:0:-1])[::-1]
