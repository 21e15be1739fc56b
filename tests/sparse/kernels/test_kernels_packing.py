"""Between torch's layouts and tiles: nothing lost, nothing outside written."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from audio_lottery.sparse.kernels.packing import copy_rows, pack, pack_phases, unpack
from audio_lottery.sparse.kernels.rows import FRAMES
from audio_lottery.sparse.kernels.vector import WIDTH

frame_counts = st.one_of(st.integers(1, FRAMES), st.sampled_from([1, WIDTH - 1, WIDTH, WIDTH + 1, FRAMES]))
feature_counts = st.one_of(st.integers(1, 70), st.sampled_from([WIDTH, 2 * WIDTH]))
UNTOUCHED = np.float32(-777)


def whole(frames):
    return -(-frames // WIDTH) * WIDTH


@given(frame_counts, feature_counts, st.integers(0, 3), st.integers(0, 9), st.integers(0, 9), st.integers(0, 5))
@settings(max_examples=80, deadline=None)
def test_pack(frames, features, first, before, after, target):
    stride = before + features + after
    source = np.random.default_rng(0).normal(size=(first + frames, stride)).astype(np.float32)
    tile = np.full(target + features * FRAMES, UNTOUCHED)
    pack(source.reshape(-1), first, frames, stride, before, before + features, tile, target)
    expected = np.full((features, FRAMES), UNTOUCHED)
    expected[:, : whole(frames)] = 0
    expected[:, :frames] = source[first:, before : before + features].T
    assert np.array_equal(tile[target:].reshape(features, FRAMES), expected)
    assert (tile[:target] == UNTOUCHED).all()


@given(frame_counts, feature_counts, st.integers(0, 3), st.integers(0, 9), st.integers(0, 9), st.integers(0, 5))
@settings(max_examples=80, deadline=None)
def test_unpack(frames, features, first, before, after, origin):
    stride = before + features + after
    tile = np.random.default_rng(0).normal(size=origin + features * FRAMES).astype(np.float32)
    out = np.full((first + frames + 1, stride), UNTOUCHED)
    unpack(tile, origin, features, frames, out.reshape(-1), first, stride, before)
    expected = np.full_like(out, UNTOUCHED)
    expected[first : first + frames, before : before + features] = tile[origin:].reshape(features, FRAMES)[:, :frames].T
    assert np.array_equal(out, expected)


@given(frame_counts, st.integers(1, 20), st.integers(0, 5), st.integers(0, 5), st.integers(0, 20))
@settings(max_examples=50, deadline=None)
def test_copy_rows(frames, rows, origin, target, gap):
    tile = np.random.default_rng(0).normal(size=origin + rows * FRAMES).astype(np.float32)
    stride = frames + gap
    out = np.full(target + rows * stride + WIDTH, UNTOUCHED)
    copy_rows(tile, origin, FRAMES, rows, frames, out, target, stride)
    expected = np.full_like(out, UNTOUCHED)
    expected[target : target + rows * stride].reshape(rows, stride)[:, :frames] = tile[origin:].reshape(rows, FRAMES)[
        :, :frames
    ]
    assert np.array_equal(out, expected)


@given(
    st.integers(1, 5),
    st.integers(1, 150),
    st.integers(-20, 160),
    st.integers(1, 6),
    st.integers(1, FRAMES),
    st.integers(0, 3),
    st.integers(0, 20),
)
@settings(max_examples=120, deadline=None)
def test_pack_phases(channels, length, begin, stride, count, origin, gap):
    pitch = length + gap
    signal = np.random.default_rng(0).normal(size=origin + channels * pitch).astype(np.float32)
    row = whole(count) + WIDTH
    tile = np.full(channels * stride * row, UNTOUCHED)
    pack_phases(signal, origin, channels, pitch, length, begin, stride, count, tile, row)
    found = tile.reshape(channels, stride, row)
    frames = begin + np.arange(count)[None] * stride + np.arange(stride)[:, None]
    inside = (frames >= 0) & (frames < length)
    expected = np.where(inside, signal[origin:].reshape(channels, pitch)[:, frames.clip(0, length - 1)], 0)
    assert np.array_equal(found[:, :, :count], expected)
    assert (found[:, :, whole(count) :] == UNTOUCHED).all()
