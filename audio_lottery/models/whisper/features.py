"""Log-mel features of windows of one length; longer audio is cut into several where it is quietest."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from audio_lottery.config import SpecAugmentConfig
from audio_lottery.data.audio import SAMPLE_RATE
from audio_lottery.models.base import Inputs
from audio_lottery.models.specaugment import FeatureMasking

POSITION = 320
"""Samples of an encoder position: two feature frames of 10 ms."""

MARGIN = SAMPLE_RATE
"""Silence behind the speech of a window, in samples: without it tiny.en wrote five times as many words as were said."""

ROUNDING = SAMPLE_RATE // 100
"""Samples that an utterance may be longer than its manifest, or the speed it is played at, says."""

OWNERS = "owners"
"""Input beside the features where an utterance has several windows: which utterance each row belongs to."""

# Speech is cut within the last third of what a window takes, at the middle of the quietest tenth of a second.
_SEARCHED = 3
_QUIET = SAMPLE_RATE // 10


@dataclass(frozen=True)
class WindowFeatures:
    """A feature extractor that pads every utterance to the same window, whatever is beside it.

    Attributes:
        extractor: of Whisper.
        window: samples, a multiple of `POSITION`.
    """

    extractor: Any
    window: int

    @property
    def longest(self) -> int:
        """Most samples of speech that a window takes, but for `ROUNDING`."""
        return self.window - MARGIN

    def __call__(self, audio: Sequence[np.ndarray]) -> Inputs:
        """``input_features`` [windows, bins, 2 × positions], and `OWNERS` [windows] where one is cut."""
        pieces = [cut(samples, self.longest + ROUNDING) for samples in audio]
        features = self.extractor(
            [piece for parts in pieces for piece in parts],
            sampling_rate=SAMPLE_RATE,
            padding="max_length",
            max_length=self.window,
            return_tensors="pt",
        )
        inputs = {"input_features": features["input_features"]}
        if any(len(parts) > 1 for parts in pieces):
            counts = torch.tensor([len(parts) for parts in pieces])
            inputs[OWNERS] = torch.repeat_interleave(torch.arange(len(pieces)), counts)
        return inputs

    def padded(self, seconds: np.ndarray) -> np.ndarray:
        """Seconds of windows that utterances of so many seconds fill, at most."""
        shortest = self.longest - self.longest // _SEARCHED
        samples = np.asarray(seconds, dtype=np.float64) * SAMPLE_RATE
        windows = np.where(samples <= self.longest, 1, np.ceil(samples / shortest))
        return windows * (self.window / SAMPLE_RATE)


def cut(audio: np.ndarray, longest: int) -> list[np.ndarray]:
    """Pieces of at most ``longest`` samples, end to end; the cuts lie where the speech is quietest.

    Args:
        audio: [samples].
        longest: samples.
    """
    pieces = []
    while len(audio) > longest:
        first = longest - longest // _SEARCHED
        width = min(_QUIET, longest - first)
        sums = np.concatenate([[0.0], np.cumsum(np.square(audio[first:longest], dtype=np.float64))])
        place = first + int((sums[width:] - sums[:-width]).argmin()) + width // 2
        pieces.append(audio[:place])
        audio = audio[place:]
    return [*pieces, audio]


@dataclass(frozen=True)
class WindowMasking:
    """SpecAugment over the frames that hold speech, on features whose bins come before their frames.

    Attributes:
        settings: shares and lengths.
        hop: samples from one frame to the next.
    """

    settings: SpecAugmentConfig
    hop: int

    def __call__(self, inputs: Inputs, samples: Tensor, rngs: Sequence[np.random.Generator]) -> Inputs:
        """See `audio_lottery.models.base.Masking`."""
        if OWNERS in inputs:  # longer than the window: the loss will say so
            return inputs
        features = inputs["input_features"].transpose(1, 2)
        valid = torch.div(samples, self.hop, rounding_mode="floor")
        mask = torch.arange(features.shape[1]) < valid[:, None]
        masked = FeatureMasking(self.settings)({"input_features": features, "attention_mask": mask}, samples, rngs)
        return {**inputs, "input_features": masked["input_features"].transpose(1, 2).contiguous()}
