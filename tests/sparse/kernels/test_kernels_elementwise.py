"""Activations and layer normalisation on tiles, against torch."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from audio_lottery.sparse.kernels.elementwise import ACTIVATIONS, activate, layer_norm
from audio_lottery.sparse.kernels.rows import FRAMES, VECTORS
from audio_lottery.sparse.kernels.vector import WIDTH

TORCH = {
    "none": lambda x: x,
    "gelu": torch.nn.functional.gelu,
    "relu": torch.relu,
    "silu": torch.nn.functional.silu,
}


@pytest.mark.parametrize("name", ACTIVATIONS)
@pytest.mark.parametrize("vectors", [1, 3, VECTORS])
def test_activation(name, vectors):
    rows, stride, origin = 5, FRAMES + 16, 7
    x = np.random.default_rng(0).normal(0, 8, origin + rows * stride).astype(np.float32)
    tile = x.copy()
    activate(ACTIVATIONS[name], tile, origin, rows, stride, vectors)
    expected = x.copy()
    part = expected[origin:].reshape(rows, stride)[:, : vectors * WIDTH]
    part[:] = TORCH[name](torch.from_numpy(part.copy())).numpy()
    # the error function is right to 2e-7, and x times it to x times as much
    np.testing.assert_allclose(tile, expected, rtol=1e-5, atol=3e-6)


@given(
    st.integers(1, 70), st.integers(1, VECTORS), st.booleans(), st.floats(-1000, 1000), st.floats(1e-3, 1e3),
    st.sampled_from([1e-5, 1e-3]),
)  # fmt: skip
@settings(max_examples=60, deadline=None)
def test_layer_norm(features, vectors, in_place, mean, scale, epsilon):
    random = np.random.default_rng(0)
    stride, frames = FRAMES + 16, vectors * WIDTH
    source = (random.normal(size=features * stride) * scale + mean * scale).astype(np.float32)
    weight, bias = random.normal(size=(2, features)).astype(np.float32)
    x = torch.from_numpy(source.copy()).view(features, stride)[:, :frames].T.double()
    expected = torch.nn.functional.layer_norm(
        x, (features,), torch.from_numpy(weight).double(), torch.from_numpy(bias).double(), epsilon
    )
    out, target = (source, 0) if in_place else (np.full(3 + features * stride, -777, np.float32), 3)
    before = out.copy()
    layer_norm(source, 0, out, target, features, stride, weight, bias, epsilon, vectors)
    found = out[target:].reshape(features, stride)
    # a mean is rounded by a few of its last places, which count for more where values differ little
    rounding = 4 * np.finfo(np.float32).eps * x.abs().amax(1) / (x.var(1, correction=0) + epsilon).sqrt()
    bound = (1e-5 + rounding[:, None]) * (1 + np.abs(weight)) + 1e-6 * expected.abs()
    assert ((torch.from_numpy(found[:, :frames].T.copy()) - expected).abs() <= bound).all()
    assert np.array_equal(found[:, frames:], before[target:].reshape(features, stride)[:, frames:])
