"""Products and attention of a few frames, and the output layer of many words, against NumPy."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from audio_lottery.sparse.kernels.narrow import (
    attend_rows,
    narrow_product,
    norm_row,
    pack_narrow,
    single_product,
    unpack_narrow,
)
from audio_lottery.sparse.kernels.vector import WIDTH
from audio_lottery.sparse.kernels.words import WORD_ROWS
from audio_lottery.sparse.runtime.matrix import Places, compile_matrix

RANDOM = np.random.default_rng(0)


@given(
    st.one_of(st.integers(1, 40), st.sampled_from([16, 48])),
    st.integers(1, 70),
    st.integers(1, WIDTH),
    st.booleans(),
    st.sampled_from([0.0, 0.2, 1.0]),
)
@settings(max_examples=40, deadline=None)
def test_products(rows, columns, frames, adds, density):
    weight = RANDOM.standard_normal((rows, columns), np.float32) * (RANDOM.random((rows, columns)) < density)
    bias, x = RANDOM.standard_normal(rows, np.float32), RANDOM.standard_normal((frames, columns), np.float32)
    before = RANDOM.standard_normal((frames, rows), np.float32)
    expected = x @ weight.T + bias + before * adds
    for kernel in ("csr", *(("block16x1",) if rows % 16 == 0 else ())):
        places = Places(np.arange(columns), np.zeros(columns, np.int64), WIDTH)
        made = compile_matrix(weight.astype(np.float32), places, bias, (kernel,))
        matrix = (made.values, made.columns, made.unit, made.pointers, made.bias, kernel != "csr")
        tile, out = (np.full(size * WIDTH, np.nan, np.float32) for size in (columns, rows))
        pack_narrow(x.ravel(), 0, columns, frames, columns, tile)
        pack_narrow(before.ravel(), 0, rows, frames, rows, out)
        narrow_product(matrix, tile, out, adds)
        found = np.full((frames, rows), np.nan, np.float32)
        unpack_narrow(out, 0, rows, frames, found.reshape(-1), 0, rows)
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=2e-5)
        first = before[0].copy()
        single_product(matrix, x[0], first, adds)
        np.testing.assert_allclose(first, expected[0], rtol=1e-4, atol=2e-5)


def test_norm_of_one_frame():
    x, weight, bias = RANDOM.standard_normal((3, 6 * WIDTH), np.float32)
    out = np.empty_like(x)
    norm_row(x + 5, 0, x.size, (weight, bias, 1e-5), out)
    np.testing.assert_allclose(out, (x - x.mean()) / np.sqrt(x.var() + 1e-5) * weight + bias, rtol=1e-4, atol=2e-5)


@pytest.mark.parametrize("mode", range(4))
@pytest.mark.parametrize("size", [WIDTH, 4 * WIDTH, 5 * WIDTH])
@pytest.mark.parametrize(("steps", "seen"), [(1, 1), (1, 40), (7, 7), (3, 50)])
def test_attention(mode, size, steps, seen):
    texts, heads = 2, 3
    queries = 3 * RANDOM.standard_normal((texts, steps, heads, size), np.float32) / size**0.5
    keys, values = RANDOM.standard_normal((2, texts, heads, seen, size), np.float32)
    allowed = np.ones((texts, steps, seen), bool)
    if mode == 1:
        allowed[:] = np.arange(seen) <= np.arange(seen - steps, seen)[:, None]
    elif mode > 1:
        allowed = RANDOM.random((texts if mode == 2 else 1, steps, seen)) < 0.6
        allowed[..., 0] = True
    scores = np.einsum("btHd,bHsd->bHts", queries.astype(np.float64), keys)
    weights = np.where(allowed[:, None], np.exp(scores - scores.max(-1, keepdims=True)), 0)
    expected = np.einsum("bHts,bHsd->btHd", weights / weights.sum(-1, keepdims=True), values)
    padded = np.concatenate([queries, np.full_like(queries, np.nan)], 2)  # keys and values lie behind the queries
    out = np.full((texts, steps, heads, size), np.nan, np.float32)
    scratch = np.full(seen + 2 * WIDTH, np.nan, np.float32)
    flat = (padded.reshape(-1), 2 * heads * size, keys.reshape(-1), values.reshape(-1), (heads, steps, seen, size))
    for first, last in ((0, 4), (4, texts * heads)):
        attend_rows(first, last, *flat, allowed.reshape(-1), mode, out.reshape(-1), scratch)
    np.testing.assert_allclose(out, expected, rtol=1e-4, atol=2e-5)


@pytest.mark.parametrize("kind", WORD_ROWS)
@pytest.mark.parametrize("size", [WIDTH, 6 * WIDTH])
def test_words(kind, size):
    weight = RANDOM.standard_normal((37, size), np.float32)
    if kind == "float16":
        weight[0] = 6e-8 * np.arange(size)  # numbers that float16 holds with fewer bits
        stored = weight.astype(np.float16).view(np.int16)
        weight = stored.view(np.float16).astype(np.float32)
    elif kind == "bfloat16":
        stored = (weight.view(np.uint32) >> 16).astype(np.uint16).view(np.int16)
        weight = (stored.view(np.uint16).astype(np.uint32) << 16).view(np.float32)
    else:
        stored = weight
    bias, x = RANDOM.standard_normal(37, np.float32), RANDOM.standard_normal((5, size), np.float32)
    out = np.full((5, 37), np.nan, np.float32)
    for first, last in ((0, 20), (20, 37)):
        WORD_ROWS[kind](stored.reshape(-1), bias, x.reshape(-1), 5, size, first, last, out.reshape(-1))
    np.testing.assert_allclose(out, x @ weight.T + bias, rtol=1e-4, atol=2e-5)
