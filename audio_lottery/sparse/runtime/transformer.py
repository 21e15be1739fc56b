"""Transformer layers on tiles of [features, `FRAMES`], the residual stream in the kernels' layout from first to last.

Threads share the work in one of two ways, which give the same numbers. *By frames*: a thread takes a tile through
everything that lies between two attentions, so that its activations stay in its own cache. *By rows*, where there are
fewer tiles than threads: each takes a part of the output rows, or of the heads, of all tiles. Then no thread has less
to do than another because a tile is not full, and each weight is read by one thread only; what is cheap (norms,
rounding) everyone does for itself rather than wait for it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import lcm
from typing import Any

import numpy as np
import torch
from torch import nn

from audio_lottery.sparse.kernels.attention import SCRATCH, attend_heads
from audio_lottery.sparse.kernels.attention_half import attend_heads_half, halve_projections, round_projections
from audio_lottery.sparse.kernels.elementwise import layer_norm
from audio_lottery.sparse.kernels.packing import pack_phases, unpack
from audio_lottery.sparse.kernels.rows import BLOCK_ROWS, FRAMES
from audio_lottery.sparse.kernels.vector import HAS_BF16_DOT, HAS_INT8_DOT, WIDTH
from audio_lottery.sparse.runtime.matrix import KERNELS, Places, SparseMatrix, compile_matrix, split_columns
from audio_lottery.sparse.runtime.modules import activation_code, activation_name, to_numpy
from audio_lottery.sparse.runtime.threads import each, equal_parts, record, tile_widths, whole, workspace

# what the seconds of everything between two attentions count towards
_PRODUCTS = "projections, feed-forward and norms"
# Pieces of attention for each thread: as even as they need to be.
_PIECES = 8

Norm = tuple[np.ndarray, np.ndarray, float]


@dataclass(frozen=True)
class Layer:
    """One layer's matrices; queries are scaled, queries, keys and values are one matrix."""

    projections: SparseMatrix
    output: SparseMatrix
    inner: SparseMatrix
    outer: list[tuple[slice, SparseMatrix]]
    attention_norm: Norm
    final_norm: Norm

    @property
    def matrices(self) -> list[SparseMatrix]:
        """All that it multiplies with."""
        return [self.projections, self.output, self.inner, *(matrix for _, matrix in self.outer)]


