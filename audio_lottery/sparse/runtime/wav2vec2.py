"""The transformer encoder of wav2vec2-like models, in the kernels' layout from its first layer to its last.

It takes the place of the encoder inside the transformers model, as `FrontEnd` takes that of the convolutions, so that
everything around them (masks, heads, output classes) stays as it is. Activations are tiles of [features, `FRAMES`];
bias, residual and GELU are part of the products. Wav2Vec2 and HuBERT are built of the same parts under other names.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers.modeling_outputs import BaseModelOutput

from audio_lottery.errors import ModelError
from audio_lottery.sparse.kernels.attention import ROWS, SCRATCH, attend
from audio_lottery.sparse.kernels.attention_half import attend_half, halve_projections, round_projections
from audio_lottery.sparse.kernels.elementwise import activate, layer_norm
from audio_lottery.sparse.kernels.packing import pack_phases, unpack
from audio_lottery.sparse.kernels.rows import FRAMES
from audio_lottery.sparse.kernels.vector import HAS_BF16_DOT, HAS_INT8_DOT, WIDTH
from audio_lottery.sparse.runtime.matrix import KERNELS, Places, SparseMatrix, compile_matrix, split_columns
from audio_lottery.sparse.runtime.modules import (
    TRIAL_FRAMES,
    Accelerated,
    activation_code,
    activation_name,
    input_array,
    no_kernel,
    refuse_inner_states,
    to_numpy,
)
from audio_lottery.sparse.runtime.positional import FourierConv1d
from audio_lottery.sparse.runtime.threads import each, part, tile_widths, whole, workspace

# what the seconds of everything between two attentions count towards
_PRODUCTS = "projections, feed-forward and norms"
_CLASSES = {f"{prefix}Encoder{kind}" for prefix in ("Wav2Vec2", "Hubert") for kind in ("", "StableLayerNorm")}


Norm = tuple[np.ndarray, np.ndarray, float]


@dataclass(frozen=True)
class _Layer:
    """One encoder layer's matrices; queries are scaled, queries, keys and values are one matrix."""

    projections: SparseMatrix
    output: SparseMatrix
    inner: SparseMatrix
    outer: list[tuple[slice, SparseMatrix]]
    attention_norm: Norm
    final_norm: Norm

    @property
    def matrices(self) -> list[SparseMatrix]:
        return [self.projections, self.output, self.inner, *(matrix for _, matrix in self.outer)]


