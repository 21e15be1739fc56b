"""transformers' Parakeet transducers: a FastConformer that labels are read off by RNN-T, or with durations by TDT."""

from typing import Any

import torch
from torch import Tensor
from transformers import (
    ParakeetFeatureExtractor,
    ParakeetRNNTConfig,
    ParakeetTDTConfig,
    PreTrainedConfig,
    Wav2Vec2Processor,
)

from audio_lottery.config import ModelConfig
from audio_lottery.models import pretrained
from audio_lottery.models.base import Inputs
from audio_lottery.models.conformer import Conformer, adapt_parakeet
from audio_lottery.models.start import start_with
from audio_lottery.models.transducer import TransducerBackbone
from audio_lottery.models.vocabulary import make_tokenizer


def _preset(model_type: str) -> dict[str, Any]:
    encoder = Conformer.presets["conformer-mini"]["encoder_config"]
    return {
        "model_type": model_type,
        "encoder_config": encoder,
        "decoder_hidden_size": 128,
        "num_decoder_layers": 1,
    }


class ParakeetTransducer(TransducerBackbone):
    """RNN-T (Graves 2012, arXiv:1211.3711) and TDT (Xu et al. 2023, arXiv:2304.06795) on a FastConformer.

    The loss is computed here and not by the modules: these tell labels from padding by an id that may be a label's, and
    give no loss of single utterances.
    """

    family = "parakeet_transducer"
    presets = {  # noqa: RUF012
        # 1.2 M parameters, for the demo's speech; 25 frames a second
        "parakeet-rnnt-mini": _preset(ParakeetRNNTConfig.model_type),
        "parakeet-tdt-mini": _preset(ParakeetTDTConfig.model_type),
    }

    def __init__(self, module: Any, processor: Any) -> None:
        super().__init__(module, processor)
        adapt_parakeet(module)
        start_with(module, [module.config.blank_token_id])

    @classmethod
    def claims(cls, architecture: PreTrainedConfig) -> bool:
        """Checkpoints of `ParakeetForRNNT` and `ParakeetForTDT`."""
        return isinstance(architecture, ParakeetRNNTConfig)

    @classmethod
    def task_of(cls, architecture: PreTrainedConfig) -> pretrained.Task:
        """See `TransducerBackbone.task_of`."""
        return pretrained.TDT if isinstance(architecture, ParakeetTDTConfig) else pretrained.RNNT

    @classmethod
    def make_processor(cls, architecture: Any, config: ModelConfig) -> Any:
        """Log-mel features of 25 ms windows every 10 ms, normalised per utterance and bin."""
        extractor = ParakeetFeatureExtractor(feature_size=architecture.encoder_config.num_mel_bins)
        return Wav2Vec2Processor(feature_extractor=extractor, tokenizer=make_tokenizer(config))

    @property
    def _hop(self) -> int:
        return int(self.processor.feature_extractor.hop_length)

    @property
    def shortest(self) -> int:
        """Two feature frames: the variance of one is not a number."""
        return 2 * self._hop

    @property
    def frame_seconds(self) -> float:
        """See `TransducerBackbone.frame_seconds`."""
        factor: int = self.module.config.encoder_config.subsampling_factor
        factor = 1 << (factor.bit_length() - 1)  # of 6 the encoder makes 4
        return self._hop * factor / float(self.processor.feature_extractor.sampling_rate)

    def frames(self, samples: Tensor) -> Tensor:
        """The encoder's own formula, of whole hops."""
        lengths = self.module.encoder._get_subsampling_output_length(
            torch.div(samples, self._hop, rounding_mode="floor")
        )
        return torch.where(samples < self.shortest, 0, lengths.to(torch.long))

    def encode(self, inputs: Inputs, samples: Tensor) -> tuple[Tensor, Tensor]:
        """See `TransducerBackbone.encode`."""
        encoded: Tensor = self.module.get_audio_features(**inputs).pooler_output
        return encoded, self.frames(samples)
