"""Attention over tiles, against the plain softmax in float64."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from audio_lottery.sparse.kernels.attention import ROWS, SCRATCH, attend
from audio_lottery.sparse.kernels.rows import FRAMES, VECTORS
from audio_lottery.sparse.kernels.vector import WIDTH

key_counts = st.lists(
    st.one_of(st.integers(0, FRAMES), st.sampled_from([0, 1, ROWS - 1, ROWS, ROWS + 1, FRAMES])), min_size=1, max_size=4
)


def check(keys, size, vectors, number, scale=1.0, shift=0.0, heads=2, tolerance=2e-5):
    """One head's output for the queries of tile ``number``, compared."""
    keys = np.array(keys, np.int64)
    random = np.random.default_rng(0)
    step = 3 * heads * size * FRAMES
    qkv = random.normal(0, scale, keys.size * step).astype(np.float32)
    qkv.reshape(keys.size, 3, heads, size, FRAMES)[:, 1] += np.float32(shift)
    head = heads - 1
    row = head * size * FRAMES
    third = heads * size * FRAMES
    out = np.full(keys.size * third, -777, np.float32)
    scratch = np.full(SCRATCH + size * 2 * WIDTH, np.nan, np.float32)
    target = number * third + row
    attend(
        qkv, number * step + row, third + row, 2 * third + row, step, keys, size, out, target, scratch, vectors
    )  # fmt: skip
    parts = qkv.astype(np.float64).reshape(keys.size, 3, heads, size, FRAMES)[:, :, head]
    frames = vectors * WIDTH
    k = np.concatenate([part[1, :, :count] for part, count in zip(parts, keys, strict=True)], 1)
    v = np.concatenate([part[2, :, :count] for part, count in zip(parts, keys, strict=True)], 1)
    scores = parts[number, 0, :, :frames].T @ k
    weights = np.exp(scores - scores.max(1, keepdims=True))
    expected = (v @ (weights / weights.sum(1, keepdims=True)).T).astype(np.float32)
    found = out[target : target + size * FRAMES].reshape(size, FRAMES)
    np.testing.assert_allclose(found[:, :frames], expected, rtol=2e-4, atol=tolerance)
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
