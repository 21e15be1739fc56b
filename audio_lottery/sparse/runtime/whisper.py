"""Whisper's encoder: two convolutions, positions, and the layers of `wav2vec2.Encoder` in the kernels' layout."""

import copy
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers.modeling_outputs import BaseModelOutput

from audio_lottery.errors import ModelError
from audio_lottery.sparse.kernels.attention import ROWS
from audio_lottery.sparse.runtime.convolution import SparseConv1d
from audio_lottery.sparse.runtime.modules import activation_name, input_array, no_kernel, refuse_inner_states
from audio_lottery.sparse.runtime.wav2vec2 import Encoder


class WindowEncoder(Encoder):
    """Mel features [batch, bins, 2 · positions] → [batch, positions, size].

    The window, and with it the number of positions, may be changed afterwards where it may be changed in transformers'
    own encoder: ``config.max_source_positions``.

    Args:
        module: transformers' ``WhisperEncoder``.
        precision: see `accelerate.accelerate`.
    """

    main_input_name = "input_features"

    def __init__(self, module: Any, precision: str = "float32") -> None:
        super().__init__(_Likeness(module), precision)
        self.config = module.config
        convolutions = module.conv1, module.conv2
        self.front = [SparseConv1d(one, precision, activation="gelu") for one in convolutions]
        # transformers' `generate` asks both for their strides
        self.conv1, self.conv2 = (SimpleNamespace(stride=one.stride) for one in convolutions)
        self.kept += sum(one.kept for one in self.front)
        self.weights += sum(one.weights for one in self.front)
        self.macs_per_frame += sum(one.macs_per_frame for one in self.front)

    @classmethod
    def claims(cls, module: nn.Module) -> bool:
        """See `Runner`."""
        return type(module).__name__ == "WhisperEncoder"

    @classmethod
    def misfit(cls, module: Any) -> str:
        """See `Runner`: activations and heads that the kernels have."""
        layer = module.layers[0]
        fits = activation_name(layer.activation_fn) and layer.self_attn.head_dim % ROWS == 0
        return "" if fits else no_kernel(module)

    @classmethod
    def trial_input(cls, module: Any) -> Tensor:
        """See `Runner`: a whole window, for the module takes nothing else."""
        return torch.randn(1, module.num_mel_bins, _frames(module))

    def forward(  # type: ignore[override]
        self, input_features: Tensor, attention_mask: object = None, **kwargs: object
    ) -> BaseModelOutput:
        """Encode windows.

        Args:
            input_features: [batch, bins, 2 · positions].
            attention_mask: not used, as in transformers: silence is heard.
            kwargs: transformers' own, of which those that ask for inner states are refused.

        Raises:
            ModelError: inner states are asked for; another number of frames; a type, see `modules.input_array`.
        """
        refuse_inner_states(kwargs)
        expected, found = _frames(self), input_features.shape[-1]
        if found != expected:
            raise ModelError(f"the encoder takes {expected} frames of features and got {found}; pad them to the window")
        input_array(input_features[..., :0], "the encoder")
        heard = input_features.detach()
        for convolution in self.front:
            heard = convolution(heard)
        batch, size, positions = heard.shape
        out = torch.empty(batch, positions, size)
        for item in range(batch):
            signal, row = self._with_positions(heard[item].t(), positions)
            self.compiled.run(signal, row, positions, positions, out[item].numpy().reshape(-1))
        return BaseModelOutput(last_hidden_state=out)

    def __deepcopy__(self, memo: dict[int, Any]) -> "WindowEncoder":
        # the window of the copy may be changed
        twin = copy.copy(self)
        twin._modules = {**self._modules, "embed_positions": _table(self.embed_positions)}
        return twin

    def _freeze_parameters(self) -> None:
        """transformers' switch; there is nothing left to freeze."""

    def _norms_first(self, module: Any) -> bool:
        return True

    def _take_positions(self, module: Any, precision: str) -> None:
        self.embed_positions = _table(module.embed_positions)

    def _with_positions(self, x: Tensor, length: int) -> tuple[np.ndarray, int]:
        found = (x.t() + self.embed_positions.weight[:length].t()).contiguous()
        return found.numpy().reshape(-1), length


def _frames(module: Any) -> int:
    """Frames of a window."""
    return int(module.config.max_source_positions) * module.conv1.stride[0] * module.conv2.stride[0]


def _table(positions: nn.Embedding) -> nn.Embedding:
    """The same numbers in a module of its own."""
    table = nn.Embedding.from_pretrained(positions.weight.detach(), freeze=True)
    table.num_embeddings = positions.num_embeddings
    return table.eval()


class _Likeness(nn.Module):
    """Whisper's encoder under the names of a wav2vec2 encoder with stable layer norm."""

    def __init__(self, module: Any) -> None:
        super().__init__()
        self.layers = nn.ModuleList(_layer(layer) for layer in module.layers)
        self.layer_norm = module.layer_norm
        self.embed_positions = module.embed_positions


def _layer(layer: Any) -> nn.Module:
    attention, feed_forward, made = layer.self_attn, nn.Module(), nn.Module()
    found: Any = nn.Module()
    for name in ("embed_dim", "num_heads", "head_dim", "q_proj", "v_proj", "out_proj"):
        setattr(found, name, getattr(attention, name))
    found.k_proj = nn.utils.skip_init(nn.Linear, attention.embed_dim, attention.embed_dim)
    found.k_proj.weight = attention.k_proj.weight  # keys have no bias
    found.k_proj.bias = nn.Parameter(torch.zeros(attention.embed_dim), requires_grad=False)
    feed_forward.intermediate_act_fn = layer.activation_fn
    feed_forward.intermediate_dense, feed_forward.output_dense = layer.fc1, layer.fc2
    made.attention, made.feed_forward = found, feed_forward
    made.layer_norm, made.final_layer_norm = layer.self_attn_layer_norm, layer.final_layer_norm
    return made
