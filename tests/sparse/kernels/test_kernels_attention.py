"""Attention over tiles, against the plain softmax in float64."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from audio_lottery.sparse.kernels.attention import ROWS, SCRATCH, attend_heads
from audio_lottery.sparse.kernels.attention_half import attend_heads_half, halve_projections, round_projections
from audio_lottery.sparse.kernels.rows import FRAMES, VECTORS
from audio_lottery.sparse.kernels.vector import HAS_BF16_DOT, HAS_INT8_DOT, WIDTH

key_counts = st.lists(
    st.one_of(st.integers(0, FRAMES), st.sampled_from([0, 1, ROWS - 1, ROWS, ROWS + 1, FRAMES])), min_size=1, max_size=4
)


def reference(qkv, keys, head, number, frames):
    """Softmax attention of one head for the first ``frames`` queries of tile ``number``, in float64.

    Args:
        qkv: [tiles, 3, heads, size, FRAMES].
        keys: frames of each tile that may be attended to.
        head: which.
        number: see above.
        frames: see above.

    Returns:
        [size, frames] float32.
    """
    parts = qkv[:, :, head].astype(np.float64)
    k = np.concatenate([part[1, :, :count] for part, count in zip(parts, keys, strict=True)], 1)
    v = np.concatenate([part[2, :, :count] for part, count in zip(parts, keys, strict=True)], 1)
    scores = parts[number, 0, :, :frames].T @ k
    weights = np.exp(scores - scores.max(1, keepdims=True))
    return (v @ (weights / weights.sum(1, keepdims=True)).T).astype(np.float32)


def projections(tiles, heads, size, scale=1.0):
    """Random queries, keys and values, [tiles, 3, heads, size, FRAMES]."""
    return np.random.default_rng(0).normal(0, scale, (tiles, 3, heads, size, FRAMES)).astype(np.float32)


def check(keys, size, vectors, number, scale=1.0, shift=0.0, heads=2, tolerance=2e-5):
    """One head's output for the queries of tile ``number``, compared."""
    qkv = projections(len(keys), heads, size, scale)
    qkv[:, 1] += np.float32(shift)
    head = heads - 1
    row = head * size * FRAMES
    third = heads * size * FRAMES
    out = np.full(len(keys) * third, -777, np.float32)
    scratch = np.full(SCRATCH + size * 2 * WIDTH, np.nan, np.float32)
    target = number * third + row
    attend_heads(
        head, heads, heads, size, qkv.ravel(), number, np.array(keys, np.int64), out, number * third, scratch, vectors
    )
    frames = vectors * WIDTH
    found = out[target : target + size * FRAMES].reshape(size, FRAMES)
    np.testing.assert_allclose(found[:, :frames], reference(qkv, keys, head, number, frames), rtol=2e-4, atol=tolerance)
    found[:, :frames] = -777
    assert (out == -777).all()


@given(key_counts, st.sampled_from([ROWS, 3 * ROWS, 64]), st.integers(1, VECTORS), st.data())
@settings(max_examples=60, deadline=None)
def test_attention_equals_softmax(keys, size, vectors, data):
    if not any(keys):
        keys[data.draw(st.integers(0, len(keys) - 1))] = 1
    check(keys, size, vectors, data.draw(st.integers(0, len(keys) - 1)))


@pytest.mark.parametrize("vectors", range(1, VECTORS + 1))
def test_any_number_of_vectors(vectors):
    check([FRAMES, 37], 16, vectors, 1)


def test_tiles_without_keys_first_and_last():
    check([0, 0, 5, 0], 16, 3, 0)


def test_a_single_key():
    check([1], 16, 2, 0)


def test_large_scores_do_not_overflow():
    # scores of some hundreds have four digits after the point
    check([FRAMES, 21], 64, 2, 0, scale=4.0, tolerance=1e-3)
    check([FRAMES, 21], 64, 2, 0, shift=30.0, tolerance=1e-3)


def rounded(values):
    """float32 rounded to bfloat16, to nearest even."""
    bits = values.view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) & 0xFFFF0000).view(np.float32)


def as_bytes(values):
    """float32 rounded to 127 steps of the largest of each frame and head; the features are the last but one axis."""
    tops = np.abs(values).max(-2, keepdims=True)
    steps = np.float32(127) / tops
    return (np.rint(values.astype(np.float64) * steps) * (tops * np.float32(1 / 127))).astype(np.float32)


def check_half(keys, size, vectors, number, in_bytes=False, heads=2):
    """`check` for factors in bfloat16: the reference sees the factors as rounded, its softmax's weights are not."""
    qkv = projections(len(keys), heads, size)
    third = heads * size * FRAMES
    share = 3 * third // 2
    pairs = np.full(len(keys) * share, -1, np.int32)
    for tile in range(len(keys)):
        halve = round_projections if in_bytes else halve_projections
        for part in ((0, 1), (1, heads)):
            halve(qkv.ravel(), tile * 3 * third, heads, size, *part, pairs, tile * share, VECTORS)
    target = number * third + (heads - 1) * size * FRAMES
    out = np.full(len(keys) * third, -777, np.float32)
    scratch = np.full(SCRATCH + size * 2 * WIDTH, np.nan, np.float32)
    weights = np.full(SCRATCH // 2, -1, np.int32)
    attend_heads_half(
        heads - 1, heads, heads, size, pairs, number, np.array(keys, np.int64), out, number * third, scratch, weights,
        vectors, in_bytes,
    )  # fmt: skip
    frames = vectors * WIDTH
    found = out[target : target + size * FRAMES].reshape(size, FRAMES)
    factors = rounded(qkv)
    if in_bytes:
        factors[:, :2] = as_bytes(qkv[:, :2])
    expected = reference(factors, keys, heads - 1, number, frames)
    # a weight is within 2^-9 of itself, so an output is within 2^-9 of the largest value that it averages
    np.testing.assert_allclose(found[:, :frames], expected, rtol=0, atol=np.abs(qkv[:, 2]).max() * 2.0**-9)
    found[:, :frames] = -777
    assert (out == -777).all()


@pytest.mark.skipif(not HAS_BF16_DOT, reason="this CPU has no AVX512-BF16")
@given(key_counts, st.sampled_from([ROWS, 3 * ROWS, 64]), st.sampled_from(range(2, VECTORS + 1, 2)), st.data())
@settings(max_examples=60, deadline=None)
def test_attention_in_bfloat16_equals_softmax_of_rounded_factors(keys, size, vectors, data):
    if not any(keys):
        keys[data.draw(st.integers(0, len(keys) - 1))] = 1
    check_half(keys, size, vectors, data.draw(st.integers(0, len(keys) - 1)))


@pytest.mark.skipif(not (HAS_BF16_DOT and HAS_INT8_DOT), reason="this CPU has no AVX512-BF16 or no AVX512-VNNI")
@given(key_counts, st.sampled_from([ROWS, 3 * ROWS, 64]), st.sampled_from(range(2, VECTORS + 1, 2)), st.data())
@settings(max_examples=60, deadline=None)
def test_attention_in_bytes_equals_softmax_of_rounded_factors(keys, size, vectors, data):
    if not any(keys):
        keys[data.draw(st.integers(0, len(keys) - 1))] = 1
    check_half(keys, size, vectors, data.draw(st.integers(0, len(keys) - 1)), in_bytes=True)
