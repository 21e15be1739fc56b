"""CTC models on log-mel features: Parakeet's FastConformer, built or loaded; Wav2Vec2-BERT and others, loaded."""

from typing import Any

import torch
from torch import Tensor, nn
from transformers import MODEL_FOR_CTC_MAPPING, ParakeetFeatureExtractor, PreTrainedConfig, Wav2Vec2Processor
from transformers.models.parakeet.modeling_parakeet import (
    ParakeetEncoderConvolutionModule,
    ParakeetEncoderSubsamplingConv2D,
)

from audio_lottery.config import ModelConfig, SpecAugmentConfig
from audio_lottery.models.base import Masking
from audio_lottery.models.batch_norm import batch_norm
from audio_lottery.models.ctc import CtcBackbone
from audio_lottery.models.specaugment import feature_masking
from audio_lottery.models.vocabulary import make_tokenizer, set_fields


def _parakeet(**encoder: Any) -> dict[str, Any]:
    # layerdrop breaks DDP, and sits in the encoder's part of the configuration
    return {"model_type": "parakeet_ctc", "encoder_config": {"layerdrop": 0.0, **encoder}}


class Conformer(CtcBackbone):
    """Conformers (Gulati et al. 2020, arXiv:2005.08100; Rekesh et al. 2023, "Fast Conformer", arXiv:2305.05084)."""

    family = "conformer"
    presets = {  # noqa: RUF012
        # 1.0 M parameters, for the demo's speech; 25 frames a second, as for the next
        "conformer-mini": _parakeet(
            hidden_size=96,
            num_hidden_layers=4,
            num_attention_heads=4,
            intermediate_size=384,
            subsampling_factor=4,
            subsampling_conv_channels=64,
            conv_kernel_size=15,
            num_mel_bins=64,
            dropout=0.0,
            activation_dropout=0.0,
            attention_dropout=0.0,
        ),
        # 3.2 M parameters, for AN4 and other small corpora
        "conformer-small": _parakeet(
            hidden_size=144,
            num_hidden_layers=6,
            num_attention_heads=4,
            intermediate_size=576,
            subsampling_factor=4,
            subsampling_conv_channels=64,
            conv_kernel_size=15,
            num_mel_bins=64,
            # dropout of hidden states alone: drawing the others is a fifth of a step on a CPU
            activation_dropout=0.0,
            attention_dropout=0.0,
        ),
        # 65 M parameters, for LibriSpeech; 12.5 frames a second: word pieces, not characters
        "conformer-base": _parakeet(
            hidden_size=384,
            num_hidden_layers=18,
            num_attention_heads=8,
            intermediate_size=1536,
            subsampling_factor=8,
            subsampling_conv_channels=256,
            conv_kernel_size=9,
            num_mel_bins=80,
        ),
    }

    def __init__(self, module: Any, processor: Any) -> None:
        super().__init__(module, processor)
        adapt_parakeet(module)

    @classmethod
    def claims(cls, architecture: PreTrainedConfig) -> bool:
        """Every CTC architecture of transformers that takes features."""
        known = type(architecture) in MODEL_FOR_CTC_MAPPING
        return known and MODEL_FOR_CTC_MAPPING[type(architecture)].main_input_name == "input_features"

    @classmethod
    def make_processor(cls, architecture: Any, config: ModelConfig) -> Any:
        """Log-mel features of 25 ms windows every 10 ms, normalised per utterance and bin."""
        extractor = ParakeetFeatureExtractor(feature_size=architecture.encoder_config.num_mel_bins)
        return Wav2Vec2Processor(feature_extractor=extractor, tokenizer=make_tokenizer(config))

    def input_lengths(self, samples: Tensor) -> Tensor:
        """Mel frames: a whole hop each, for Parakeet's extractor; else what the extractor gives."""
        extractor = self.processor.feature_extractor
        if isinstance(extractor, ParakeetFeatureExtractor):
            return torch.div(samples, extractor.hop_length, rounding_mode="floor")
        return super().input_lengths(samples)

    def masking(self, settings: SpecAugmentConfig) -> Masking | None:
        """Spans of mel frames and bins; a module's own masking of hidden states is switched off."""
        set_fields(self.module.config, {"apply_spec_augment": False})
        return feature_masking(settings)


class _ValidBatchNorm(nn.BatchNorm1d):
    """Batch norm that does not count padding; ``frames`` is set before every call in training."""

    frames: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        """[batch, channels, time]."""
        return super().forward(x) if self.frames is None or not self.training else batch_norm(self, x, self.frames)


def adapt_parakeet(model: nn.Module) -> None:
    """Let batch norms count valid frames only in training, and let the subsampling train fast on a CPU.

    Names of parameters and buffers stay, so checkpoints are those of transformers' classes.
    """
    for module in model.modules():
        if isinstance(module, ParakeetEncoderConvolutionModule):
            _mask_batch_norm(module)
        if isinstance(module, ParakeetEncoderSubsamplingConv2D):
            for layer in module.layers:
                if type(layer) is nn.Conv2d and layer.groups > 1:
                    layer.__class__ = _Depthwise


def _mask_batch_norm(module: ParakeetEncoderConvolutionModule) -> None:
    """Let the batch norm of a convolution module know what is padding: transformers' own counts it in training."""
    norm = module.norm
    norm.__class__ = _ValidBatchNorm

    def tell(owner: nn.Module, arguments: tuple[Any, ...], options: dict[str, Any]) -> None:
        mask = options.get("attention_mask", arguments[1] if len(arguments) > 1 else None)
        if owner.training:  # in evaluation, threads share the module
            norm.frames = None if mask is None else mask[:, 0].any(dim=1).sum(-1).cpu()

    module.register_forward_pre_hook(tell, with_kwargs=True)


class _Depthwise(nn.Conv2d):
    """A depthwise convolution that trains in float32 with channels last on a CPU, whatever autocast says.

    Its gradient is what oneDNN is slowest at: [12, 144, 200, 32] by 3 × 3 with stride 2 takes 132 ms in bfloat16, 86 in
    float32 and 25 in float32 with channels last (one thread of an AMD EPYC with AVX512-BF16).
    """

    def forward(self, x: Tensor) -> Tensor:
        """[batch, channels, time, bins]."""
        if x.device.type != "cpu" or not torch.is_grad_enabled():
            return super().forward(x)
        with torch.autocast("cpu", enabled=False):
            return super().forward(x.float().contiguous(memory_format=torch.channels_last))
