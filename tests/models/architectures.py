"""A tiny random model, with its feature extractor, of every CTC architecture: transformers' own and the package's."""

from dataclasses import dataclass, field
from typing import Any

import pytest
import transformers
from transformers import MODEL_FOR_CTC_MAPPING, AutoConfig, AutoModelForCTC, Wav2Vec2Processor, set_seed

from audio_lottery.models.characters import build_processor
from audio_lottery.models.cnn_lstm import LogSpectrogramFeatureExtractor
from audio_lottery.models.ctc import CtcBackbone
from audio_lottery.models.load import FAMILIES

# Loud weights: the outputs of a random model say something only where its layers are not too shy.
_ENCODER = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 48,
    "initializer_range": 0.3,
    "layerdrop": 0.0,
}
_FRONT_END = {
    "conv_dim": [16] * 7,
    "conv_kernel": [10, 3, 3, 3, 3, 2, 2],
    "conv_stride": [5, 2, 2, 2, 2, 2, 2],
    "num_conv_pos_embeddings": 8,
    "num_conv_pos_embedding_groups": 4,
}
_WAVEFORM = _ENCODER | _FRONT_END | {"num_feat_extract_layers": 7}
_MASK = {"return_attention_mask": True}
_NO_MASK = {"return_attention_mask": False}
_LAYER = {"feat_extract_norm": "layer"}
_GROUP = {"feat_extract_norm": "group"}
_ADAPTER = {"add_adapter": True, "output_hidden_size": 32}


@dataclass(frozen=True)
class Architecture:
    """A row of the table.

    Attributes:
        name: transformers' ``model_type``.
        config: fields beside those of every row.
        extractor: class of the feature extractor.
        settings: of the feature extractor.
        exact: whether padding leaves outputs as they are.
        shortest: fewest samples that give an output frame.
        nested: field that holds the encoder's configuration.
    """

    name: str
    config: dict[str, Any] = field(default_factory=dict)
    extractor: str = "Wav2Vec2FeatureExtractor"
    settings: dict[str, Any] = field(default_factory=dict)
    exact: bool = False
    shortest: int = 400
    nested: str = ""

    @property
    def id(self) -> str:
        return "-".join([self.name, *(f"{key}={value}" for key, value in (self.config | self.settings).items())])

    def backbone(self) -> CtcBackbone:
        """The same weights every time."""
        text = build_processor()
        common = {"vocab_size": len(text.tokenizer), "pad_token_id": 0}
        if self.nested == "audio_config":
            audio = _ENCODER | _FRONT_END | {"model_type": "omniasr_audio"} | self.config
            fields = common | {"audio_config": audio, "blank_token_id": 0, "initializer_range": 0.3}
        elif self.name == "cnn_lstm_ctc":
            fields = common | self.config
        elif self.nested:
            fields = common | {"encoder_config": _ENCODER | common | self.config}
        elif self.extractor == "Wav2Vec2FeatureExtractor":
            fields = common | _WAVEFORM | self.config
        else:
            fields = common | _ENCODER | self.config
        set_seed(0)
        model = AutoModelForCTC.from_config(AutoConfig.for_model(self.name, **fields))
        kinds = {"LogSpectrogramFeatureExtractor": LogSpectrogramFeatureExtractor}
        extractor = (kinds.get(self.extractor) or getattr(transformers, self.extractor))(**self.settings)
        family = next(family for family in FAMILIES.values() if family.claims(model.config))
        return family(model, Wav2Vec2Processor(feature_extractor=extractor, tokenizer=text.tokenizer))


def _waveform(name: str, *, exact: bool, shortest: int = 400, **config: Any) -> list[Architecture]:
    """Layer and group norm, with a mask and without; only layer norm with a mask may pad exactly."""
    return [
        Architecture(
            name, norm | config, settings=mask, exact=exact and norm is _LAYER and mask is _MASK, shortest=shortest
        )
        for norm in (_LAYER, _GROUP)
        for mask in (_MASK, _NO_MASK)
    ]


_ALL = [
    *_waveform("wav2vec2", exact=True, do_stable_layer_norm=True, conv_bias=True),
    Architecture("wav2vec2", _LAYER, settings=_MASK | {"do_normalize": False}, exact=True),
    Architecture("wav2vec2", _LAYER | _ADAPTER, settings=_MASK),
    *_waveform("hubert", exact=True),
    Architecture("hubert", _LAYER | {"conv_pos_batch_norm": True}, settings=_MASK, exact=True),
    *_waveform("wavlm", exact=True),
    *_waveform("unispeech", exact=True),
    *_waveform("unispeech-sat", exact=True),
    # its positions are several convolutions, and the padding is not zero between them
    *_waveform("data2vec-audio", exact=False, num_conv_pos_embeddings=3, conv_pos_kernel_size=5),
    # their pooling looks into the padding where the number of frames is odd, and needs two frames
    *_waveform("sew", exact=False, shortest=720),
    *_waveform("sew-d", exact=False, shortest=720, conv_pos=8),
    Architecture("sew", _LAYER | {"squeeze_factor": 4}, settings=_MASK, shortest=1360),
    # the convolution of a block gets its mask from this package
    *_waveform("wav2vec2-conformer", exact=True),
    Architecture("wav2vec2-conformer", _LAYER | {"position_embeddings_type": "rotary"}, settings=_MASK, exact=True),
    Architecture("wav2vec2-bert", extractor="SeamlessM4TFeatureExtractor", exact=True, shortest=560),
    Architecture("wav2vec2-bert", extractor="SeamlessM4TFeatureExtractor", settings=_NO_MASK, shortest=560),
    Architecture("wav2vec2-bert", _ADAPTER, "SeamlessM4TFeatureExtractor", shortest=560),
    Architecture("parakeet_ctc", {}, "ParakeetFeatureExtractor", exact=True, shortest=320, nested="encoder_config"),
    # its extractor gives no mask unless it is asked for one
    Architecture("lasr_ctc", {}, "LasrFeatureExtractor", shortest=2320, nested="encoder_config"),
    # the spectrogram mirrors the end of the padded row
    Architecture("granite_speech5_ctc", {}, "GraniteSpeech5FeatureExtractor", shortest=1120, nested="encoder_config"),
    Architecture("omniasr_ctc", {}, "OmniASRFeatureExtractor", exact=True, nested="audio_config"),
    Architecture(
        "cnn_lstm_ctc",
        {"conv_channels": 4, "hidden_size": 24, "num_hidden_layers": 2},
        "LogSpectrogramFeatureExtractor",
        exact=True,
        shortest=160,
    ),
]
INSTALLED = {config.model_type for config in MODEL_FOR_CTC_MAPPING}

ARCHITECTURES = [row for row in _ALL if row.name in INSTALLED]

every_architecture = pytest.mark.parametrize("row", ARCHITECTURES, ids=lambda row: row.id)
