"""The encoder of Parakeet's conformers, in the kernels' layout from its first layer to its last.

It takes the place of the encoder inside transformers' models (CTC, RNN-T and TDT alike), so that heads, prediction
networks and searches stay as they are. Activations are tiles of [features, `FRAMES`]; biases, residuals and the factor
of the half-step feed-forwards are part of the products, batch norm is part of the depthwise convolution. Only frames of
an utterance are computed: what `transformers` puts behind its end is zeros here.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers.models.parakeet.modeling_parakeet import ParakeetEncoderModelOutput, ParakeetPreTrainedModel

from audio_lottery.errors import ModelError
from audio_lottery.sparse.kernels.attention import ROWS, SCRATCH
from audio_lottery.sparse.kernels.depthwise import depthwise, gate
from audio_lottery.sparse.kernels.elementwise import ACTIVATIONS, activate, layer_norm
from audio_lottery.sparse.kernels.half import HAS_BF16_DOT
from audio_lottery.sparse.kernels.packing import pack, unpack
from audio_lottery.sparse.kernels.relative_attention import add_bias, attend_near, attend_near_half, halve_queries
from audio_lottery.sparse.kernels.rows import FRAMES
from audio_lottery.sparse.kernels.vector import WIDTH
from audio_lottery.sparse.runtime.conformer_layer import ConformerLayer, FeedForward, compile_layer
from audio_lottery.sparse.runtime.distances import Distances, Table
from audio_lottery.sparse.runtime.matrix import KERNELS
from audio_lottery.sparse.runtime.modules import (
    TRIAL_FRAMES,
    Runner,
    activation_name,
    input_array,
    no_kernel,
    weights_of,
)
from audio_lottery.sparse.runtime.subsampling import Subsampling
from audio_lottery.sparse.runtime.threads import each, tile_widths, whole, workspace

_PRODUCTS = "projections, feed-forward, convolutions and norms"
# Rows of the gated linear unit that are made at a time, while they are in the cache.
_GATED = 256


@dataclass(frozen=True)
class _Utterance:
    """What the stages of one utterance share: tiles of ``width`` frames, the last one shorter.

    Attributes:
        widths: frames of each tile.
        keys: int64, the same for the kernels.
        states: [tiles, features, FRAMES], the residual stream.
        joined: queries, keys and values of all tiles, see `kernels.relative_attention`.
        context: what attention gives.
        gated: [features, pitch], what the depthwise convolution reads, zeros around the utterance.
    """

    widths: list[int]
    keys: np.ndarray
    states: np.ndarray
    joined: np.ndarray
    context: np.ndarray
    gated: np.ndarray

    def vectors(self, number: int) -> int:
        return whole(self.widths[number], 2 * WIDTH) // WIDTH


class ConformerEncoder(Runner):
    """Mel features → encoder frames: subsampling convolutions and conformer blocks (Rekesh et al. 2023, Fast Conformer,
    arXiv:2305.05084).

    Args:
        module: transformers' ``ParakeetEncoder``.
        precision: see `accelerate.accelerate`.
    """

    kind = "encoder"
    borrows = True
    main_input_name = "input_features"

    def __init__(self, module: Any, precision: str = "float32") -> None:
        super().__init__()
        self.config = module.config
        first = module.layers[0]
        self.size, self.heads = module.config.hidden_size, module.config.num_attention_heads
        self.head = whole(first.self_attn.head_dim, ROWS)
        self.activation = ACTIVATIONS[activation_name(first.feed_forward1.activation)]
        self.mixing_activation = ACTIVATIONS[activation_name(first.conv.activation)]
        self.taps = first.conv.depthwise_conv.kernel_size[0]
        self.in_half = precision != "float32" and HAS_BF16_DOT
        with weights_of(module.subsampling):
            self.subsampling = Subsampling(module.subsampling, precision, scale=module.input_scale)
        self.layers = [compile_layer(layer, self.head, KERNELS[precision]) for layer in module.layers]
        self.distances = Distances(
            module.encode_positions.inv_freq, [layer.positions for layer in self.layers], self.in_half
        )
        self.kernel = self.layers[0].first.inner.kernel
        depthwise = sum(int(np.count_nonzero(layer.taps)) for layer in self.layers)
        self.kept = self.subsampling.kept + depthwise
        self.kept += sum(matrix.kept for layer in self.layers for matrix in layer.matrices)
        self.weights = sum(
            part.numel() for name, part in module.named_parameters() if name.endswith("weight") and part.dim() > 1
        )
        self.inner_rows = max(piece.stop - piece.start for piece, _ in self.layers[0].first.outer)

    @classmethod
    def claims(cls, module: nn.Module) -> bool:
        """See `Runner`."""
        return type(module).__name__ == "ParakeetEncoder"

    @classmethod
    def misfit(cls, module: Any) -> str:
        """See `Runner`: activations that the kernels have, and batch norm."""
        layer = module.layers[0] if len(module.layers) else None
        fits = (
            layer is not None
            and Subsampling.misfit(module.subsampling) == ""
            and activation_name(layer.feed_forward1.activation)
            and activation_name(layer.conv.activation)
            and isinstance(layer.conv.norm, nn.BatchNorm1d)
            and layer.conv.norm.running_mean is not None
            and layer.conv.depthwise_conv.kernel_size[0] % 2 == 1
            and layer.self_attn.num_key_value_groups == 1
        )
        return "" if fits else no_kernel(module)

    @classmethod
    def trial_input(cls, module: Any) -> Tensor:
        """See `Runner`."""
        return torch.randn(1, TRIAL_FRAMES * module.config.subsampling_factor, module.config.num_mel_bins)

    def _get_subsampling_output_length(self, input_lengths: Tensor) -> Tensor:
        """transformers' own, which models ask their encoder for."""
        return ParakeetPreTrainedModel._get_subsampling_output_length(self, input_lengths)

    def _get_output_attention_mask(self, attention_mask: Tensor, target_length: int | None = None) -> Tensor:
        """The same of masks."""
        return ParakeetPreTrainedModel._get_output_attention_mask(self, attention_mask, target_length)

    def forward(
        self,
        input_features: Tensor,
        attention_mask: Tensor | None = None,
        output_attention_mask: bool = True,
        **options: object,
    ) -> ParakeetEncoderModelOutput:
        """Encode [batch, mel frames, bins].

        Args:
            input_features: float32.
            attention_mask: [batch, mel frames], true for the frames of each utterance, padding at the end; None: all.
            output_attention_mask: whether the mask of the encoder's frames is given back, where there is a mask.
            options: transformers' own, of which those that ask for inner states are refused.

        Raises:
            ModelError: inner states are asked for; padding is not at the end; a type, see `modules.input_array`.
        """
        if options.get("output_attentions") or options.get("output_hidden_states"):
            raise ModelError("an accelerated encoder keeps no attentions or hidden states: ask the original model")
        if attention_mask is not None:
            counts = attention_mask.sum(1)
            ends = torch.arange(attention_mask.shape[1])[None] < counts[:, None]
            if not torch.equal(attention_mask.bool(), ends):
                raise ModelError("the attention mask leaves out frames before the end; pad on the right")
        input_array(input_features[:0], "the encoder")
        features = self.subsampling(input_features.detach(), attention_mask)
        mask, lengths = None, [features.shape[1]] * len(features)
        if attention_mask is not None:
            mask = self._get_output_attention_mask(attention_mask, target_length=features.shape[1])
            lengths = mask.sum(1).tolist()
        out = torch.zeros(features.shape)
        for item, length in enumerate(lengths):
            if length:
                self._encode(features[item].numpy().reshape(-1), length, out[item].numpy().reshape(-1))
        return ParakeetEncoderModelOutput(
            last_hidden_state=out,
            attention_mask=mask.int() if mask is not None and output_attention_mask else None,
        )

    def _encode(self, source: np.ndarray, length: int, out: np.ndarray) -> None:
        """The blocks on [frames, features], of which ``length`` frames are not padding."""
        size = self.size
        table = self.distances.table(length)
        shared = self._utterance(length)

        def begin(number: int, scratch: np.ndarray) -> None:
            first, place = number * shared.widths[0], number * size * FRAMES
            pack(source, first, shared.widths[number], size, 0, size, shared.states, place)
            self._to_attention(self.layers[0], number, shared, scratch)

        each(begin, len(shared.widths), self._scratch, _PRODUCTS)
        for index, layer in enumerate(self.layers):
            self._attention(layer, index, table, shared)
            following = self.layers[index + 1] if index + 1 < len(self.layers) else None

            def gates(number: int, scratch: np.ndarray, layer: ConformerLayer = layer) -> None:
                self._to_convolution(layer, number, shared, scratch)

            def rest(
                number: int,
                scratch: np.ndarray,
                layer: ConformerLayer = layer,
                following: ConformerLayer | None = following,
            ) -> None:
                self._from_convolution(layer, number, shared, scratch)
                if following is None:
                    first = number * shared.widths[0]
                    unpack(shared.states, number * size * FRAMES, size, shared.widths[number], out, first, size, 0)
                else:
                    self._to_attention(following, number, shared, scratch)

            each(gates, len(shared.widths), self._scratch, _PRODUCTS)
            each(rest, len(shared.widths), self._scratch, _PRODUCTS)

    @property
    def _scratch(self) -> int:
        """Floats of each thread's own: a tile of features, and the rows that a product makes at a time."""
        return (self.size + max(self.inner_rows, 2 * _GATED)) * FRAMES

    @property
    def _halo(self) -> int:
        """Zeros before an utterance's frames in what the depthwise convolution reads."""
        return whole(self.taps // 2, WIDTH)

    def _pitch(self, widths: list[int]) -> int:
        # an odd number of cache lines: rows begin in different sets of the cache
        return (2 * self._halo + whole(sum(widths), 2 * WIDTH) + WIDTH) // WIDTH // 2 * 2 * WIDTH + WIDTH

    def _utterance(self, length: int) -> _Utterance:
        widths = tile_widths(length, FRAMES, 2 * WIDTH)
        tiles, rows = len(widths), self.heads * self.head
        gated = workspace("gated", self.size * self._pitch(widths))
        gated[:] = 0
        joined = workspace("projections", tiles * self._joined)
        return _Utterance(
            widths,
            np.array(widths, np.int64),
            workspace("states", tiles * self.size * FRAMES),
            joined.view(np.int32 if self.in_half else np.float32),
            workspace("context", tiles * rows * FRAMES),
            gated,
        )

    @property
    def _joined(self) -> int:
        """Elements of a tile's queries, twice, keys and values: four numbers of 32 bits a feature, or of 16."""
        rows = self.heads * self.head * FRAMES
        return 2 * rows if self.in_half else 4 * rows

    def _to_attention(self, layer: ConformerLayer, number: int, shared: _Utterance, scratch: np.ndarray) -> None:
        """The first feed-forward, and queries, keys and values."""
        size, vectors, place = self.size, shared.vectors(number), number * self.size * FRAMES
        rows = self.heads * self.head
        self._feed_forward(layer.first, place, vectors, shared.states, scratch)
        layer_norm(shared.states, place, scratch, 0, size, FRAMES, *layer.attention_norm, vectors)
        operand = layer.projections.operand(scratch, 0, size, vectors)
        if self.in_half:
            single = workspace("single", 4 * rows * FRAMES)
            layer.projections.multiply(operand, single, rows * FRAMES, vectors=vectors)
            add_bias(single, rows * FRAMES, 0, layer.moves, vectors)
            halve_queries(single, rows, shared.joined, number * self._joined, vectors)
        else:
            target = number * self._joined
            layer.projections.multiply(operand, shared.joined, target + rows * FRAMES, vectors=vectors)
            add_bias(shared.joined, target + rows * FRAMES, target, layer.moves, vectors)

    def _attention(self, layer: ConformerLayer, index: int, table: Table, shared: _Utterance) -> None:
        near = table.of_layer(index)
        step, all_rows, width = self._joined, self.heads * self.head * FRAMES, shared.widths[0]

        def work(number: int, scratch: np.ndarray) -> None:
            tile, head = divmod(number, self.heads)
            row = head * self.head * FRAMES
            vectors, target = shared.vectors(tile), tile * all_rows + row
            origin = tile * step
            if self.in_half:
                half, place = all_rows // 2, row // 2
                weights = workspace("weights", SCRATCH // 2).view(np.int32)
                attend_near_half(
                    shared.joined, origin + half + place, origin + place, 2 * half + place, 3 * half + place, step,
                    shared.keys, self.head, near, head * self.head // 2 * table.pitch, table.pitch, tile, width,
                    shared.context, target, scratch, weights, vectors,
                )  # fmt: skip
            else:
                attend_near(
                    shared.joined, origin + all_rows + row, origin + row, 2 * all_rows + row, 3 * all_rows + row, step,
                    shared.keys, self.head, near, head * self.head * table.pitch, table.pitch, tile, width,
                    shared.context, target, scratch, vectors,
                )  # fmt: skip

        each(work, len(shared.widths) * self.heads, SCRATCH + self.head * 2 * WIDTH, "attention")

    def _to_convolution(self, layer: ConformerLayer, number: int, shared: _Utterance, scratch: np.ndarray) -> None:
        """Attention's output, and the gated linear unit before the depthwise convolution."""
        size, vectors, place = self.size, shared.vectors(number), number * self.size * FRAMES
        rows, states = self.heads * self.head, shared.states
        operand = layer.output.operand(shared.context, number * rows * FRAMES, rows, vectors)
        layer.output.multiply(operand, states, place, start=(states, place), vectors=vectors)
        middle, gated = scratch[: size * FRAMES], scratch[size * FRAMES :]
        layer_norm(states, place, middle, 0, size, FRAMES, *layer.convolution_norm, vectors)
        operand = layer.gates.operand(middle, 0, size, vectors)
        pitch, column = self._pitch(shared.widths), self._halo + number * shared.widths[0]
        for row in range(0, size, _GATED):
            last = min(row + _GATED, size)
            layer.gates.multiply(operand, gated, 0, rows=(row, last), vectors=vectors)
            layer.gates.multiply(operand, gated, (last - row) * FRAMES, rows=(size + row, size + last), vectors=vectors)
            frames = shared.widths[number]
            gate(gated, 0, last - row, frames, shared.gated, row * pitch + column, pitch, vectors)

    def _from_convolution(self, layer: ConformerLayer, number: int, shared: _Utterance, scratch: np.ndarray) -> None:
        """The rest of a block."""
        size, vectors, place = self.size, shared.vectors(number), number * self.size * FRAMES
        states, pitch = shared.states, self._pitch(shared.widths)
        start = self._halo - self.taps // 2 + number * shared.widths[0]
        depthwise(shared.gated, start, pitch, layer.taps, self.taps, layer.offsets, scratch, 0, vectors)
        activate(self.mixing_activation, scratch, 0, size, FRAMES, vectors)
        operand = layer.mixing.operand(scratch, 0, size, vectors)
        layer.mixing.multiply(operand, states, place, start=(states, place), vectors=vectors)
        self._feed_forward(layer.second, place, vectors, states, scratch)
        layer_norm(states, place, states, place, size, FRAMES, *layer.norm, vectors)

    def _feed_forward(
        self, layer: FeedForward, place: int, vectors: int, states: np.ndarray, scratch: np.ndarray
    ) -> None:
        size = self.size
        middle, inner = scratch[: size * FRAMES], scratch[size * FRAMES :]
        layer_norm(states, place, middle, 0, size, FRAMES, *layer.norm, vectors)
        shared = layer.inner.operand(middle, 0, size, vectors, "shared pairs")
        for piece, matrix in layer.outer:
            rows = piece.stop - piece.start
            ours = piece.start, piece.stop
            layer.inner.multiply(shared, inner, 0, rows=ours, vectors=vectors, activation=self.activation)
            operand = matrix.operand(inner, 0, rows, vectors)
            matrix.multiply(operand, states, place, start=(states, place), vectors=vectors)