class Encoder(Accelerated):
    """The transformer encoder of wav2vec2 and HuBERT, post-norm or pre-norm ("stable layer norm").

    Args:
        module: ``Wav2Vec2Encoder``, ``Wav2Vec2EncoderStableLayerNorm`` or HuBERT's.
        precision: see `accelerate.accelerate`.
    """

    kind = "encoder"

    def __init__(self, module: Any, precision: str = "float32") -> None:
        super().__init__()
        first = module.layers[0]
        self.before = type(module).__name__.endswith("StableLayerNorm")
        self.size = first.attention.embed_dim
        self.heads = first.attention.num_heads
        self.activation = activation_code(activation_name(first.feed_forward.intermediate_act_fn), precision)
        self.in_bytes = precision == "int8" and HAS_INT8_DOT and HAS_BF16_DOT
        self.in_half = precision != "float32" and HAS_BF16_DOT
        self._take_positions(module, precision)
        self.norm = _norm(module.layer_norm)
        self.layers = [_compile_layer(layer, KERNELS[precision]) for layer in module.layers]
        self.kernel = self.layers[0].inner.kernel
        self.kept = sum(matrix.kept for layer in self.layers for matrix in layer.matrices)
        self.weights = sum(
            weight.numel() for layer in module.layers for weight in layer.parameters() if weight.dim() > 1
        )
        self.macs_per_frame = self.weights
        self.inner_rows = max(piece.stop - piece.start for piece, _ in self.layers[0].outer)

    @classmethod
    def claims(cls, module: nn.Module) -> bool:
        """See `Accelerated`."""
        return type(module).__name__ in _CLASSES

    @classmethod
    def misfit(cls, module: Any) -> str:
        """See `Accelerated`: no adapters, no batch norm, activations and heads that the kernels have."""
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
        """See `Accelerated`."""
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
            self._encode(hidden_states[item].detach(), lengths[item], out[item].numpy().reshape(-1))
        return BaseModelOutput(last_hidden_state=out)

    def _take_positions(self, module: Any, precision: str) -> None:
        self.position = FourierConv1d(module.pos_conv_embed.conv, precision)
        self.position_activation = module.pos_conv_embed.activation

    def _with_positions(self, x: Tensor, length: int) -> Tensor:
        """What the first layer gets, [features, frames], of [frames, features]; zeros behind ``length`` frames."""
        x = x.t().contiguous()
        x[:, length:] = 0
        with part("positional convolution"):
            x += self.position_activation(self.position(x, length))
        return x

    def _encode(self, x: Tensor, length: int, out: np.ndarray) -> None:
        frames, size, step = x.shape[0], self.size, self.size * FRAMES
        signal = self._with_positions(x, length).numpy().reshape(-1)
        widths = tile_widths(frames, FRAMES, 2 * WIDTH)
        starts = [number * widths[0] for number in range(len(widths))]
        keys = np.array([min(max(length - a, 0), width) for a, width in zip(starts, widths, strict=True)], np.int64)
        states, context = (workspace(name, len(widths) * step) for name in ("states", "context"))
        # queries, keys and values of a tile: three numbers of 32 bits a feature, or three of 16
        share = 3 * step // 2 if self.in_half else 3 * step
        joined = workspace("projections", len(widths) * share).view(np.int32 if self.in_half else np.float32)

        def project(number: int, vectors: int, scratch: np.ndarray, layer: _Layer) -> None:
            source, place = states, number * step
            if self.before:
                layer_norm(states, place, scratch, 0, size, FRAMES, *layer.attention_norm, vectors)
                source, place = scratch, 0
            operand = layer.projections.operand(source, place, size, vectors)
            if not self.in_half:
                layer.projections.multiply(operand, joined, number * share, vectors=vectors)
                return
            single = workspace("single", 3 * step)
            layer.projections.multiply(operand, single, 0, vectors=vectors)
            if self.in_bytes:
                round_projections(single, 0, self.heads, size // self.heads, joined, number * share, vectors)
            else:
                halve_projections(single, 0, size, joined, number * share, vectors)

        def begin(number: int, scratch: np.ndarray) -> None:
            vectors = whole(widths[number], 2 * WIDTH) // WIDTH
            place = number * step
            pack_phases(signal, 0, size, frames, frames, starts[number], 1, vectors * WIDTH, states[place:], FRAMES)
            if not self.before:
                layer_norm(states, place, states, place, size, FRAMES, *self.norm, vectors)
            project(number, vectors, scratch, self.layers[0])

        def end(number: int) -> None:
            vectors = whole(widths[number], 2 * WIDTH) // WIDTH
            place = number * step
            if self.before:
                layer_norm(states, place, states, place, size, FRAMES, *self.norm, vectors)
            unpack(states, place, size, widths[number], out, starts[number], size, 0)

        each(begin, len(widths), step, _PRODUCTS)
        for index, layer in enumerate(self.layers):
            following = self.layers[index + 1] if index + 1 < len(self.layers) else None
            self._attention(joined, keys, widths, context)

            def rest(
                number: int, scratch: np.ndarray, layer: _Layer = layer, following: _Layer | None = following
            ) -> None:
                vectors = whole(widths[number], 2 * WIDTH) // WIDTH
                self._feed_forward(layer, number * step, vectors, context, states, scratch)
                if following is None:
                    end(number)
                else:
                    project(number, vectors, scratch, following)

            each(rest, len(widths), step + self.inner_rows * FRAMES, _PRODUCTS)

    def _attention(self, joined: np.ndarray, keys: np.ndarray, widths: list[int], context: np.ndarray) -> None:
        step = self.size * FRAMES
        width = self.size // self.heads

        def work(number: int, scratch: np.ndarray) -> None:
            tile, head = divmod(number, self.heads)
            row = head * width * FRAMES
            vectors = whole(widths[tile], 2 * WIDTH) // WIDTH
            target = tile * step + row
            if self.in_half:
                share, place = 3 * step // 2, row // 2
                weights = workspace("weights", SCRATCH // 2).view(np.int32)
                begin, value = tile * share, step + place
                if self.in_bytes:
                    place, scale = row // 4, step // 2 + head * FRAMES
                    more = self.heads * FRAMES
                    query, key, scales = place, step // 4 + place, (begin + scale, scale + more, scale + 2 * more)
                else:
                    query, key, scales = place, step // 2 + place, (-1, 0, 0)
                attend_half(
                    joined, begin + query, key, value, share, keys, width, context, target, scratch, weights, vectors,
                    *scales,
                )  # fmt: skip
            else:
                attend(
                    joined, 3 * tile * step + row, step + row, 2 * step + row, 3 * step, keys, width, context, target,
                    scratch, vectors,
                )  # fmt: skip

        each(work, len(widths) * self.heads, SCRATCH + width * 2 * WIDTH, "attention")

    def _feed_forward(
        self, layer: _Layer, place: int, vectors: int, context: np.ndarray, states: np.ndarray, scratch: np.ndarray
    ) -> None:
        """From attention's output to the layer's: ``states`` hold the residual stream, before and after."""
        size = self.size
        middle, inner = scratch[: size * FRAMES], scratch[size * FRAMES :]
        operand = layer.output.operand(context, place, size, vectors)
        if self.before:
            layer.output.multiply(operand, states, place, start=states, origin=place, vectors=vectors)
            layer_norm(states, place, middle, 0, size, FRAMES, *layer.final_norm, vectors)
        else:
            layer.output.multiply(operand, middle, 0, start=states[place:], origin=0, vectors=vectors)
            layer_norm(middle, 0, middle, 0, size, FRAMES, *layer.attention_norm, vectors)
        shared = layer.inner.operand(middle, 0, size, vectors, "shared pairs")
        for piece, matrix in layer.outer:
            rows = piece.stop - piece.start
            layer.inner.multiply(shared, inner, 0, rows=(piece.start, piece.stop), vectors=vectors)
            activate(self.activation, inner, 0, rows, FRAMES, vectors)
            first = piece.start == 0 and not self.before
            start, origin = (middle, 0) if first else (states, place)
            operand = matrix.operand(inner, 0, rows, vectors)
            matrix.multiply(operand, states, place, start=start, origin=origin, vectors=vectors)
        if not self.before:
            layer_norm(states, place, states, place, size, FRAMES, *layer.final_norm, vectors)


def _norm(norm: nn.LayerNorm) -> Norm:
    return to_numpy(norm.weight), to_numpy(norm.bias), float(norm.eps)


def _compile_layer(layer: Any, kernels: Sequence[str]) -> _Layer:
    attention = layer.attention
    scale = attention.head_dim**-0.5
    parts = (attention.q_proj, attention.k_proj, attention.v_proj)
    weights, biases = [to_numpy(part.weight) for part in parts], [to_numpy(part.bias) for part in parts]
    weights[0], biases[0] = weights[0] * np.float32(scale), biases[0] * np.float32(scale)
    inner, outer = layer.feed_forward.intermediate_dense, layer.feed_forward.output_dense

    def whole_matrix(weight: np.ndarray, bias: np.ndarray) -> SparseMatrix:
        return compile_matrix(weight, Places.plain(weight.shape[1]), bias, kernels)

    return _Layer(
        projections=whole_matrix(np.concatenate(weights), np.concatenate(biases)),
        output=whole_matrix(to_numpy(attention.out_proj.weight), to_numpy(attention.out_proj.bias)),
        inner=whole_matrix(to_numpy(inner.weight), to_numpy(inner.bias)),
        outer=split_columns(to_numpy(outer.weight), to_numpy(outer.bias), kernels),
        attention_norm=_norm(layer.layer_norm),
        final_norm=_norm(layer.final_layer_norm),
    )
