"""Elementary functions on vectors, against float64."""

import numpy as np
import pytest
from numba import njit
from scipy import special

from audio_lottery.sparse.kernels.recurrent import sigmoid, tanh
from audio_lottery.sparse.kernels.vector import WIDTH, erf, exp, gelu, load, store, transpose


@njit(nogil=True)
def applied(kind, x, out):
    for part in range(0, x.size, WIDTH):
        value = load(x, part)
        if kind == 0:
            value = exp(value)
        elif kind == 1:
            value = erf(value)
        elif kind == 2:
            value = gelu(value)
        elif kind == 3:
            value = sigmoid(value)
        else:
            value = tanh(value)
        store(out, part, value)


def results(kind, x):
    x = np.resize(np.asarray(x, np.float32), -(-len(x) // WIDTH) * WIDTH)
    out = np.empty_like(x)
    applied(kind, x, out)
    return x.astype(np.float64), out


RANGE = np.concatenate([np.linspace(-30, 30, 60001), np.linspace(-1e-3, 1e-3, 2001), [0.0, -0.0, 1e-30, -1e-30]])


def test_exp_is_exact_to_two_units_in_the_last_place():
    x, found = results(0, np.linspace(-86.9, 87.9, 100_001))
    assert (np.abs(found / np.exp(x) - 1) < 2 * np.finfo(np.float32).eps).all()


def test_exp_far_away_is_tiny_or_large_and_never_a_surprise():
    x, found = results(0, [-1e30, -np.inf, -200.0, 200.0, np.inf])
    assert (found[x < 0] < 2e-38).all()
    assert (found[x < 0] > 0).all()
    assert (found[x > 0] > 1e38).all()
    assert np.isfinite(found).all()


@pytest.mark.parametrize(
    ("kind", "exact"), [(1, special.erf), (2, lambda x: x * special.ndtr(x)), (3, special.expit), (4, np.tanh)]
)
def test_function_is_exact_to_a_millionth(kind, exact):
    x, found = results(kind, RANGE)
    assert (np.abs(found - exact(x)) <= 5e-7 * np.maximum(1, np.abs(x))).all()


@pytest.mark.parametrize("kind", [3, 4])
def test_gates_saturate(kind):
    _, found = results(kind, [1e4, np.inf])
    assert (found == 1).all()
    _, found = results(kind, [-1e4, -np.inf])
    assert np.abs(found - (0 if kind == 3 else -1)).max() < 1e-30


@pytest.mark.parametrize("kind", range(5))
def test_nan_stays_nan(kind):
    _, found = results(kind, [np.nan])
    assert np.isnan(found).all()


@njit(nogil=True)
def transposed(source, start, stride, target, write, other):
    transpose(source, start, stride, target, write, other)


def test_transpose():
    source = np.arange(3 + WIDTH * 40, dtype=np.float32)
    target = np.full(5 + WIDTH * 30, -1, np.float32)
    transposed(source, 3, 40, target, 5, 30)
    expected = np.full_like(target, -1)
    expected[5:].reshape(WIDTH, 30)[:, :WIDTH] = source[3:].reshape(WIDTH, 40)[:, :WIDTH].T
    assert np.array_equal(target, expected)
