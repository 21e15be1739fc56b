"""Exact top-k over many tensors: a two-pass radix select over the bits of the scores.

Non-negative IEEE floats sort like their bit patterns read as integers. A histogram of the upper 16 bits finds the bin
that holds the k-th largest score, a histogram of the lower 16 bits inside that bin finds the score itself: two passes,
no sort, no copy of the whole model.
"""

import math
from collections.abc import Iterator, Mapping

import numpy as np
import torch
from torch import Tensor

from audio_lottery.errors import MaskError
from audio_lottery.pruning.mask import Mask

_CHUNK = 1 << 20
_INFINITY_BITS = 0x7F800000


def exact_count(density: float, total: int) -> int:
    """The integer nearest to ``density · total``, halves upwards.

    Raises:
        MaskError: the density is outside (0, 1], or so small that no weight would be kept.
    """
    if not 0 < density <= 1:
        raise MaskError(f"density {density} is outside (0, 1]")
    count = math.floor(density * total + 0.5)
    if count < 1:
        raise MaskError(f"density {density} of {total} weights keeps none; ask for at least {1 / total:.3g}")
    return count


def keep_largest(scores: Mapping[str, Tensor], keep: int, among: Mask | None = None) -> Mask:
    """The mask of the ``keep`` largest scores over all tensors together.

    Ties are broken by position: the earlier tensor, then the lower flat index, is kept.

    Args:
        scores: name → non-negative finite float32 scores, any shapes, on the CPU.
        keep: how many to keep, exactly.
        among: only weights that this mask keeps may be kept, so masks only shrink.

    Raises:
        MaskError: a score is NaN, infinite or negative, or fewer than ``keep`` weights are there to choose from.
    """
    available = among.kept if among is not None else sum(score.numel() for score in scores.values())
    if not 1 <= keep <= available:
        raise MaskError(f"cannot keep {keep} weights: {available} are there to choose from")

    upper = np.zeros(1 << 16, dtype=np.int64)
    for bits in _candidate_bits(scores, among):
        upper += np.bincount(bits >> 16, minlength=1 << 16)
    high, above = _bin_of(upper, keep)

    lower = np.zeros(1 << 16, dtype=np.int64)
    for bits in _candidate_bits(scores, among):
        lower += np.bincount(bits[bits >> 16 == high] & 0xFFFF, minlength=1 << 16)
    low, above_in_bin = _bin_of(lower, keep - above)
    threshold = (high << 16) | low
    ties_to_keep = keep - above - above_in_bin

    kept: dict[str, Tensor] = {}
    for name, score in scores.items():
        bits = _bits(score)
        chosen = bits > threshold
        ties = bits == threshold
        if among is not None:
            allowed = among[name].numpy().reshape(-1)
            chosen &= allowed
            ties &= allowed
        if ties_to_keep:
            first = np.flatnonzero(ties)[:ties_to_keep]
            chosen[first] = True
            ties_to_keep -= first.size
        kept[name] = torch.from_numpy(chosen.reshape(score.shape))
    return Mask(kept)


def _bits(score: Tensor) -> np.ndarray:
    # + 0.0 turns -0.0, whose bits are those of a huge number, into 0.0
    return (score + 0.0).contiguous().numpy().reshape(-1).view(np.uint32)


def _candidate_bits(scores: Mapping[str, Tensor], among: Mask | None) -> Iterator[np.ndarray]:
    for name, score in scores.items():
        if score.dtype != torch.float32:
            raise MaskError(f"scores of '{name}' are {score.dtype}; float32 is needed")
        flat = score.reshape(-1)
        allowed = None if among is None else among[name].reshape(-1).numpy()
        for start in range(0, flat.numel(), _CHUNK):
            bits = _bits(flat[start : start + _CHUNK])
            if allowed is not None:
                bits = bits[allowed[start : start + _CHUNK]]
            if bits.size and int(bits.max()) >= _INFINITY_BITS:
                raise MaskError(
                    f"'{name}' has weights that are NaN or infinite; the model that was trained has diverged"
                )
            yield bits


def _bin_of(histogram: np.ndarray, rank: int) -> tuple[int, int]:
    """The bin with the ``rank``-th largest entry, and how many entries lie in the bins above it."""
    from_above = np.cumsum(histogram[::-1])
    position = int(np.searchsorted(from_above, rank))
    bin_index = histogram.size - 1 - position
    return bin_index, int(from_above[position] - histogram[bin_index])
