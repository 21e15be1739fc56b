"""The convolutions that lower the frame rate before Parakeet's conformer blocks."""

import copy
from typing import Any

import torch
from torch import Tensor, nn

from audio_lottery.sparse.runtime.linear import SparseLinear
from audio_lottery.sparse.runtime.modules import Accelerated
from audio_lottery.sparse.runtime.threads import part


class Subsampling(Accelerated):
    """[batch, mel frames, bins] → [batch, frames, features].

    Args:
        module: transformers' ``ParakeetEncoderSubsamplingConv2D``.
        precision: see `accelerate.accelerate`.
        scale: what the output is multiplied with.
    """

    kind = "convolution"

    def __init__(self, module: Any, precision: str = "float32", scale: float = 1.0) -> None:
        super().__init__()
        self.module = copy.deepcopy(module).eval().requires_grad_(False)
        linear = nn.Linear(module.linear.in_features, module.linear.out_features, device="meta")
        linear.weight = nn.Parameter(module.linear.weight.detach() * scale, requires_grad=False)
        linear.bias = nn.Parameter(module.linear.bias.detach() * scale, requires_grad=False)
        self.module.linear = SparseLinear(linear, precision)
        self.kernel = self.module.linear.kernel

    @classmethod
    def claims(cls, module: nn.Module) -> bool:
        """See `Accelerated`."""
        return type(module).__name__ == "ParakeetEncoderSubsamplingConv2D"

    @classmethod
    def misfit(cls, module: Any) -> str:
        """See `Accelerated`."""
        return ""

    def forward(self, input_features: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        """As the module does."""
        with part("subsampling"), torch.no_grad():
            out: Tensor = self.module(input_features, attention_mask)
        return out.contiguous()
