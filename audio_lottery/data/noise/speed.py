"""Changing the rate of samples: speed perturbation."""

from fractions import Fraction

import numpy as np
from scipy.signal import resample_poly


def change_speed(samples: np.ndarray, factor: float) -> np.ndarray:
    """Play samples faster or slower, tempo and pitch together, as ``sox speed`` does.

    Ko et al. 2015, "Audio augmentation for speech recognition". Resampled by a polyphase filter at the rational number
    nearest to ``factor`` with a denominator up to 10,000, so 0.9, 1.1 and 0.9137 are exact and the filter stays small.

    Args:
        samples: ``[samples]``.
        factor: above 1 is faster.

    Returns:
        float32 ``[⌈samples / factor⌉]``; the input itself where the factor is 1.
    """
    ratio = Fraction(factor).limit_denominator(10_000)
    if ratio == 1:
        return samples
    return resample_poly(samples, ratio.denominator, ratio.numerator).astype(np.float32, copy=False)
