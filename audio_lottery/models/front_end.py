"""What feature extractors compute, told so that another program can do it."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import ParakeetFeatureExtractor, Wav2Vec2FeatureExtractor

from audio_lottery.models.cnn_lstm.features import LogSpectrogramFeatureExtractor

# What ParakeetFeatureExtractor adds before the logarithm, and what it and ours add to a standard deviation.
_LOG_GUARD, _EPSILON = 2.0**-24, 1e-5


@dataclass(frozen=True)
class FrontEnd:
    """How samples become the first input of a graph, for programs without transformers.

    Attributes:
        kind: ``waveform`` (the samples themselves), ``spectrum`` (of windows), or ``extractor`` where only the class
            of transformers says it.
        settings: numbers that the steps need.
        steps: what is done, in order, in words.
        tables: what the steps multiply with: ``window`` [fft], ``filters`` [bands, fft / 2 + 1].
    """

    kind: str
    settings: dict[str, Any]
    steps: tuple[str, ...]
    tables: dict[str, Tensor]


def front_end(extractor: Any) -> FrontEnd:
    """What a feature extractor computes of one utterance; padding comes afterwards: zeros, and zeros in the mask."""
    if isinstance(extractor, Wav2Vec2FeatureExtractor):
        return _waveform(extractor)
    if isinstance(extractor, ParakeetFeatureExtractor):
        return _log_mel(extractor)
    if isinstance(extractor, LogSpectrogramFeatureExtractor):
        return _log_spectrogram(extractor)
    name = type(extractor).__name__
    steps = (f"transformers' {name} with preprocessor_config.json: AutoFeatureExtractor.from_pretrained(FOLDER)",)
    return FrontEnd("extractor", {"extractor": name}, steps, {})


def _waveform(extractor: Wav2Vec2FeatureExtractor) -> FrontEnd:
    normalised = bool(extractor.do_normalize)
    steps = ["samples as float32 within ±1"]
    if normalised:
        steps.append("minus their mean, divided by the square root of (their variance + 1e-7)")
    return FrontEnd("waveform", {"normalise": normalised, "epsilon": 1e-7}, tuple(steps), {})


def _log_mel(extractor: ParakeetFeatureExtractor) -> FrontEnd:
    fft, hop, length = extractor.n_fft, extractor.hop_length, extractor.win_length
    emphasis = extractor.preemphasis or 0.0
    settings = {
        "preemphasis": emphasis,
        "fft": fft,
        "hop": hop,
        "power": 2,
        "log_guard": _LOG_GUARD,
        "normalise": "bins",
        "epsilon": _EPSILON,
    }
    left = (fft - length) // 2
    window = nn.functional.pad(torch.hann_window(length, periodic=False), (left, fft - length - left))
    steps = (
        f"y[0] = x[0], y[t] = x[t] - {emphasis:g} x[t - 1]",
        f"{fft // 2} zeros before and behind",
        f"samples / {hop} frames (rounded down), a window of {fft} samples every {hop}, multiplied with `window` "
        f"(Hann of {length}, symmetric, in the middle)",
        "squared magnitude of the real Fourier transform",
        "multiplied with `filters` (Slaney's mel scale and norm)",
        "natural logarithm of (that + 2^-24)",
        "of every band: minus its mean over frames, divided by (its standard deviation, of n - 1, + 1e-5)",
    )
    return FrontEnd("spectrum", settings, steps, {"window": window, "filters": extractor.mel_filters.float()})


def _log_spectrogram(extractor: LogSpectrogramFeatureExtractor) -> FrontEnd:
    fft, hop = extractor.win_length, extractor.hop_length
    settings = {
        "preemphasis": 0.0,
        "fft": fft,
        "hop": hop,
        "power": 1,
        "log_guard": 1.0,
        "normalise": "utterance",
        "epsilon": _EPSILON,
    }
    steps = (
        f"{fft // 2} zeros before and behind",
        f"samples / {hop} frames (rounded down), a window of {fft} samples every {hop}, multiplied with `window` "
        "(Hamming, symmetric)",
        "magnitude of the real Fourier transform",
        "natural logarithm of (1 + that)",
        "minus the mean of all numbers, divided by (their standard deviation, of n, + 1e-5)",
    )
    return FrontEnd("spectrum", settings, steps, {"window": torch.hamming_window(fft, periodic=False)})
