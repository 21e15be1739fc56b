"""Speech and noise at a stated signal-to-noise ratio, or at the amplitude at which the noise was recorded.

SNR is 10·log10(P_speech / P_noise). P_speech is the active power of ITU-T P.56, so pauses do not count as quiet speech;
P_noise is the mean power over the whole length of the mixture, since noise does not pause. Both are powers of signals
without constant offset: an offset is not heard, and a recording may have more of it than sound.
"""

import numpy as np

from audio_lottery.data.levels import centred, is_silent, mean_power, speech_power, without_offset
from audio_lottery.errors import AudioError

_SCALINGS = 3  # times a mixture is scaled to fit; each is much finer than the one before


def mix_at_snr(speech: np.ndarray, noise: np.ndarray, snr_db: float) -> np.ndarray:
    """Speech with noise added, scaled so that active speech level minus noise level is ``snr_db``.

    Nothing is clipped: a mixture that leaves ±1 is scaled down as a whole, which keeps its SNR (`within_full_scale`).
    The offset of the noise is taken out, and that of the speech does not count in its level.

    Args:
        speech: ``[samples]``, floating point. Where `is_silent` is true of it, centred, there is no level to set the
            noise against, and it comes back unchanged; callers that count such utterances ask first.
        noise: ``[samples]``, the same length.
        snr_db: signal-to-noise ratio in dB.

    Returns:
        float32 array ``[samples]``, always a new one.

    Raises:
        AudioError: the noise is silent or constant, or one of the two holds NaN or infinite samples.
        ValueError: speech and noise differ in shape.
    """
    _check(speech, noise, f"at {snr_db:g} dB")
    if is_silent(centred(speech)):
        return speech.astype(np.float32)
    if is_silent(centred(noise)):
        raise AudioError(f"cannot mix at {snr_db:g} dB: the noise is silent or constant; use other noise")
    noise = without_offset(noise)
    # The thresholds of P.56 are fixed, so the level of scaled speech is not quite the scaled level (0.2 dB have been
    # seen): where the mixture has to be scaled, the level is measured again. The second peak is all but 1.
    for _ in range(_SCALINGS):
        mixture = _add(speech, noise, snr_db)
        peak = _peak(mixture)
        if peak <= 1.0:
            break
        speech = speech / np.float32(peak)
    return within_full_scale(mixture)


def mix_at_amplitude(speech: np.ndarray, noise: np.ndarray, factor: float) -> np.ndarray:
    """Speech with ``factor`` times the noise added: its ratio to the speech is what the two recordings make it.

    What Ding et al. 2022, "Audio Lottery: Speech Recognition Made Ultra-Lightweight, Noise-Robust, and Transferable"
    (ICLR), do in training, in float and without a limit at full scale; `within_full_scale` is for the caller.

    Args:
        speech: ``[samples]``, floating point, full scale ±1.
        noise: ``[samples]``, the same length and scale; its offset is taken out, a silent one adds nothing.
        factor: of the noise's samples.

    Returns:
        float32 array ``[samples]``, always a new one.

    Raises:
        AudioError: one of the two holds NaN or infinite samples.
        ValueError: speech and noise differ in shape.
    """
    _check(speech, noise, f"at an amplitude of {factor:g}")
    mixture = without_offset(noise) * np.float32(factor)
    mixture += speech
    return mixture.astype(np.float32, copy=False)


def within_full_scale(signal: np.ndarray) -> np.ndarray:
    """The signal itself where it stays within ±1, else a copy that is scaled down to a peak of 1."""
    peak = _peak(signal)
    return signal / np.float32(peak) if peak > 1.0 else signal


def _check(speech: np.ndarray, noise: np.ndarray, how: str) -> None:
    if speech.shape != noise.shape:
        raise ValueError(f"speech {speech.shape} and noise {noise.shape} must have the same shape")
    for name, signal in (("speech", speech), ("noise", noise)):
        if not np.isfinite(mean_power(signal)):
            raise AudioError(f"cannot mix {how}: the {name} holds NaN or infinite samples")


def _add(speech: np.ndarray, noise: np.ndarray, snr_db: float) -> np.ndarray:
    scale = np.sqrt(speech_power(speech) / mean_power(noise)) * 10.0 ** (-snr_db / 20.0)
    mixture = noise * np.float32(scale)
    mixture += speech
    return mixture.astype(np.float32, copy=False)


def _peak(signal: np.ndarray) -> float:
    return max(float(signal.max()), -float(signal.min())) if signal.size else 0.0
