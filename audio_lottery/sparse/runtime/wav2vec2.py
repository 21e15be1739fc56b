"""The transformer encoder of wav2vec2-like models, in the kernels' layout from its first layer to its last.

It takes the place of the encoder inside the transformers model, as `FrontEnd` takes that of the convolutions, so that
everything around them (masks, heads, output classes) stays as it is. Activations are tiles of [features, `FRAMES`];
bias, residual and GELU are part of the products. Wav2Vec2 and HuBERT are built of the same parts under other names.
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers.modeling_outputs import BaseModelOutput

from audio_lottery.errors import ModelError
from audio_lottery.sparse.kernels.attention import ROWS
from audio_lottery.sparse.runtime.modules import (
    TRIAL_FRAMES,
    Runner,
    activation_name,
    input_array,
    no_kernel,
    refuse_inner_states,
)
from audio_lottery.sparse.runtime.positional import FourierConv1d
from audio_lottery.sparse.runtime.transformer import Layers

_CLASSES = {f"{prefix}Encoder{kind}" for prefix in ("Wav2Vec2", "Hubert") for kind in ("", "StableLayerNorm")}


class Encoder(Runner):
    """The transformer encoder of wav2vec2 and HuBERT, post-norm or pre-norm ("stable layer norm").

    Args:
        module: ``Wav2Vec2Encoder``, ``Wav2Vec2EncoderStableLayerNorm`` or HuBERT's.
        precision: see `accelerate.accelerate`.
    """

    kind = "encoder"

    def __init__(self, module: Any, precision: str = "float32") -> None:
        super().__init__()
        self._take_positions(module, precision)
        self.compiled = Layers(module, precision, self._norms_first(module))
        self.kernel = self.compiled.all[0].inner.kernel
        self.kept = sum(matrix.kept for layer in self.compiled.all for matrix in layer.matrices)
        self.weights = sum(
            weight.numel() for layer in module.layers for weight in layer.parameters() if weight.dim() > 1
        )
        self.macs_per_frame = self.weights

    @classmethod
    def claims(cls, module: nn.Module) -> bool:
        """See `Runner`."""
        return type(module).__name__ in _CLASSES

    @classmethod
    def misfit(cls, module: Any) -> str:
        """See `Runner`: no adapters, no batch norm, activations and heads that the kernels have."""
        layer, position = module.layers[0], module.pos_conv_embed
        fits = (
            activation_name(layer.feed_forward.intermediate_act_fn)
            and activation_name(position.activation)
            and getattr(position, "batch_norm", None) is None
            and getattr(layer, "adapter_layer", None) is None
            and layer.attention.head_dim % ROWS == 0
        )
        return "" if fits else no_kernel(module)

    @classmethod
    def trial_input(cls, module: Any) -> Tensor:
        """See `Runner`."""
        return torch.randn(1, TRIAL_FRAMES, module.config.hidden_size)

    def forward(
        self, hidden_states: Tensor, attention_mask: Tensor | None = None, **options: object
    ) -> BaseModelOutput:
        """Encode [batch, frames, features].

        Args:
            hidden_states: what the feature projection gives.
            attention_mask: [batch, frames], true for the frames of each utterance, padding at the end; None: all.
            options: transformers' own, of which those that ask for inner states are refused.

        Raises:
            ModelError: inner states are asked for; padding is not at the end; a type, see `modules.input_array`.
        """
        refuse_inner_states(options)
        batch, frames, _ = hidden_states.shape
        lengths = [frames] * batch
        if attention_mask is not None:
            lengths = attention_mask.sum(1).tolist()
            if any(not bool(mask[:length].all()) for mask, length in zip(attention_mask, lengths, strict=True)):
                raise ModelError("the attention mask leaves out frames before the end; pad on the right")
        out = torch.empty(hidden_states.shape)
        for item in range(batch):
            input_array(hidden_states[item, :0], "the encoder")
            signal, row = self._with_positions(hidden_states[item].detach(), lengths[item])
            self.compiled.run(signal, row, frames, lengths[item], out[item].numpy().reshape(-1))
        return BaseModelOutput(last_hidden_state=out)

    def _norms_first(self, module: Any) -> bool:
        """Whether norms come before what they are for."""
        return type(module).__name__.endswith("StableLayerNorm")

    def _take_positions(self, module: Any, precision: str) -> None:
        position = module.pos_conv_embed
        self.position = FourierConv1d(position.conv, precision, activation_name(position.activation))

    def _with_positions(self, x: Tensor, length: int) -> tuple[np.ndarray, int]:
        """What the first layer gets, [features, row], flat, of [frames, features], and that row."""
        return self.position.add_to(input_array(x, "the encoder"), length)
