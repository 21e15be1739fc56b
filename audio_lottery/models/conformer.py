"""Conformers on log-mel features: Parakeet's FastConformer, built from scratch or loaded (`nvidia/parakeet-ctc-*`)."""

from typing import Any

import torch
from torch import Tensor, nn
from transformers import ParakeetCTCConfig, ParakeetFeatureExtractor
from transformers.models.parakeet.modeling_parakeet import ParakeetEncoderConvolutionModule

from audio_lottery.config import SpecAugmentConfig
from audio_lottery.models.base import Inputs, Masking
from audio_lottery.models.batch_norm import batch_norm
from audio_lottery.models.ctc_backbone import CtcBackbone
from audio_lottery.models.specaugment import feature_masking

# layerdrop breaks DDP, and sits in the encoder's part of the configuration
_ENCODER: dict[str, Any] = {"layerdrop": 0.0, "subsampling_factor": 4, "conv_kernel_size": 15, "num_mel_bins": 64}
# Fewer samples give the features no variance, and NaN.
_LEAST_SAMPLES = 320


class Conformer(CtcBackbone):
    """`ParakeetForCTC` (Rekesh et al. 2023, "Fast Conformer", arXiv:2305.05084; Gulati et al. 2020, arXiv:2005.08100)."""

    family = "conformer"
    presets = {  # noqa: RUF012
        # 1.1 M parameters, for the demo's speech
        "conformer-mini": _ENCODER
        | {
            "hidden_size": 96,
            "num_hidden_layers": 4,
            "num_attention_heads": 4,
            "intermediate_size": 384,
            "subsampling_conv_channels": 64,
            "dropout": 0.0,
            "activation_dropout": 0.0,
            "attention_dropout": 0.0,
        },
        # 3.0 M parameters, for AN4 and other small corpora
        "conformer-small": _ENCODER
        | {
            "hidden_size": 144,
            "num_hidden_layers": 6,
            "num_attention_heads": 4,
            "intermediate_size": 576,
            "subsampling_conv_channels": 96,
        },
        # 65 M parameters, for LibriSpeech
        "conformer-base": _ENCODER
        | {
            "hidden_size": 384,
            "num_hidden_layers": 18,
            "num_attention_heads": 8,
            "intermediate_size": 1536,
            "subsampling_conv_channels": 256,
            "num_mel_bins": 80,
            "conv_kernel_size": 9,
            "subsampling_factor": 8,
        },
    }

    def __init__(self, module: Any, processor: Any, vocabulary: Any) -> None:
        super().__init__(module, processor, vocabulary)
        for child in module.modules():
            if isinstance(child, ParakeetEncoderConvolutionModule):
                _mask_batch_norm(child)

    @classmethod
    def claims(cls, architecture: Any) -> bool:
        """Parakeet CTC checkpoints."""
        return isinstance(architecture, ParakeetCTCConfig)

    def frames(self, samples: Tensor) -> Tensor:
        """A mel frame every 10 ms, subsampled; 0 under 20 ms."""
        hop = self.processor.feature_extractor.hop_length
        counts = self.module._get_subsampling_output_length(torch.div(samples, hop, rounding_mode="floor"))
        return torch.where(samples < _LEAST_SAMPLES, 0, counts).long()

    def masking(self, settings: SpecAugmentConfig) -> Masking | None:
        """Spans of mel frames and bins."""
        return feature_masking(settings)

    def logits(self, inputs: Inputs, samples: Tensor) -> Tensor:
        """[batch, frames, characters]."""
        return self.module(**inputs).logits


class _ValidBatchNorm(nn.BatchNorm1d):
    """Batch norm that does not count padding; ``frames`` is set before every call in training."""

    frames: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        """[batch, channels, time]."""
        return super().forward(x) if self.frames is None or not self.training else batch_norm(self, x, self.frames)


def _mask_batch_norm(module: ParakeetEncoderConvolutionModule) -> None:
    """Let the batch norm of a convolution module know what is padding: transformers' own counts it in training.

    Names of parameters and buffers stay, so checkpoints are those of `ParakeetForCTC`.
    """
    norm = module.norm
    norm.__class__ = _ValidBatchNorm

    def tell(owner: nn.Module, arguments: tuple[Any, ...], options: dict[str, Any]) -> None:
        mask = options.get("attention_mask", arguments[1] if len(arguments) > 1 else None)
        if owner.training:  # in evaluation, threads share the module
            norm.frames = None if mask is None else mask[:, 0].any(dim=1).sum(-1).cpu()

    module.register_forward_pre_hook(tell, with_kwargs=True)


def build_feature_extractor(bins: int) -> ParakeetFeatureExtractor:
    """Log-mel features of 25 ms windows every 10 ms, normalised per utterance and bin."""
    return ParakeetFeatureExtractor(feature_size=bins)
