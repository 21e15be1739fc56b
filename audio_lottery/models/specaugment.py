"""SpecAugment on spectral features: spans of frames and of bins set to zero (Park et al. 2019, arXiv:1904.08779)."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from audio_lottery.config import SpecAugmentConfig
from audio_lottery.models.base import Inputs


@dataclass(frozen=True)
class FeatureMasking:
    """Spans of valid frames and of bins set to zero, the mean of normalised features.

    How many spans there are follows wav2vec 2.0 (Baevski et al. 2020, arXiv:2006.11477), as transformers masks its
    hidden states: ``prob`` · size / length, rounded up or down at random, each at a random place; they may overlap.

    Attributes:
        settings: shares and lengths.
    """

    settings: SpecAugmentConfig

    def __call__(self, inputs: Inputs, samples: Tensor, rngs: Sequence[np.random.Generator]) -> Inputs:
        """See `audio_lottery.models.base.Masking`; ``attention_mask`` says which frames are valid."""
        features = inputs["input_features"].clone()
        valid = inputs["attention_mask"].sum(-1).tolist()
        settings = self.settings
        for row, frames, rng in zip(features, valid, rngs, strict=True):
            for start in _starts(frames, settings.time_prob, settings.time_length, rng):
                row[start : min(start + settings.time_length, frames)] = 0.0
            for start in _starts(row.shape[1], settings.feature_prob, settings.feature_length, rng):
                row[:frames, start : start + settings.feature_length] = 0.0
        return {**inputs, "input_features": features}


def feature_masking(settings: SpecAugmentConfig) -> FeatureMasking | None:
    """The masking of the settings; None where it is off."""
    return FeatureMasking(settings) if settings.time_prob > 0 or settings.feature_prob > 0 else None


def _starts(size: int, prob: float, length: int, rng: np.random.Generator) -> list[int]:
    """Where spans begin: within ``size``, none longer than it."""
    if prob <= 0 or size <= length:
        return []
    count = int(prob * size / length + rng.random())
    return rng.integers(0, size - length + 1, count).tolist()
