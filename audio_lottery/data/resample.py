"""Sample-rate conversion of recordings, by libsoxr: its cost does not depend on the ratio of the two rates.

Against a tone, from 8, 11.025, 22.05, 24, 32, 44.1, 48 or 96 kHz to 16 kHz: error up to 0.8 of the lower Nyquist
frequency below -68 dB, loss 0.011 dB at 0.92 of it, aliases and images from 1.02 of it on below -100 dB, no time shift.
"""

from collections.abc import Iterable, Iterator
from math import gcd

import numpy as np
import soxr

LOWEST_RATE = 1_000
HIGHEST_RATE = 1_000_000
"""Sampling rates in Hz that recordings may have: wider than any recorder's; beyond them a header is damaged."""

# The impulse response has fallen below 1e-7 this many samples of the lower rate from its centre (100 were measured).
_REACH = 128


def resample(samples: np.ndarray, old: int, new: int) -> np.ndarray:
    """Samples at another rate; the first stands for the same instant before and after.

    Args:
        samples: ``[samples]``, floating point.
        old: their rate in Hz.
        new: the rate to convert to.

    Returns:
        float32 ``[⌈samples · new / old⌉]``: as many as have their instant within the duration. At equal rates the
        samples themselves.
    """
    if old == new:
        return samples
    # libsoxr rounds the length; zeros, which it takes to follow anyhow, make it never too short.
    padded = np.pad(samples.astype(np.float32, copy=False), (0, -(-old // new)))
    return soxr.resample(padded, old, new, quality="HQ")[: -(-len(samples) * new // old)]


def resample_blocks(blocks: Iterable[np.ndarray], old: int, new: int) -> Iterator[np.ndarray]:
    """`resample` of a recording that comes in blocks: the same samples, in memory that does not grow with it.

    Args:
        blocks: ``[samples]`` each, floating point.
        old: their rate in Hz.
        new: the rate to convert to.

    Yields:
        float32 blocks, of other lengths than those that came in.
    """
    if old == new:
        yield from blocks
        return
    stream = soxr.ResampleStream(old, new, 1, dtype="float32", quality="HQ")
    read = given = 0
    for block in blocks:
        read += len(block)
        out = stream.resample_chunk(block.astype(np.float32, copy=False))
        given += len(out)
        yield out
    padding = np.zeros(-(-old // new), np.float32)  # as `resample` does
    yield stream.resample_chunk(padding, last=True)[: -(-read * new // old) - given]


def surroundings(first: int, last: int, old: int, new: int) -> tuple[int, int]:
    """The samples that a piece must be resampled with to come out as it does from the whole.

    Args:
        first: where the piece begins.
        last: where it ends.
        old: its rate in Hz.
        new: the rate to convert to.

    Returns:
        Where to begin, at an instant that both rates have a sample at, and where to end (maybe after the recording).
    """
    reach = -(-_REACH * old // min(old, new))
    period = old // gcd(old, new)
    return max(0, first - reach) // period * period, last + reach
