"""The output layer of Parakeet's CTC models: a convolution of one tap that takes and gives [batch, frames, …]."""

from typing import Any

import torch
from torch import Tensor, nn

from audio_lottery.sparse.runtime.linear import SparseLinear
from audio_lottery.sparse.runtime.modules import TRIAL_FRAMES, Runner, changed


class CTCHead(Runner):
    """[batch, frames, features] → [batch, frames, outputs].

    Args:
        module: transformers' ``ParakeetEncoderCTCHead``.
        precision: see `accelerate.accelerate`.
    """

    kind = "linear"

    def __init__(self, module: Any, precision: str = "float32") -> None:
        super().__init__()
        layer = nn.Linear(module.in_channels, module.out_channels, bias=module.bias is not None, device="meta")
        layer.weight = nn.Parameter(module.weight.detach()[:, :, 0], requires_grad=False)
        if module.bias is not None:
            layer.bias = nn.Parameter(module.bias.detach(), requires_grad=False)
        # not registered: it is this module's own, and no layer of the model
        self._linear = [SparseLinear(layer, precision)]
        linear = self._linear[0]
        self.kernel, self.kept, self.weights = linear.kernel, linear.kept, linear.weights
        self.macs_per_frame = linear.macs_per_frame

    @classmethod
    def claims(cls, module: nn.Module) -> bool:
        """See `Runner`."""
        return type(module).__name__ == "ParakeetEncoderCTCHead"

    @classmethod
    def misfit(cls, module: Any) -> str:
        """See `Runner`."""
        return changed(module)

    @classmethod
    def trial_input(cls, module: Any) -> Tensor:
        """See `Runner`."""
        return torch.randn(1, TRIAL_FRAMES, module.in_channels)

    def forward(self, hidden_states: Tensor) -> Tensor:
        """Apply the layer; see `linear.SparseLinear`."""
        return self._linear[0](hidden_states)
