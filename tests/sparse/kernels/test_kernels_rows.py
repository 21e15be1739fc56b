"""Sparse products on a tile, against the dense product in float64."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from audio_lottery.sparse.kernels.rows import BLOCK_ROWS, FRAMES, VECTORS, block_rows, csr_rows
from audio_lottery.sparse.kernels.vector import WIDTH

UNTOUCHED = np.float32(-777)


def csr(weight, places):
    rows, columns = np.nonzero(weight)
    pointers = np.concatenate([[0], np.cumsum(np.bincount(rows, minlength=len(weight)))])
    return csr_rows, weight[rows, columns], places[columns].astype(np.int32), 1, pointers


def blocks(weight, places):
    grouped = weight.reshape(-1, BLOCK_ROWS, weight.shape[1])
    group, columns = np.nonzero(grouped.any(1))
    pointers = np.concatenate([[0], np.cumsum(np.bincount(group, minlength=len(grouped)))])
    values = grouped[group, :, columns].reshape(-1)
    return block_rows, values, places[columns].astype(np.int32), 1, pointers


@given(data=st.data())
@settings(max_examples=60, deadline=None)
@pytest.mark.parametrize("layout", [csr, blocks])
def test_product_equals_dense(layout, data):
    step = BLOCK_ROWS if layout is blocks else 1
    rows = step * data.draw(st.integers(1, 4 if layout is blocks else 40), "rows")
    columns = data.draw(st.integers(1, 30), "columns")
    vectors = data.draw(st.integers(1, VECTORS), "vectors")
    density = data.draw(st.sampled_from([0.0, 0.05, 0.5, 1.0]), "density")
    first = step * data.draw(st.integers(0, rows // step - 1), "first")
    last = first + step * data.draw(st.integers(1, (rows - first) // step), "last")
    base, target = data.draw(st.integers(0, 5), "base"), data.draw(st.integers(0, 5), "target")
    stride = FRAMES + data.draw(st.sampled_from([0, 16]), "stride")
    added = data.draw(st.sampled_from(["nothing", "an array", "in place"]), "added")
    random = np.random.default_rng(data.draw(st.integers(0, 999), "seed"))
    weight = random.normal(size=(rows, columns)).astype(np.float32) * (random.random((rows, columns)) < density)
    weight[:, random.random(columns) < 0.2] = 0
    weight[random.random(rows) < 0.2] = 0
    bias = random.normal(size=rows).astype(np.float32)
    # rows of the tile lie in any order, with any offset
    places = random.permutation(columns) * stride + random.integers(0, 4, columns)
    x = random.normal(size=base + columns * stride + 8).astype(np.float32)
    out = np.full(target + (last - first) * stride + WIDTH, UNTOUCHED)
    start = random.normal(size=3 + (last - first) * FRAMES).astype(np.float32)
    origin, pitch = {"nothing": (-1, 0), "an array": (3, FRAMES), "in place": (target, stride)}[added]
    if added == "in place":
        start = out
        out[:] = random.normal(size=out.size)
    frames = vectors * WIDTH
    read = np.stack([x[base + place : base + place + frames] for place in places]).astype(np.float64)
    expected = out.copy()
    for row in range(first, last):
        total = weight[row].astype(np.float64) @ read + bias[row]
        if origin >= 0:
            where = origin + (row - first) * pitch
            total += start[where : where + frames]
        where = target + (row - first) * stride
        expected[where : where + frames] = total
    function, *matrix = layout(weight, places)
    function(*matrix, first, last, bias, x[base:], out, target, stride, start, origin, pitch, vectors, 0)
    np.testing.assert_allclose(out, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("layout", [csr, blocks])
def test_by_hand(layout):
    weight = np.zeros((16, 3), np.float32)
    weight[1, 2], weight[3] = 2, (1, 0, -1)
    x = np.repeat(np.float32([1, 10, 100]), FRAMES)
    out = np.full(16 * FRAMES, UNTOUCHED)
    function, *matrix = layout(weight, np.arange(3) * FRAMES)
    bias = np.arange(16, dtype=np.float32)
    function(*matrix, 0, 16, bias, x, out, 0, FRAMES, out, -1, 0, VECTORS, 0)
    assert out.reshape(16, FRAMES).min(1).tolist() == [0, 201, 2, 3 - 99, *range(4, 16)]
    assert (out.reshape(16, FRAMES) == out.reshape(16, FRAMES)[:, :1]).all()
