"""Products of bytes, bit for bit those of whole numbers."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from audio_lottery.sparse.kernels.int8 import HAS_INT8_DOT, HEAD, ZERO, row_bytes
from audio_lottery.sparse.kernels.quantise import STEPS, quantise_frames, quantise_tile
from audio_lottery.sparse.kernels.rows import BLOCK_ROWS, FRAMES, VECTORS
from audio_lottery.sparse.kernels.vector import WIDTH
from audio_lottery.sparse.runtime.quantised import INT8_FUNCTIONS, quantise
from audio_lottery.sparse.runtime.stored import Places

pytestmark = pytest.mark.skipif(not HAS_INT8_DOT, reason="this CPU has no AVX512-VNNI")

UNTOUCHED = np.float32(-777)
even_vectors = st.sampled_from(range(2, VECTORS + 1, 2))


def whole_weights(weight):
    """Signed bytes and a scale for each row, as `quantise` must make them."""
    scales = np.abs(weight).max(1, initial=0).astype(np.float32) / np.float32(STEPS)
    rows = [[round(float(w / scale)) if scale else 0 for w in row] for row, scale in zip(weight, scales, strict=True)]
    steps = np.array(rows)
    return steps.reshape(weight.shape).astype(np.int64), scales


@given(data=st.data())
@settings(max_examples=60, deadline=None)
@pytest.mark.parametrize("kernel", INT8_FUNCTIONS)
def test_product_equals_whole_numbers(kernel, data):
    step = BLOCK_ROWS if kernel.startswith("block") else 1
    rows = step * data.draw(st.integers(1, 3 if step > 1 else 30), "rows")
    columns = data.draw(st.integers(1, 40), "columns")
    vectors = data.draw(even_vectors, "vectors")
    density = data.draw(st.sampled_from([0.0, 0.05, 0.5, 1.0]), "density")
    first = step * data.draw(st.integers(0, rows // step - 1), "first")
    last = first + step * data.draw(st.integers(1, (rows - first) // step), "last")
    shift = data.draw(st.sampled_from([0, 1, 5, 70]), "shift")
    target = data.draw(st.integers(0, 5), "target")
    added = data.draw(st.sampled_from(["nothing", "an array", "in place"]), "added")
    random = np.random.default_rng(data.draw(st.integers(0, 999), "seed"))
    weight = random.normal(size=(rows, columns)).astype(np.float32) * (random.random((rows, columns)) < density)
    weight[:, random.random(columns) < 0.2] = 0
    bias = random.normal(size=rows).astype(np.float32)
    places = Places(random.permutation(columns), random.integers(0, shift + 1, columns), FRAMES + 128)
    matrix = quantise(kernel, weight, places, bias)
    row = row_bytes(int(places.shifts.max()))
    x = random.integers(0, 256, HEAD + columns * row + 64).astype(np.uint8)
    x[:HEAD].view(np.float32)[:] = random.random(FRAMES)
    out = np.full(target + (last - first) * FRAMES, UNTOUCHED)
    start = random.normal(size=3 + (last - first) * FRAMES).astype(np.float32)
    origin = {"nothing": -1, "an array": 3, "in place": target}[added]
    if added == "in place":
        out[:] = random.normal(size=out.size)
        start = out
    expected = out.copy()
    frames = vectors * WIDTH
    steps, scales = whole_weights(weight)
    frame_scales = x[:HEAD].view(np.float32)[:frames]
    begins = HEAD + places.rows * row + places.shifts
    inputs = np.stack([x[begin : begin + frames] for begin in begins]).astype(np.int64) - ZERO
    for number in range(first, last):
        total = (steps[number] @ inputs).astype(np.float32) * (frame_scales * scales[number])
        more = bias[number]
        if origin >= 0:
            where = origin + (number - first) * FRAMES
            more = more + start[where : where + frames]
        where = target + (number - first) * FRAMES
        expected[where : where + frames] = total + more
    matrix.multiply(x, out, target, rows=(first, last), start=None if origin < 0 else (start, origin), vectors=vectors)
    assert np.array_equal(out, expected)
    assert np.array_equal(matrix.dense(), steps.astype(np.float32) * scales[:, None])


@given(
    st.integers(1, 40), even_vectors, st.sampled_from([0, 1, 17]), st.sampled_from([1e-3, 1.0, 1e4]), st.integers(0, 9)
)
@settings(max_examples=60, deadline=None)
def test_tiles_to_bytes(features, vectors, shift, size, seed):
    """A scale for each frame, or one for all; what lies behind the frames has no say in it."""
    random = np.random.default_rng(seed)
    stride, origin = FRAMES + 32, 3
    frames = vectors * WIDTH + shift
    tile = np.full(origin + features * stride, np.float32(1e9))
    inside = tile[origin:].reshape(features, stride)[:, :frames]
    inside[:] = random.normal(0, size, inside.shape)
    inside[:, random.random(frames) < 0.2] = 0
    row = row_bytes(shift)
    x = np.zeros(HEAD + features * row, np.uint8)
    if shift:
        quantise_tile(tile, origin, features, stride, frames, x, row)
        tops = np.full(frames, np.abs(inside).max())
    else:
        quantise_frames(tile, origin, features, stride, vectors, x, row)
        tops = np.abs(inside).max(0)
    scales = x[:HEAD].view(np.float32)[: min(frames, FRAMES)]
    assert np.array_equal(scales, (tops * np.float32(1 / STEPS))[: scales.size])
    with np.errstate(divide="ignore"):
        steps = np.where(tops > 0, np.float32(STEPS) / tops, 0).astype(np.float32)
    found = x[HEAD:].reshape(features, row)[:, :frames]
    assert np.array_equal(found, np.rint(inside.astype(np.float64) * steps) + ZERO)
