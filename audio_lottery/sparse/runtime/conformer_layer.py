"""The matrices of a conformer block, as the kernels read them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import nn

from audio_lottery.sparse.runtime.matrix import Places, SparseMatrix, compile_matrix, split_columns
from audio_lottery.sparse.runtime.modules import bias_of, to_numpy, weights_of

Norm = tuple[np.ndarray, np.ndarray, float]


@dataclass(frozen=True)
class FeedForward:
    """A feed-forward of half a step, its norm before it.

    Attributes:
        norm: weight, bias and epsilon.
        inner: [inner features, features].
        outer: [features, inner features], halved, in pieces of its columns.
    """

    norm: Norm
    inner: SparseMatrix
    outer: list[tuple[slice, SparseMatrix]]


@dataclass(frozen=True)
class ConformerLayer:
    """One block's matrices; queries are scaled, queries, keys and values are one matrix.

    Attributes:
        first: the feed-forward before attention.
        attention_norm: before attention.
        projections: [3 · heads · head size, features], u in the biases of the queries.
        moves: v - u, scaled.
        positions: [heads · head size, features], of the distances.
        output: back to the features.
        convolution_norm: before the convolution.
        gates: [2 · features, features].
        taps: [features, taps] of the depthwise convolution, batch norm in it.
        offsets: [features], its biases.
        mixing: [features, features] after it.
        second: the feed-forward at the end.
        norm: of the block's output.
    """

    first: FeedForward
    attention_norm: Norm
    projections: SparseMatrix
    moves: np.ndarray
    positions: SparseMatrix
    output: SparseMatrix
    convolution_norm: Norm
    gates: SparseMatrix
    taps: np.ndarray
    offsets: np.ndarray
    mixing: SparseMatrix
    second: FeedForward
    norm: Norm

    @property
    def matrices(self) -> list[SparseMatrix]:
        """All that run on the kernels for sparse products."""
        own = [self.projections, self.positions, self.output, self.gates, self.mixing]
        for feed_forward in (self.first, self.second):
            own += [feed_forward.inner, *(matrix for _, matrix in feed_forward.outer)]
        return own


def _norm(norm: nn.LayerNorm) -> Norm:
    with weights_of(norm):
        return to_numpy(norm.weight), to_numpy(norm.bias), float(norm.eps)


def _feed_forward(norm: nn.LayerNorm, module: Any, kernels: Sequence[str]) -> FeedForward:
    half = np.float32(0.5)
    with weights_of(module.linear1):
        inner = _whole(to_numpy(module.linear1.weight), bias_of(module.linear1), kernels)
    with weights_of(module.linear2):
        bias = bias_of(module.linear2)
        outer = split_columns(to_numpy(module.linear2.weight) * half, None if bias is None else bias * half, kernels)
    return FeedForward(_norm(norm), inner, outer)


def _whole(weight: np.ndarray, bias: np.ndarray | None, kernels: Sequence[str]) -> SparseMatrix:
    return compile_matrix(weight, Places.plain(weight.shape[1]), bias, kernels)


def _in_heads(rows: np.ndarray, count: int, size: int) -> np.ndarray:
    """[heads · head size, …] with zeros between the heads, up to ``size`` rows for each."""
    parts = rows.reshape(count, -1, *rows.shape[1:])
    padded = np.zeros((count, size, *rows.shape[1:]), np.float32)
    padded[:, : parts.shape[1]] = parts
    return padded.reshape(count * size, *rows.shape[1:])


def compile_layer(layer: Any, head: int, kernels: Sequence[str]) -> ConformerLayer:
    """Pack a block, whose parts are asked for one after the other (`modules.weights_of`).

    Args:
        layer: transformers' ``ParakeetEncoderBlock``.
        head: features of a head; what it has less is filled up with zeros.
        kernels: see `matrix.compile_matrix`.
    """
    with weights_of(layer.self_attn):
        attention = _attention(layer.self_attn, head, kernels)
    with weights_of(layer.conv):
        convolution = _convolution(layer.conv, kernels)
    return ConformerLayer(
        first=_feed_forward(layer.norm_feed_forward1, layer.feed_forward1, kernels),
        attention_norm=_norm(layer.norm_self_att),
        convolution_norm=_norm(layer.norm_conv),
        second=_feed_forward(layer.norm_feed_forward2, layer.feed_forward2, kernels),
        norm=_norm(layer.norm_out),
        **attention,
        **convolution,
    )


def _attention(attention: Any, head: int, kernels: Sequence[str]) -> dict[str, Any]:
    heads = attention.config.num_attention_heads
    scale = np.float32(attention.scaling)
    weights, biases = [], []
    for number, linear in enumerate((attention.q_proj, attention.k_proj, attention.v_proj)):
        weight = to_numpy(linear.weight)
        bias = np.zeros(len(weight), np.float32) if linear.bias is None else to_numpy(linear.bias)
        if number == 0:
            weight, bias = weight * scale, (bias + to_numpy(attention.bias_u).reshape(-1)) * scale
        weights.append(_in_heads(weight, heads, head))
        biases.append(_in_heads(bias, heads, head))
    moves = (to_numpy(attention.bias_v) - to_numpy(attention.bias_u)).reshape(-1) * scale
    output = np.ascontiguousarray(_in_heads(to_numpy(attention.o_proj.weight).T, heads, head).T)
    relative = _in_heads(to_numpy(attention.relative_k_proj.weight), heads, head)
    return {
        "projections": _whole(np.concatenate(weights), np.concatenate(biases), kernels),
        "moves": _in_heads(moves, heads, head),
        "positions": _whole(relative, None, kernels),
        "output": _whole(output, bias_of(attention.o_proj), kernels),
    }


def _convolution(convolution: Any, kernels: Sequence[str]) -> dict[str, Any]:
    taps, offsets = _folded(convolution.depthwise_conv, convolution.norm)
    first, second = convolution.pointwise_conv1, convolution.pointwise_conv2
    return {
        "gates": _whole(to_numpy(first.weight)[:, :, 0], bias_of(first), kernels),
        "taps": taps,
        "offsets": offsets,
        "mixing": _whole(to_numpy(second.weight)[:, :, 0], bias_of(second), kernels),
    }


def _folded(convolution: nn.Conv1d, norm: nn.BatchNorm1d) -> tuple[np.ndarray, np.ndarray]:
    """Taps and biases of a depthwise convolution with the batch norm behind it in them."""
    # a norm without statistics has no runner
    mean, variance = (
        np.asarray(to_numpy(part), np.float64) for part in (norm.running_mean, norm.running_var) if part is not None
    )
    scale = 1 / np.sqrt(variance + norm.eps)
    offsets = -mean
    bias = bias_of(convolution)
    if bias is not None:
        offsets = offsets + bias
    if norm.affine:
        scale = scale * to_numpy(norm.weight)
    offsets = offsets * scale
    if norm.affine:
        offsets = offsets + to_numpy(norm.bias)
    taps = to_numpy(convolution.weight)[:, 0] * scale[:, None]
    return taps.astype(np.float32).reshape(-1), offsets.astype(np.float32)
