"""Log spectrograms, as a transformers feature extractor."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from transformers import BatchFeature, SequenceFeatureExtractor


class LogSpectrogramFeatureExtractor(SequenceFeatureExtractor):
    """log(1 + |STFT|) of 20 ms Hamming windows every 10 ms, each utterance scaled to zero mean and unit variance.

    Every utterance is transformed by itself and padded with zeros afterwards, so that its numbers do not depend on its
    batch.

    Args:
        feature_size: frequency bins, ``win_length`` / 2 + 1.
        sampling_rate: in Hz.
        padding_value: of frames behind the end.
        win_length: samples of a window, which is also the FFT's size.
        hop_length: samples between windows.
    """

    model_input_names = ["input_features", "attention_mask"]  # noqa: RUF012 (transformers reads it so)

    def __init__(
        self,
        feature_size: int = 161,
        sampling_rate: int = 16_000,
        padding_value: float = 0.0,
        win_length: int = 320,
        hop_length: int = 160,
        **fields: Any,
    ) -> None:
        super().__init__(feature_size=feature_size, sampling_rate=sampling_rate, padding_value=padding_value, **fields)
        self.win_length = win_length
        self.hop_length = hop_length

    def frames(self, samples: Any) -> Any:
        """Frames of ``samples`` samples, a number or a tensor: one for every whole hop."""
        return samples // self.hop_length

    def __call__(
        self,
        raw_speech: np.ndarray | Sequence[np.ndarray] | Sequence[float],
        sampling_rate: int | None = None,
        return_tensors: str | None = None,
        **options: Any,
    ) -> BatchFeature:
        """Features of one utterance or several.

        Args:
            raw_speech: mono samples of each utterance.
            sampling_rate: theirs; refused where it is not the extractor's.
            return_tensors: as everywhere in transformers.
            options: padding and the like are accepted and mean nothing: batches are padded to the longest.

        Returns:
            ``input_features`` [batch, frames, bins] and ``attention_mask`` [batch, frames].

        Raises:
            ValueError: another sampling rate.
        """
        if sampling_rate not in (None, self.sampling_rate):
            raise ValueError(f"the model was trained on {self.sampling_rate} Hz and the audio has {sampling_rate} Hz")
        single = isinstance(raw_speech, np.ndarray) and raw_speech.ndim == 1
        single = single or not isinstance(raw_speech[0], np.ndarray | Sequence | torch.Tensor)
        utterances = [raw_speech] if single else raw_speech
        spectrograms = [self._log_spectrogram(torch.as_tensor(np.asarray(one, np.float32))) for one in utterances]
        lengths = torch.tensor([len(one) for one in spectrograms])
        features = torch.nn.utils.rnn.pad_sequence(spectrograms, batch_first=True, padding_value=self.padding_value)
        mask = (torch.arange(features.shape[1]) < lengths[:, None]).long()
        return BatchFeature({"input_features": features, "attention_mask": mask}, tensor_type=return_tensors)

    def _log_spectrogram(self, audio: torch.Tensor) -> torch.Tensor:
        window = torch.hamming_window(self.win_length, periodic=False)
        spectrum = torch.stft(
            audio, self.win_length, self.hop_length, window=window, pad_mode="constant", return_complex=True
        )
        logs = torch.log1p(spectrum.abs()).T[: self.frames(len(audio))]
        if not len(logs):
            return logs
        return (logs - logs.mean()) / (logs.std(unbiased=False) + 1e-5)
