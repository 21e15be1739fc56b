"""From audio to what a model takes: the feature extractor, and what padding does to it put right."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from audio_lottery.data.audio import SAMPLE_RATE

# transformers' names for "1 where there is speech, 0 where there is padding", over samples or over frames.
_MASKS = ("attention_mask", "padding_mask")


class FeatureExtraction:
    """A feature extractor whose padding leaves the utterances as they are alone.

    Some extractors (wav2vec2-base's: ``do_normalize`` without ``return_attention_mask``) take mean and variance over
    the padded row, so that a short utterance beside a long one is scaled up and its padding is not zero. With the mask
    they know where each utterance ends. So the mask is always asked for, and left out again where the extractor does
    not give one by itself, because the model was not trained with one.

    Attributes:
        extractor: any feature extractor of transformers for audio.
    """

    def __init__(self, extractor: Any) -> None:
        self.extractor = extractor
        second = np.zeros(SAMPLE_RATE, np.float32)
        own = extractor([second], sampling_rate=SAMPLE_RATE, padding=True, return_tensors="pt")
        self._dropped = [name for name in _MASKS if name not in own]

    def __call__(self, audio: Sequence[np.ndarray]) -> dict[str, Tensor]:
        """The model's inputs, named as transformers names them, padded to the longest.

        Args:
            audio: the samples of each utterance, at `SAMPLE_RATE`.
        """
        features = self.extractor(
            list(audio), sampling_rate=SAMPLE_RATE, padding=True, return_tensors="pt", return_attention_mask=True
        )
        return {name: tensor for name, tensor in features.items() if name not in self._dropped}


def input_lengths(inputs: Mapping[str, Tensor], samples: Tensor) -> Tensor:
    """How much of each row of a model's inputs is no padding, in samples or, of mel features, in frames.

    Args:
        inputs: what `FeatureExtraction` gave.
        samples: [batch], samples of each utterance without padding.

    Returns:
        [batch]. Without a mask all frames of mel features count: the extractor does not say which are padding, and the
        model takes all of them for speech.
    """
    for name in _MASKS:
        if name in inputs:
            return inputs[name].sum(dim=-1)
    if "input_features" in inputs:
        return torch.full_like(samples, inputs["input_features"].shape[1])
    return samples
