"""CNN-LSTM-CTC as a backbone."""

from typing import Any

from torch import Tensor
from transformers import PreTrainedConfig, Wav2Vec2Processor

from audio_lottery.config import ModelConfig, SpecAugmentConfig
from audio_lottery.models.base import Masking
from audio_lottery.models.cnn_lstm.configuration import CnnLstmConfig
from audio_lottery.models.cnn_lstm.features import LogSpectrogramFeatureExtractor
from audio_lottery.models.ctc import CtcBackbone
from audio_lottery.models.specaugment import feature_masking
from audio_lottery.models.vocabulary import make_tokenizer

_TYPE = {"model_type": CnnLstmConfig.model_type}


class CnnLstm(CtcBackbone):
    """Deep Speech 2's bidirectional model (Amodei et al. 2016, arXiv:1512.02595), 50 frames a second."""

    family = "cnn_lstm"
    presets = {  # noqa: RUF012
        # 0.8 M parameters, for the demo's speech
        "cnn-lstm-mini": _TYPE | {"conv_channels": 8, "hidden_size": 128, "num_hidden_layers": 2},
        # 6.7 M parameters, for AN4 and other small corpora
        "cnn-lstm-small": _TYPE | {"conv_channels": 16, "hidden_size": 320, "num_hidden_layers": 3},
        # 86.6 M parameters: the published study's
        "cnn-lstm-base": _TYPE,
    }

    @classmethod
    def claims(cls, architecture: PreTrainedConfig) -> bool:
        """Checkpoints of `CnnLstmForCTC`."""
        return isinstance(architecture, CnnLstmConfig)

    @classmethod
    def make_processor(cls, architecture: Any, config: ModelConfig) -> Any:
        """Log spectrograms of 20 ms windows every 10 ms."""
        bins = architecture.num_frequency_bins
        extractor = LogSpectrogramFeatureExtractor(feature_size=bins, win_length=2 * (bins - 1))
        return Wav2Vec2Processor(feature_extractor=extractor, tokenizer=make_tokenizer(config))

    def input_lengths(self, samples: Tensor) -> Tensor:
        """Frames of the spectrogram."""
        lengths: Tensor = self.processor.feature_extractor.frames(samples)
        return lengths

    def masking(self, settings: SpecAugmentConfig) -> Masking | None:
        """Spans of frames and bins of the spectrogram."""
        return feature_masking(settings)
