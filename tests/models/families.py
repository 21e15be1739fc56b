"""A tiny model of every architecture in transformers' CTC mapping, and of two that write by themselves."""

from typing import Any

from transformers import (
    CONFIG_MAPPING,
    FEATURE_EXTRACTOR_MAPPING,
    MODEL_FOR_CTC_MAPPING,
    FeatureExtractionMixin,
    PreTrainedConfig,
    SeamlessM4TFeatureExtractor,
)

# The package registers models of its own there; what is in here is about those of transformers.
FAMILIES = sorted(
    config.model_type for config in MODEL_FOR_CTC_MAPPING if config.__module__.startswith("transformers.")
)

_ENCODER = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 48}
_CONVOLUTIONS = {
    "conv_dim": (16, 16, 16),
    "conv_kernel": (10, 8, 4),
    "conv_stride": (8, 5, 4),
    "num_feat_extract_layers": 3,
    "num_conv_pos_embeddings": 8,
    "num_conv_pos_embedding_groups": 4,
}
WRITER = {
    "d_model": 16,
    "encoder_layers": 1,
    "decoder_layers": 1,
    "encoder_attention_heads": 2,
    "decoder_attention_heads": 2,
    "encoder_ffn_dim": 24,
    "decoder_ffn_dim": 24,
    "max_source_positions": 150,
    "max_target_positions": 40,
}
_MEL = _ENCODER | {"num_mel_bins": 16, "subsampling_conv_channels": 8}


def tiny_config(model_type: str, outputs: int = 30) -> PreTrainedConfig:
    """A configuration with thousands of weights, not millions."""
    settings: dict[str, Any] = {
        "granite_speech5_ctc": {"encoder_config": _ENCODER | {"vocab_size": outputs}},
        "lasr_ctc": {"encoder_config": _MEL},
        "omniasr_ctc": {"audio_config": _ENCODER | _CONVOLUTIONS},
        "parakeet_ctc": {"encoder_config": _MEL, "pad_token_id": 0},
        "speech_to_text": WRITER | {"input_feat_per_channel": 16, "pad_token_id": 1, "conv_channels": 8},
        "wav2vec2-bert": _ENCODER | {"feature_projection_input_dim": 32},
        "whisper": WRITER | {"num_mel_bins": 16, "init_std": 0.5, "begin_suppress_tokens": None},
    }
    return CONFIG_MAPPING[model_type](vocab_size=outputs, **settings.get(model_type, _ENCODER | _CONVOLUTIONS))


def feature_extractor(model_type: str) -> FeatureExtractionMixin:
    """What feeds `tiny_config`."""
    settings: dict[str, dict[str, Any]] = {
        "granite_speech5_ctc": {},
        "lasr_ctc": {"feature_size": 16},
        "omniasr_ctc": {},
        "parakeet_ctc": {"feature_size": 16},
        "speech_to_text": {"feature_size": 16, "num_mel_bins": 16},
        "wav2vec2-bert": {"feature_size": 16, "num_mel_bins": 16},
        "whisper": {"feature_size": 16},
    }
    kind = FEATURE_EXTRACTOR_MAPPING[CONFIG_MAPPING[model_type]]
    kind = SeamlessM4TFeatureExtractor if model_type == "wav2vec2-bert" else kind
    return kind(**settings.get(model_type, {"return_attention_mask": True}))
