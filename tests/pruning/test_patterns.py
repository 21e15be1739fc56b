"""Patterns: how weights form groups, and what cannot be cut into them."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from audio_lottery.errors import MaskError
from audio_lottery.pruning import parse_pattern
from audio_lottery.pruning.pattern import as_matrix
from audio_lottery.pruning.patterns import Blocks, NofM
from tests.pruning import literal

VALUES = st.sampled_from([0.0, -0.0, 1e-45, 0.5, -0.5, 1.0, 1.0000001, 3.0, -3.0, 3.4e38])
SHAPES = st.one_of(
    st.tuples(st.integers(1, 9), st.integers(1, 9)),
    st.tuples(st.integers(1, 5), st.integers(1, 3), st.integers(1, 4)),
    st.tuples(st.integers(1, 4), st.integers(1, 3), st.integers(1, 2), st.integers(1, 3)),
)
BLOCKS = ["unstructured", "block:1x4", "block:4x1", "block:2x3", "block:8x8", "rows", "columns"]


def drawn(data: st.DataObject, shape: tuple[int, ...]) -> torch.Tensor:
    n = math.prod(shape)
    return torch.tensor(data.draw(st.lists(VALUES, min_size=n, max_size=n)), dtype=torch.float32).reshape(shape)


@given(st.sampled_from(BLOCKS), SHAPES, st.data())
@settings(max_examples=200, deadline=None)
def test_blocks_are_the_literal_groups(spec, shape, data):
    pattern = parse_pattern(spec)
    scores = drawn(data, shape)
    groups = literal.blocks(shape, pattern.rows, pattern.columns)
    flat = scores.reshape(-1).tolist()
    reduced = pattern.reduce("w", scores)
    assert reduced.shape == pattern.grid(torch.Size(shape))
    assert reduced.reshape(-1).tolist() == [literal.mean(flat, group) for group in groups]
    sizes = pattern.sizes(torch.Size(shape))
    assert np.broadcast_to(sizes, len(groups)).tolist() == [len(group) for group in groups]
    kept = torch.tensor(data.draw(st.lists(st.booleans(), min_size=len(groups), max_size=len(groups))))
    mask = pattern.expand(kept.view_as(reduced), torch.Size(shape))
    chosen = {i for keep, group in zip(kept.tolist(), groups, strict=True) if keep for i in group}
    assert mask.shape == shape
    assert mask.reshape(-1).tolist() == [i in chosen for i in range(math.prod(shape))]
    assert torch.equal(pattern.whole("w", mask), kept.view_as(reduced))


def test_large_matrices_are_summed_in_pieces():
    scores = torch.rand(1003, 301, generator=torch.Generator().manual_seed(0))
    reduced = parse_pattern("block:16x2").reduce("w", scores)
    assert reduced[62, 150] == pytest.approx(float(scores[992:, 300:].mean()), rel=1e-6)
    assert reduced[5, 7] == pytest.approx(float(scores[80:96, 14:16].mean()), rel=1e-6)


def test_kernels_are_flattened_tap_after_tap_without_moving():
    kernel = torch.arange(24.0).reshape(2, 3, 4)
    assert as_matrix(kernel)[0].tolist() == list(range(12))
    assert as_matrix(kernel).data_ptr() == kernel.data_ptr()
    # a 1x4 block of a kernel of four taps is one input channel
    assert parse_pattern("block:1x4").reduce("w", kernel).tolist() == kernel.mean(dim=2).tolist()


@given(st.sampled_from([(1, 2), (2, 4), (1, 4), (4, 8), (3, 5)]), st.integers(1, 5), st.integers(1, 3), st.data())
@settings(max_examples=100, deadline=None)
def test_n_of_m_keeps_the_best_of_every_group(n_of_m, rows, groups, data):
    n, m = n_of_m
    scores = drawn(data, (rows, groups * m))
    pattern = parse_pattern(f"nm:{n}:{m}")
    among = None
    if data.draw(st.booleans()):
        allowed = [data.draw(st.lists(st.booleans(), min_size=m, max_size=m)) for _ in range(rows * groups)]
        among = torch.tensor([[k or i < n for i, k in enumerate(group)] for group in allowed]).reshape(rows, -1)
    mask = pattern.select("w", scores, among)
    for row in range(rows):
        for start in range(0, groups * m, m):
            places = [c for c in range(start, start + m) if among is None or among[row, c]]
            best = sorted(places, key=lambda c: (-float(scores[row, c]), c))[:n]
            assert [c for c in range(start, start + m) if mask[row, c]] == sorted(best)


def test_specs():
    assert parse_pattern("block:16x2") == Blocks("block:16x2", 16, 2)
    assert parse_pattern("nm:4:8") == NofM("nm:4:8", 4, 8)
    assert parse_pattern("nm:2:4").density == 0.5


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("blocks", "is not a pattern; patterns are unstructured, block:"),
        ("block:0x4", "is not a pattern"),
        ("nm:4:4", "prunes nothing; N must be below M"),
        ("nm:1:128", "at most 64"),
    ],
)
def test_specs_that_make_no_sense_are_refused(spec, message):
    with pytest.raises(MaskError, match=message):
        parse_pattern(spec)


def test_what_does_not_fit_a_parameter_is_refused_by_name():
    with pytest.raises(MaskError, match=r"'w' \(2, 6\) has 6 inputs per output, which 4 does not divide; exclude it"):
        parse_pattern("nm:2:4").select("w", torch.ones(2, 6))
    with pytest.raises(MaskError, match="keeps fewer than 2 weights in 1 groups of 4 inputs in 'w'"):
        parse_pattern("nm:2:4").select("w", torch.ones(1, 8), torch.tensor([[True, False, False, False] + [True] * 4]))
    with pytest.raises(MaskError, match="'w' has weights or scores that are NaN"):
        parse_pattern("nm:2:4").select("w", torch.full((1, 4), float("nan")))
    with pytest.raises(MaskError, match=r"'channels' is for convolutions and 'w' \(2, 6\) is none.*'rows'"):
        parse_pattern("channels").reduce("w", torch.ones(2, 6))
    with pytest.raises(MaskError, match="keeps 1 groups of pattern 'block:1x4' in 'w' only in part"):
        parse_pattern("block:1x4").whole("w", torch.tensor([[True] * 4 + [True, False, True, True]]))
