"""CTC models on waveforms: wav2vec 2.0 and what is built like it (HuBERT, WavLM, SEW, data2vec, UniSpeech …)."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from torch import Tensor
from transformers import MODEL_FOR_CTC_MAPPING, PreTrainedConfig

from audio_lottery.config import ModelConfig, SpecAugmentConfig
from audio_lottery.models.base import Inputs, Masking, Predictions
from audio_lottery.models.characters import build_processor
from audio_lottery.models.convolution_masks import mask_convolutions
from audio_lottery.models.ctc import CtcBackbone
from audio_lottery.models.vocabulary import set_fields

# feat_extract_norm="layer" with an attention mask keeps outputs independent of padding; layerdrop breaks DDP.
_COMMON: dict[str, Any] = {
    "model_type": "wav2vec2",
    "feat_extract_norm": "layer",
    "do_stable_layer_norm": True,
    "conv_bias": True,
    "layerdrop": 0.0,
    "feat_proj_dropout": 0.0,
    "final_dropout": 0.0,
    "num_conv_pos_embedding_groups": 16,
}


class Wav2Vec2(CtcBackbone):
    """wav2vec 2.0 (Baevski et al. 2020, arXiv:2006.11477) and its like: samples in, SpecAugment on hidden states."""

    family = "wav2vec2"
    presets = {  # noqa: RUF012
        # 0.8 M parameters, 50 frames a second. transformers' own initialisation (0.02) is made for widths of 768 and
        # leaves layers of 128 nearly silent: with 0.08, about 1/sqrt(width), the CTC plateau ends after a third of the
        # steps.
        "w2v2-mini": _COMMON
        | {
            "conv_dim": [32, 64, 128, 128],
            "conv_kernel": [16, 10, 8, 4],
            "conv_stride": [8, 5, 4, 2],
            "num_feat_extract_layers": 4,
            "hidden_size": 128,
            "num_hidden_layers": 3,
            "num_attention_heads": 4,
            "intermediate_size": 512,
            "num_conv_pos_embeddings": 32,
            "hidden_dropout": 0.0,
            "attention_dropout": 0.0,
            "activation_dropout": 0.0,
            "initializer_range": 0.08,
            "feat_extract_activation": "relu",
        },
    }

    def __init__(self, module: Any, processor: Any) -> None:
        super().__init__(module, processor)
        mask_convolutions(module)

    @classmethod
    def claims(cls, architecture: PreTrainedConfig) -> bool:
        """Every CTC architecture of transformers that takes samples."""
        return type(architecture) in MODEL_FOR_CTC_MAPPING and _main_input(architecture) == "input_values"

    @classmethod
    def make_processor(cls, architecture: PreTrainedConfig, config: ModelConfig) -> Any:
        """Characters, and samples of zero mean and unit variance with an attention mask."""
        return build_processor(config.characters)

    def input_lengths(self, samples: Tensor) -> Tensor:
        """The samples themselves."""
        return samples

    @classmethod
    def set_specaugment(cls, architecture: PreTrainedConfig, settings: SpecAugmentConfig | None) -> None:
        """Before the module is made: without masking it has no embedding for masked frames."""
        if settings is None:
            return
        fields = {
            "apply_spec_augment": settings.time_prob > 0 or settings.feature_prob > 0,
            "mask_time_prob": settings.time_prob,
            "mask_time_length": settings.time_length,
            "mask_feature_prob": settings.feature_prob,
            "mask_feature_length": settings.feature_length,
        }
        set_fields(architecture, fields)

    def masking(self, settings: SpecAugmentConfig) -> Masking | None:
        """The module masks its hidden states itself, as its config says."""
        self.set_specaugment(self.module.config, settings)
        return None

    def loss(self, inputs: Inputs, samples: Tensor, labels: Sequence[Tensor]) -> Tensor:
        """See `Backbone.loss`."""
        with self._short_unmasked(samples):
            return super().loss(inputs, samples, labels)

    def predict(
        self, inputs: Inputs, samples: Tensor, labels: Sequence[Tensor], teacher: Predictions | None = None
    ) -> Predictions:
        """See `Backbone.predict`."""
        with self._short_unmasked(samples):
            return super().predict(inputs, samples, labels, teacher)

    @contextmanager
    def _short_unmasked(self, samples: Tensor) -> Iterator[None]:
        """transformers refuses to mask spans longer than the padded batch: such a batch goes without masking."""
        config = self.module.config
        wanted = getattr(config, "apply_spec_augment", False)
        if wanted:
            config.apply_spec_augment = int(self.frames(samples.max())) >= config.mask_time_length
        try:
            yield
        finally:
            if wanted:
                config.apply_spec_augment = wanted


def _main_input(architecture: PreTrainedConfig) -> str:
    return str(MODEL_FOR_CTC_MAPPING[type(architecture)].main_input_name)
