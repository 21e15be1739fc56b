"""Text while audio comes in: features, encoder and search, each with the state that it goes on from."""

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from audio_lottery.errors import ModelError
from audio_lottery.models.transducer.encoder import LayerState
from audio_lottery.models.transducer.features import LogMelFeatureExtractor
from audio_lottery.models.transducer.greedy import Writing, greedy, start


class FeatureStream:
    """The features of a recording that comes in pieces: the same numbers as of the whole."""

    def __init__(self, extractor: LogMelFeatureExtractor) -> None:
        self._extractor = extractor
        self._waiting = torch.zeros(extractor.context)

    def __call__(self, samples: Tensor) -> Tensor:
        """The next samples → [frames, bins], the frames that are whole now."""
        waiting = torch.cat([self._waiting, samples])
        hop = self._extractor.hop_length
        frames = (len(waiting) - self._extractor.context) // hop
        self._waiting = waiting[frames * hop :]
        return self._extractor.transform(waiting)


def read_stream(module: Any, extractor: LogMelFeatureExtractor, chunks: Iterable[np.ndarray]) -> Iterator[Writing]:
    """Greedy search over chunks; see `Transducer.stream`. The module is put into evaluation mode.

    Yields:
        Behind every chunk, what has been written so far: the same object, longer each time.
    """
    if module.config.bidirectional:
        raise ModelError(
            "this transducer reads utterances from both ends and cannot stream; train one with "
            "--model.overrides '{bidirectional: false}'"
        )
    module.eval()
    features = FeatureStream(extractor)
    device = module.joint.head.weight.device
    states: list[LayerState | None] = [None] * len(module.encoder.layers)
    with torch.no_grad():
        search = start(module, 1)
    for chunk in chunks:
        samples = _checked(chunk)
        with torch.no_grad():
            out, after = module.encoder.step(features(samples).to(device)[None], states)
            states = list(after)
            if out.shape[1]:
                search = greedy(module, module.encoder_projector(out), [out.shape[1]], search)
        yield search.written[0]


def _checked(chunk: np.ndarray) -> Tensor:
    samples = np.asarray(chunk)
    if samples.ndim != 1 or not np.issubdtype(samples.dtype, np.floating):
        raise ModelError(
            f"a chunk of audio is {samples.dtype} of shape {samples.shape}; give mono samples as floats between -1 and "
            "1, one dimension"
        )
    return torch.from_numpy(samples.astype(np.float32))
