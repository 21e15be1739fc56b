"""Sample-rate conversion and levelling that give the same bits on every machine.

Float arithmetic is not associative, so a matrix product may differ in its last bit between two processors. Here the
samples and the filter are *integers* held in float64, every partial sum stays below 2**53, and so every order of
summation gives the same, exact result.
"""

from functools import lru_cache
from math import gcd

import numpy as np
import numpy.typing as npt

_HALF = 24  # input samples on either side of the output sample
_SCALE = 1 << 15
_GROUP = 32  # output samples made by one matrix product
_NOISE_LEN = 1 << 20

Samples = npt.NDArray[np.int16]
Signal = npt.NDArray[np.float64]


@lru_cache(maxsize=4)
def _plan(source: int, target: int) -> tuple[int, int, list[tuple[int, Signal]]]:
    """The period in input and output samples, and per group of outputs its first input and its filter matrix."""
    common = gcd(source, target)
    step, period = source // common, target // common
    cutoff = min(1.0, target / source) * 0.94
    groups = []
    for begin in range(0, period, _GROUP):
        outputs = np.arange(begin, min(begin + _GROUP, period))
        first = begin * step // period - _HALF + 1
        last = int(outputs[-1]) * step // period + _HALF
        distance = outputs[None, :] * step / period - np.arange(first, last + 1)[:, None]
        window = np.i0(8.0 * np.sqrt(np.clip(1 - (distance / _HALF) ** 2, 0, None))) / np.i0(8.0)
        window[np.abs(distance) >= _HALF] = 0
        groups.append((first, np.rint(_SCALE * cutoff * np.sinc(cutoff * distance) * window)))
    return step, period, groups


def resample(samples: Samples, source: int, target: int) -> Signal:
    """``samples`` at ``source`` Hz converted to ``target`` Hz by a windowed-sinc filter; still in 16-bit units."""
    step, period, groups = _plan(source, target)
    length = -(-len(samples) * target // source)
    blocks = -(-length // period)
    margin = 2 * _HALF + step
    padded = np.zeros(margin + (blocks + 2) * step + margin)
    padded[margin : margin + len(samples)] = samples
    out = np.empty((blocks, period))
    for index, (first, matrix) in enumerate(groups):
        windows = np.lib.stride_tricks.sliding_window_view(padded[margin + first :], len(matrix))
        chunk = windows[: blocks * step : step] @ matrix
        out[:, index * _GROUP : index * _GROUP + chunk.shape[1]] = chunk
    return out.reshape(-1)[:length] / _SCALE


def trim(samples: Samples, threshold: int = 100) -> Samples:
    """``samples`` without the silence before and after the speech."""
    loud = np.flatnonzero(np.abs(samples.astype(np.int32)) > threshold)
    return samples[loud[0] : loud[-1] + 1] if len(loud) else samples


def level(signal: Signal, rms: float) -> Signal:
    """``signal`` scaled to ``rms`` (16-bit units), or to a peak of 29,000 where that would be louder."""
    now = np.sqrt(np.sum(np.rint(signal) ** 2) / len(signal))
    return signal * min(rms / now, 29000 / np.max(np.abs(signal)))


@lru_cache(maxsize=2)
def _noise_table(colour: str) -> Signal:
    # RandomState's streams are frozen by NumPy's policy; Generator's are not. All values are whole numbers.
    random = np.random.RandomState(1)
    table = random.randint(-100, 101, _NOISE_LEN).astype(np.float64)
    if colour == "pink":  # Voss-McCartney: random steps held for 2, 4, 8 ... samples, added up
        for octave in range(1, 11):
            held = random.randint(-100, 101, (_NOISE_LEN >> octave) + 1).astype(np.float64)
            table += np.repeat(held, 1 << octave)[:_NOISE_LEN]
    return table / np.sqrt(np.sum(table**2) / len(table))


def noise(colour: str, start: int, count: int) -> Signal:
    """``count`` samples of noise of unit power: the room in which everything is said, for none is quite silent.

    Args:
        colour: ``white``, or ``pink`` (power falling with frequency, as in most rooms).
        start: where in the (repeating) noise to begin, so that no two utterances need share it.
        count: samples.
    """
    return np.take(_noise_table(colour), np.arange(start, start + count), mode="wrap")


def to_pcm(signal: Signal) -> Samples:
    """``signal`` rounded to 16-bit samples."""
    return np.clip(np.rint(signal), -32768, 32767).astype(np.int16)
