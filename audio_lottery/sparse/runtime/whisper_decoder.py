"""A layer of Whisper's decoder, for the few frames that it gets at a time while it writes.

What it has seen lies in the caches of transformers, as transformers lays it out, so that `generate` and its searches
are used as they are.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers.cache_utils import Cache, EncoderDecoderCache

from audio_lottery.errors import ModelError
from audio_lottery.sparse.kernels.decoder import output_feed_forward, output_project, project
from audio_lottery.sparse.kernels.elementwise import ACTIVATIONS
from audio_lottery.sparse.kernels.narrow import attend_rows
from audio_lottery.sparse.kernels.vector import WIDTH
from audio_lottery.sparse.runtime.linear import SparseLinear
from audio_lottery.sparse.runtime.matrix import KERNELS, Places, compile_matrix
from audio_lottery.sparse.runtime.modules import (
    Runner,
    activation_name,
    bias_of,
    input_array,
    no_kernel,
    refuse_inner_states,
    to_numpy,
)
from audio_lottery.sparse.runtime.threads import each, part, whole, workspace

# Multiply-adds of an attention that are worth waking another thread for.
_WORTH_SHARING = 1 << 18
# An additive mask leaves out what it adds less than this to.
_OUT = -1e4
_PRODUCTS = "the decoder's products"
_EVERYTHING = np.ones(1, bool)


@dataclass(frozen=True)
class Narrow:
    """A matrix for a few frames at a time.

    Attributes:
        kernel: "csr" or "block16x1".
        rows: output rows.
        kept: weights that are not zero.
        arrays: what `kernels.narrow` reads: values, columns, unit (of a narrow tile), pointers and bias as
            `SparseMatrix` has them; whether in blocks.
    """

    kernel: str
    rows: int
    kept: int
    arrays: tuple[np.ndarray, np.ndarray, int, np.ndarray, np.ndarray, bool]


class DecoderLayer(Runner):
    """[texts, steps, size] → the same: attention to what was written, to what was heard, and the feed-forward layer.

    Args:
        module: transformers' ``WhisperDecoderLayer``.
        precision: see `accelerate.accelerate`; of the projections of what was heard, all else is in float32.
    """

    kind = "decoder"

    def __init__(self, module: Any, precision: str = "float32") -> None:
        super().__init__()
        own, other = module.self_attn, module.encoder_attn
        self.size, self.heads, self.place = own.embed_dim, own.num_heads, own.layer_idx
        self.activation = ACTIVATIONS[activation_name(module.activation_fn)]
        self.projections = _narrow(*_joined([(own.q_proj, own.scaling), (own.k_proj, 1.0), (own.v_proj, 1.0)]))
        self.question = _narrow(*_joined([(other.q_proj, other.scaling)]))
        self.outputs = [_narrow(*_joined([(attention.out_proj, 1.0)])) for attention in (own, other)]
        self.inner, self.outer = (_narrow(*_joined([(layer, 1.0)])) for layer in (module.fc1, module.fc2))
        norms = module.self_attn_layer_norm, module.encoder_attn_layer_norm, module.final_layer_norm
        self.norms = [(to_numpy(norm.weight), to_numpy(norm.bias), float(norm.eps)) for norm in norms]
        self.heard = _linear(*_joined([(other.k_proj, 1.0), (other.v_proj, 1.0)]), precision)
        matrices = self.projections, self.question, *self.outputs, self.inner, self.outer
        self.kernel = self.inner.kernel
        self.kept = sum(matrix.kept for matrix in matrices) + self.heard.kept
        self.weights = sum(weight.numel() for weight in module.parameters() if weight.dim() > 1)
        self.macs_per_frame = self.weights - self.heard.weights

    @classmethod
    def claims(cls, module: nn.Module) -> bool:
        """See `Runner`."""
        return type(module).__name__ == "WhisperDecoderLayer"

    @classmethod
    def misfit(cls, module: Any) -> str:
        """See `Runner`: activations and heads that the kernels have, masks that are read here."""
        attention = module.self_attn
        fits = (
            activation_name(module.activation_fn)
            and attention.head_dim % WIDTH == 0
            and attention.config._attn_implementation in ("eager", "sdpa")
        )
        return "" if fits else no_kernel(module)

    @classmethod
    def trial_input(cls, module: Any) -> Tensor:
        """See `Runner`: one step."""
        return torch.randn(1, 1, module.embed_dim)

    def forward(
        self,
        hidden_states: Tensor,
        attention_mask: Tensor | None = None,
        encoder_hidden_states: Tensor | None = None,
        encoder_attention_mask: None = None,
        cache: Cache | None = None,
        **kwargs: object,
    ) -> Tensor:
        """Go on with texts.

        Args:
            hidden_states: [texts, steps, size], the steps behind those that the cache has.
            attention_mask: [texts or 1, 1, steps, all steps], true (or 0, and not very negative) where a step is seen;
                None: all that come before.
            encoder_hidden_states: [texts, positions, size], what was heard; None: there is nothing to hear.
            encoder_attention_mask: has to be None, as it always is for Whisper.
            cache: of transformers; it grows.
            kwargs: transformers' own, of which those that ask for inner states are refused.

        Raises:
            ModelError: inner states are asked for; another mask; a type, see `modules.input_array`.
        """
        refuse_inner_states(kwargs)
        if encoder_attention_mask is not None:
            raise ModelError("an accelerated decoder hears all of what the encoder gives: leave its mask out")
        input_array(hidden_states[:0], "the decoder")
        texts, steps, size = hidden_states.shape
        out = hidden_states.detach().clone(memory_format=torch.contiguous_format)
        states, rows = out.numpy().reshape(-1), texts * steps
        shape = (texts, steps, self.heads, size // self.heads)
        joined = torch.empty(rows, 3 * size)
        self._project(states, rows, joined.numpy().reshape(-1))
        seen = [joined[:, begin : begin + size].view(shape).transpose(1, 2) for begin in (size, 2 * size)]
        own = cache.self_attention_cache if isinstance(cache, EncoderDecoderCache) else cache
        if own is not None:
            seen = list(own.update(*seen, self.place))
        told = _mask(attention_mask, texts, steps, seen[0].shape[2])
        context, number = self._attend(joined, seen, steps, told), 0
        if encoder_hidden_states is not None:
            heard = self._hear(encoder_hidden_states, cache)
            question = torch.empty(rows, size)
            self._ask(context, states, rows, question.numpy().reshape(-1))
            context, number = self._attend(question, heard, steps, (0, _EVERYTHING)), 1
        self._finish(context, states, rows, number)
        return out

    def _hear(self, encoded: Tensor, cache: Cache | None) -> tuple[Tensor, Tensor]:
        """Keys and values of what was heard, [texts, heads, positions, size of a head], made once for a cache."""
        both = cache if isinstance(cache, EncoderDecoderCache) else None
        if both is not None and both.is_updated.get(self.place):
            layer = both.cross_attention_cache.layers[self.place]
            return layer.keys, layer.values
        texts, positions, size = encoded.shape
        with part("what was heard"):
            found = self.heard(encoded).view(texts, positions, 2, self.heads, size // self.heads)
            keys, values = (found[:, :, number].transpose(1, 2).contiguous() for number in range(2))
        if both is None:
            return keys, values
        both.is_updated[self.place] = True
        keys, values = both.cross_attention_cache.update(keys, values, self.place)
        return keys, values

    def _attend(
        self, queries: Tensor, seen_states: Sequence[Tensor], steps: int, told: tuple[int, np.ndarray]
    ) -> np.ndarray:
        """[rows, size] of attention; see `kernels.narrow.attend_rows`."""
        (keys, values), (mode, allowed) = seen_states, told
        texts, heads, seen, size = keys.shape
        query, stride = queries.numpy().reshape(-1), queries.shape[1]
        key, value = (input_array(tensor, "the decoder's cache") for tensor in (keys, values))
        out = workspace("decoder's context", texts * steps * heads * size)
        shape = (heads, steps, seen, size)
        count = texts * heads
        shared = steps * count * seen * size > _WORTH_SHARING
        share = whole(count, torch.get_num_threads()) // torch.get_num_threads() if shared else count

        def work(number: int, scores: np.ndarray) -> None:
            first = number * share
            last = min(first + share, count)
            attend_rows(first, last, query, stride, key, value, shape, allowed, mode, out, scores)

        each(work, whole(count, share) // share, whole(seen, WIDTH) + WIDTH, "attention")
        return out

    def _project(self, states: np.ndarray, rows: int, out: np.ndarray) -> None:
        """Queries, keys and values of the steps themselves."""
        matrix, size = self.projections, self.size

        def work(number: int, scratch: np.ndarray) -> None:
            first = number * WIDTH
            project(states, first, min(WIDTH, rows - first), size, self.norms[0], matrix.arrays, scratch, out)

        each(work, whole(rows, WIDTH) // WIDTH, (size + matrix.rows) * WIDTH, _PRODUCTS)

    def _ask(self, context: np.ndarray, states: np.ndarray, rows: int, out: np.ndarray) -> None:
        """The residual stream behind the first attention, and queries for the second."""
        size, outer, norm, matrix = self.size, self.outputs[0].arrays, self.norms[1], self.question.arrays

        def work(number: int, scratch: np.ndarray) -> None:
            first = number * WIDTH
            frames = min(WIDTH, rows - first)
            output_project(context, states, first, frames, size, outer, norm, matrix, scratch, out)

        each(work, whole(rows, WIDTH) // WIDTH, 2 * size * WIDTH, _PRODUCTS)

    def _finish(self, context: np.ndarray, states: np.ndarray, rows: int, last: int) -> None:
        """The residual stream behind the last attention and the feed-forward layer."""
        size, outer, norm = self.size, self.outputs[last].arrays, self.norms[2]
        inner, second, kind = self.inner.arrays, self.outer.arrays, self.activation

        def work(number: int, scratch: np.ndarray) -> None:
            first = number * WIDTH
            frames = min(WIDTH, rows - first)
            output_feed_forward(context, states, first, frames, size, outer, norm, inner, second, kind, scratch)

        each(work, whole(rows, WIDTH) // WIDTH, (2 * size + self.inner.rows) * WIDTH, _PRODUCTS)


def _mask(mask: Tensor | None, texts: int, steps: int, seen: int) -> tuple[int, np.ndarray]:
    """How `attend_rows` is told what a step sees."""
    if mask is None:
        return (1 if steps > 1 else 0), _EVERYTHING
    if not isinstance(mask, Tensor) or mask.dim() != 4 or mask.shape[1:] != (1, steps, seen):
        found = tuple(mask.shape) if isinstance(mask, Tensor) else type(mask).__name__
        raise ModelError(f"an accelerated decoder takes masks [texts, 1, {steps}, {seen}] and got {found}")
    allowed = mask if mask.dtype == torch.bool else mask > _OUT
    return (3 if len(mask) == 1 < texts else 2), allowed.contiguous().numpy().reshape(-1)


def _joined(layers: list[tuple[nn.Linear, float]]) -> tuple[np.ndarray, np.ndarray]:
    """Weight and bias of linear layers of one input, one under the other, each times a number."""
    weights = [to_numpy(layer.weight) * np.float32(scale) for layer, scale in layers]
    biases = [bias_of(layer) for layer, _ in layers]
    filled = [
        np.zeros(len(weight), np.float32) if bias is None else bias
        for weight, bias in zip(weights, biases, strict=True)
    ]
    scaled = [bias * np.float32(scale) for bias, (_, scale) in zip(filled, layers, strict=True)]
    return np.concatenate(weights), np.concatenate(scaled)


def _narrow(weight: np.ndarray, bias: np.ndarray) -> Narrow:
    columns = weight.shape[1]
    places = Places(np.arange(columns), np.zeros(columns, np.int64), WIDTH)
    matrix = compile_matrix(weight, places, bias, KERNELS["float32"])
    blocks = matrix.kernel != "csr"
    arrays = (matrix.values, matrix.columns, matrix.unit, matrix.pointers, matrix.bias, blocks)
    return Narrow(matrix.kernel, matrix.rows, matrix.kept, arrays)


def _linear(weight: np.ndarray, bias: np.ndarray, precision: str) -> SparseLinear:
    """The same for as many frames as there are."""
    layer = nn.utils.skip_init(nn.Linear, weight.shape[1], len(weight))
    layer.weight, layer.bias = (nn.Parameter(torch.from_numpy(one), requires_grad=False) for one in (weight, bias))
    return SparseLinear(layer, precision)
