"""Signals for the tests: what speech does to a level meter, and a second way to measure its level."""

from pathlib import Path

import numpy as np
import soundfile as sf
from scipy.signal import lfilter

RATE = 16_000


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def write(path: Path, samples: np.ndarray, rate: int = RATE) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    sf.write(path, samples, rate, subtype="PCM_16")
    return path


def speech_like(seconds: float, seed: int, level: float = 0.05, pauses: bool = True) -> np.ndarray:
    """Low-passed noise under syllables of about 4 Hz, with digital pauses of 0.3-0.8 s between phrases: float32."""
    draw = rng(seed)
    n = int(seconds * RATE)
    carrier = lfilter([1.0], [1.0, -0.9], draw.standard_normal(n))
    syllables = 0.55 + 0.45 * np.sin(2 * np.pi * 4 * np.arange(n) / RATE + draw.uniform(0, 6))
    speech = carrier * syllables
    speech *= level / np.sqrt(np.mean(speech**2))
    at = int(draw.uniform(0.3, 1.0) * RATE)
    while pauses and at < n:
        length = int(draw.uniform(0.3, 0.8) * RATE)
        speech[at : at + length] = 0
        at += length + int(draw.uniform(0.5, 1.5) * RATE)
    return speech.astype(np.float32)


def literal_active_level(speech: np.ndarray, rate: int = RATE) -> float:
    """Active level in dB, P.56 (12/2011) method B step by step: 15 thresholds of 16 bits, counters, bisection.

    One sample after another, as the recommendation words it; slow.
    """
    decay = np.exp(-1 / (0.03 * rate))
    hangover = int(np.ceil(0.2 * rate))
    thresholds = [2.0**-k for k in range(15, 0, -1)]
    active = [0] * 15
    hang = [hangover] * 15
    p = q = energy = 0.0
    for sample in speech.tolist():
        energy += sample * sample
        p = decay * p + (1 - decay) * abs(sample)
        q = decay * q + (1 - decay) * p
        for j, threshold in enumerate(thresholds):
            if q >= threshold:
                active[j] += 1
                hang[j] = 0
            elif hang[j] < hangover:
                active[j] += 1
                hang[j] += 1
            else:
                break  # higher thresholds have been quiet for longer
    return _interpolate(energy, active, thresholds)


def second_active_level(speech: np.ndarray, rate: int = RATE) -> float:
    """The same as `literal_active_level`, threshold by threshold; fast enough for hundreds of utterances."""
    decay = np.exp(-1 / (0.03 * rate))
    hangover = int(np.ceil(0.2 * rate))
    q = np.abs(speech.astype(np.float64))
    for _ in range(2):
        q = lfilter([1 - decay], [1, -decay], q)
    index = np.arange(len(q))
    thresholds = [2.0**-k for k in range(15, 0, -1)]
    active = []
    for threshold in thresholds:
        last = np.maximum.accumulate(np.where(q >= threshold, index, -hangover - 1))
        active.append(int(np.count_nonzero(index - last <= hangover)))
    return _interpolate(float(np.sum(speech.astype(np.float64) ** 2)), active, thresholds)


def _interpolate(energy: float, active: list[int], thresholds: list[float]) -> float:
    previous = None
    for count, threshold in zip(active, thresholds, strict=True):
        if count == 0:
            break
        point = (10 * np.log10(energy / count), 20 * np.log10(threshold))
        if point[0] - point[1] <= 15.9:
            assert previous is not None
            low, high = previous, point
            for _ in range(60):
                middle = ((low[0] + high[0]) / 2, (low[1] + high[1]) / 2)
                low, high = (middle, high) if middle[0] - middle[1] > 15.9 else (low, middle)
            return float(high[0])
        previous = point
    raise AssertionError("P.56 has no answer for this signal")