class Layers:
    """The layers of one encoder, and the norm before them ("post-norm") or after them ("pre-norm").

    Args:
        module: an encoder of transformers with the names of wav2vec2's.
        precision: see `accelerate.accelerate`.
        before: whether norms come before what they are for (pre-norm).
    """

    def __init__(self, module: Any, precision: str, before: bool) -> None:
        first = module.layers[0]
        self.before = before
        self.size, self.heads = first.attention.embed_dim, first.attention.num_heads
        self.width = self.size // self.heads
        self.activation = activation_code(activation_name(first.feed_forward.intermediate_act_fn), precision)
        self.in_bytes = precision == "int8" and HAS_INT8_DOT and HAS_BF16_DOT
        self.in_half = precision != "float32" and HAS_BF16_DOT
        self.norm = norm_of(module.layer_norm)
        self.all = [_compile_layer(layer, KERNELS[precision]) for layer in module.layers]
        self.inner_rows = self.all[0].inner.rows
        self.piece_rows = max(piece.stop - piece.start for piece, _ in self.all[0].outer)

    def run(self, signal: np.ndarray, row: int, frames: int, length: int, out: np.ndarray) -> None:
        """All layers.

        Args:
            signal: [size, row], flat.
            row: see above.
            frames: of which so many are computed.
            length: frames that are not padding.
            out: [frames, size], flat.
        """
        threads = torch.get_num_threads()
        by_rows = whole(frames, FRAMES) // FRAMES < threads
        widths = tile_widths(frames, FRAMES, 2 * WIDTH, 1 if by_rows else threads)
        starts = [number * widths[0] for number in range(len(widths))]
        keys = np.array([min(max(length - a, 0), width) for a, width in zip(starts, widths, strict=True)], np.int64)
        tiles = len(widths) * self.size * FRAMES
        shared = _Shared(
            widths,
            keys,
            workspace("states", tiles),
            workspace("context", tiles),
            workspace("projections", len(widths) * self.share).view(np.int32 if self.in_half else np.float32),
        )

        def begin(number: int, scratch: np.ndarray) -> None:
            count = shared.vectors(number) * WIDTH
            tile = shared.states[number * self.size * FRAMES :]
            pack_phases(signal, 0, self.size, row, frames, starts[number], 1, count, tile, FRAMES)

        def end(number: int, scratch: np.ndarray) -> None:
            # of a pre-norm encoder; or the norm of the last layer
            norm = self.norm if self.before else self.all[-1].final_norm
            place, vectors = number * self.size * FRAMES, shared.vectors(number)
            layer_norm(shared.states, place, shared.states, place, self.size, FRAMES, *norm, vectors)
            unpack(shared.states, place, self.size, widths[number], out, starts[number], self.size, 0)

        each(begin, len(widths), 0, _PRODUCTS)
        (self._by_rows if by_rows else self._by_frames)(shared)
        each(end, len(widths), 0, _PRODUCTS)

    @property
    def share(self) -> int:
        """Numbers of 32 bits that a tile's queries, keys and values take: three for each feature, or three of 16."""
        return (3 if self.in_half else 6) * self.size * FRAMES // 2

    def _norm_before(self, index: int) -> Norm:
        """What the residual stream goes through on its way to the projections of a layer."""
        if self.before:
            return self.all[index].attention_norm
        return self.norm if index == 0 else self.all[index - 1].final_norm

    def _project(
        self, layer: Layer, operand: np.ndarray, shared: "_Shared", number: int, heads: tuple[int, int]
    ) -> None:
        """Queries, keys and values of some heads of a tile."""
        step, vectors, place = self.size * FRAMES, shared.vectors(number), number * self.share
        into, begin = (workspace("single", 3 * step), 0) if self.in_half else (shared.joined, place)
        rows = heads[0] * self.width, heads[1] * self.width
        if rows == (0, self.size):
            layer.projections.multiply(operand, into, begin, vectors=vectors)
        else:
            for part in range(3):
                ours = part * self.size + rows[0], part * self.size + rows[1]
                layer.projections.multiply(operand, into, begin + ours[0] * FRAMES, rows=ours, vectors=vectors)
        if self.in_half:
            halve = round_projections if self.in_bytes else halve_projections
            halve(into, 0, self.heads, self.width, *heads, shared.joined, place, vectors)

    def _attend(self, shared: "_Shared", number: int, heads: tuple[int, int], scratch: np.ndarray) -> None:
        """Attention of some heads for the queries of a tile."""
        counter = record()
        if counter is not None:
            counter.add(
                2 * (heads[1] - heads[0]) * self.width * int(shared.keys.sum()) * shared.vectors(number) * WIDTH
            )
        target, vectors = number * self.size * FRAMES, shared.vectors(number)
        if self.in_half:
            weights = workspace("weights", SCRATCH // 2).view(np.int32)
            attend_heads_half(
                *heads, self.heads, self.width, shared.joined, number, shared.keys, shared.context, target, scratch,
                weights, vectors, self.in_bytes,
            )  # fmt: skip
        else:
            attend_heads(
                *heads, self.heads, self.width, shared.joined, number, shared.keys, shared.context, target, scratch,
                vectors,
            )  # fmt: skip

    @property
    def _attention_scratch(self) -> int:
        return SCRATCH + self.width * 2 * WIDTH

    # ------------------------------------------------------------ by frames

    def _by_frames(self, shared: "_Shared") -> None:
        tiles, step = len(shared.widths), self.size * FRAMES
        groups = min(whole(_PIECES * torch.get_num_threads(), tiles) // tiles, self.heads)
        heads = equal_parts(self.heads, groups, 1)

        def project(number: int, scratch: np.ndarray, index: int) -> None:
            source, place, vectors = shared.states, number * step, shared.vectors(number)
            target, begin = (scratch, 0) if self.before else (source, place)
            layer_norm(source, place, target, begin, self.size, FRAMES, *self._norm_before(index), vectors)
            layer = self.all[index]
            operand = layer.projections.operand(target, begin, self.size, vectors)
            self._project(layer, operand, shared, number, (0, self.heads))

        def attend(number: int, scratch: np.ndarray) -> None:
            tile, group = divmod(number, len(heads))
            self._attend(shared, tile, heads[group], scratch)

        def first(number: int, scratch: np.ndarray) -> None:
            project(number, scratch, 0)

        each(first, tiles, step, _PRODUCTS)
        for index, layer in enumerate(self.all):
            each(attend, tiles * len(heads), self._attention_scratch, "attention")

            def rest(number: int, scratch: np.ndarray, index: int = index, layer: Layer = layer) -> None:
                self._feed_forward(layer, number, shared, scratch)
                if index + 1 < len(self.all):
                    project(number, scratch, index + 1)

            each(rest, tiles, step + self.piece_rows * FRAMES, _PRODUCTS)

    def _feed_forward(self, layer: Layer, number: int, shared: "_Shared", scratch: np.ndarray) -> None:
        """From attention's output to the layer's, but for the norm at its end."""
        size, place, vectors, states = self.size, number * self.size * FRAMES, shared.vectors(number), shared.states
        middle, inner = scratch[: size * FRAMES], scratch[size * FRAMES :]
        operand = layer.output.operand(shared.context, place, size, vectors)
        if self.before:
            layer.output.multiply(operand, states, place, start=(states, place), vectors=vectors)
            layer_norm(states, place, middle, 0, size, FRAMES, *layer.final_norm, vectors)
        else:
            layer.output.multiply(operand, middle, 0, start=(states, place), vectors=vectors)
            layer_norm(middle, 0, middle, 0, size, FRAMES, *layer.attention_norm, vectors)
        operand = layer.inner.operand(middle, 0, size, vectors, "shared pairs")
        for piece, matrix in layer.outer:
            rows = piece.start, piece.stop
            layer.inner.multiply(operand, inner, 0, rows=rows, vectors=vectors, activation=self.activation)
            first = piece.start == 0 and not self.before
            start = (middle, 0) if first else (states, place)
            pairs = matrix.operand(inner, 0, piece.stop - piece.start, vectors)
            matrix.multiply(pairs, states, place, start=start, vectors=vectors)

    # ------------------------------------------------------------ by rows

    def _by_rows(self, shared: "_Shared") -> None:
        threads, tiles, step = torch.get_num_threads(), range(len(shared.widths)), self.size * FRAMES
        # blocks of rows stay whole
        heads = equal_parts(self.heads, threads, lcm(self.width, BLOCK_ROWS) // self.width)
        rows, inner_rows = (equal_parts(count, threads, BLOCK_ROWS) for count in (self.size, self.inner_rows))
        states = shared.states
        normed, middle = (workspace(name, len(tiles) * step) for name in ("normed", "middle"))
        inner_step = self.inner_rows * FRAMES
        inner = workspace("inner", len(tiles) * inner_step)

        def norm(number: int, tile: int, scratch: np.ndarray, kept: np.ndarray, how: Norm) -> tuple[np.ndarray, int]:
            """A tile's norm for whoever asks; the first one's is kept for all."""
            target, place = (scratch, 0) if number else (kept, tile * step)
            layer_norm(states, tile * step, target, place, self.size, FRAMES, *how, shared.vectors(tile))
            return target, place

        def phases(index: int, layer: Layer) -> list[tuple[Callable[[int, np.ndarray], None], int, int, str]]:
            def attention(number: int, scratch: np.ndarray) -> None:
                for tile in tiles:
                    found, place = norm(number, tile, scratch, normed, self._norm_before(index))
                    operand = layer.projections.operand(found, place, self.size, shared.vectors(tile))
                    self._project(layer, operand, shared, tile, heads[number])
                for tile in tiles:
                    self._attend(shared, tile, heads[number], scratch)

            def output(number: int, scratch: np.ndarray) -> None:
                for tile in tiles:
                    operand = layer.output.operand(shared.context, tile * step, self.size, shared.vectors(tile))
                    place = tile * step + rows[number][0] * FRAMES
                    layer.output.multiply(
                        operand, states, place, rows=rows[number], start=(states if self.before else normed, place),
                        vectors=shared.vectors(tile),
                    )  # fmt: skip

            def widen(number: int, scratch: np.ndarray) -> None:
                for tile in tiles:
                    how = layer.final_norm if self.before else layer.attention_norm
                    found, place = norm(number, tile, scratch, middle, how)
                    operand = layer.inner.operand(found, place, self.size, shared.vectors(tile))
                    layer.inner.multiply(
                        operand, inner, tile * inner_step + inner_rows[number][0] * FRAMES, rows=inner_rows[number],
                        vectors=shared.vectors(tile), activation=self.activation,
                    )  # fmt: skip

            def narrow(number: int, scratch: np.ndarray) -> None:
                for tile in tiles:
                    place = tile * step + rows[number][0] * FRAMES
                    for piece, matrix in layer.outer:
                        begin, count = tile * inner_step + piece.start * FRAMES, piece.stop - piece.start
                        operand = matrix.operand(inner, begin, count, shared.vectors(tile))
                        first = piece.start == 0 and not self.before
                        matrix.multiply(
                            operand, states, place, rows=rows[number], start=(middle if first else states, place),
                            vectors=shared.vectors(tile),
                        )  # fmt: skip

            return [
                (attention, len(heads), max(step, self._attention_scratch), "attention and its projections"),
                (output, len(rows), 0, _PRODUCTS),
                (widen, len(inner_rows), step, _PRODUCTS),
                (narrow, len(rows), 0, _PRODUCTS),
            ]

        for index, layer in enumerate(self.all):
            for work, count, scratch, name in phases(index, layer):
                each(work, count, scratch, name)


@dataclass(frozen=True)
class _Shared:
    """What the stages of one utterance share: tiles of ``widths[0]`` frames, the last one shorter.

    Attributes:
        widths: frames of each tile.
        keys: [tiles] int64, frames of each that may be attended to.
        states: [tiles, size, FRAMES], the residual stream.
        context: the same of what attention gives.
        joined: queries, keys and values of all tiles.
    """

    widths: list[int]
    keys: np.ndarray
    states: np.ndarray
    context: np.ndarray
    joined: np.ndarray

    def vectors(self, number: int) -> int:
        return whole(self.widths[number], 2 * WIDTH) // WIDTH


def norm_of(norm: nn.LayerNorm) -> Norm:
    """What `kernels.elementwise.layer_norm` takes."""
    return to_numpy(norm.weight), to_numpy(norm.bias), float(norm.eps)


def _compile_layer(layer: Any, kernels: Sequence[str]) -> Layer:
    attention = layer.attention
    scale = attention.head_dim**-0.5
    parts = (attention.q_proj, attention.k_proj, attention.v_proj)
    weights, biases = [to_numpy(part.weight) for part in parts], [to_numpy(part.bias) for part in parts]
    weights[0], biases[0] = weights[0] * np.float32(scale), biases[0] * np.float32(scale)
    inner, outer = layer.feed_forward.intermediate_dense, layer.feed_forward.output_dense

    def whole_matrix(weight: np.ndarray, bias: np.ndarray) -> SparseMatrix:
        return compile_matrix(weight, Places.plain(weight.shape[1]), bias, kernels)

    return Layer(
        projections=whole_matrix(np.concatenate(weights), np.concatenate(biases)),
        output=whole_matrix(to_numpy(attention.out_proj.weight), to_numpy(attention.out_proj.bias)),
        inner=whole_matrix(to_numpy(inner.weight), to_numpy(inner.bias)),
        outer=split_columns(to_numpy(outer.weight), to_numpy(outer.bias), kernels),
        attention_norm=norm_of(layer.layer_norm),
        final_norm=norm_of(layer.final_layer_norm),
    )
