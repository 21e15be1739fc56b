"""LSTM recurrences on hand-made arrays; `test_runtime_lstm` compares whole layers with torch."""

import numpy as np
import pytest
from scipy.special import expit

from audio_lottery.sparse.kernels.recurrent import GATES, SEGMENT, recur, recur_lanes
from audio_lottery.sparse.kernels.vector import WIDTH

SIZE = SEGMENT or 4 * WIDTH


def step(gates, h, c):
    i, f, g, o = gates.reshape(-1, GATES, WIDTH).swapaxes(0, 1).reshape(GATES, -1)
    c = expit(f) * c + expit(i) * np.tanh(g)
    return expit(o) * np.tanh(c), c


@pytest.mark.parametrize("direction", [1, -1])
@pytest.mark.parametrize("frames", [1, 4, 5])
def test_recur(direction, frames):
    """One weight a row: row r multiplies state (7·r) mod size by its number."""
    random = np.random.default_rng(0)
    groups = SIZE // WIDTH
    index = (7 * np.arange(GATES * SIZE)) % SIZE
    values = random.normal(size=GATES * SIZE).astype(np.float32)
    gates = random.normal(size=(frames, 5 + GATES * SIZE)).astype(np.float32)
    h, c = random.normal(size=(2, SIZE)).astype(np.float32)
    rows = np.arange(frames)
    begin = 0 if direction == 1 else frames - 1
    units = random.permutation(SIZE)[:-3]
    out = np.full((frames, SIZE + 4), -777, np.float32)
    state, cell = h.copy(), c.copy()
    recur(
        values, index.astype(np.uint8), np.ones(groups * GATES, np.int32), 1, gates.reshape(-1), gates.shape[1], 5,
        rows, begin, direction, frames, state, cell, np.empty(SIZE, np.float32), units, out.reshape(-1), SIZE + 4, 2,
    )  # fmt: skip
    expected = np.full_like(out, -777)
    for row in rows[::direction]:
        h, c = step(gates[row, 5:] + values * h[index], h, c)
        expected[row, 2 + units] = h[: units.size]
    np.testing.assert_allclose(out, expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(state, h, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(cell, c, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("direction", [1, -1])
def test_recur_lanes_keeps_what_each_lane_ended_with(direction):
    """Three utterances of different lengths, no recurrent weights: all that is left is the cell."""
    random = np.random.default_rng(0)
    frames = np.array([4, 1, 2])
    first = np.cumsum(frames) - frames
    begin = first if direction == 1 else first + frames - 1
    gates = random.normal(size=(frames.sum(), GATES * SIZE)).astype(np.float32)
    state, cell = np.zeros((2, SIZE, WIDTH), np.float32)
    ends = np.full((2, WIDTH, SIZE), -777, np.float32)
    out = np.empty((frames.sum(), SIZE), np.float32)
    nothing = np.zeros(0, np.float32)
    recur_lanes(
        False, nothing, np.zeros(0, np.uint16), WIDTH, np.zeros(GATES * SIZE + 1, np.int64),
        np.zeros(GATES * SIZE, np.float32),
        gates.reshape(-1), GATES * SIZE, 0, np.arange(frames.sum()), begin, direction, frames, state.reshape(-1),
        cell.reshape(-1), np.empty((GATES * SIZE + WIDTH) * WIDTH, np.float32), ends.reshape(-1), np.arange(SIZE),
        out.reshape(-1), SIZE, 0,
    )  # fmt: skip
    for lane, (start, count) in enumerate(zip(first, frames, strict=True)):
        h = c = np.zeros(SIZE)
        for row in np.arange(start, start + count)[::direction]:
            h, c = step(gates[row], h, c)
            np.testing.assert_allclose(out[row], h, atol=1e-6)
        np.testing.assert_allclose(ends[0, lane], h, atol=1e-6)
        np.testing.assert_allclose(ends[1, lane], c, atol=1e-6)
    assert (ends[:, 3:] == -777).all()
