"""Masks of `prune` against slow implementations of the formulas: ties, zeros, tiny layers and layers of one weight."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from audio_lottery.errors import MaskError
from audio_lottery.pruning import Mask, Rule, prune
from tests.pruning import literal

LINEAR = st.tuples(st.integers(1, 6), st.integers(1, 6))
CONVOLUTION = st.tuples(st.integers(1, 4), st.integers(1, 3), st.integers(1, 3))
ONE = st.sampled_from([(1, 1), (1, 1, 1)])
SHAPES = st.lists(st.one_of(LINEAR, CONVOLUTION, ONE), min_size=1, max_size=4)


def build(shapes: list[literal.Shape], draw: st.DrawFn) -> tuple[nn.Module, list[list[float]]]:
    """A model of linear layers and convolutions of these shapes, and its weights as lists."""
    model = nn.ModuleList()
    for shape in shapes:
        out, features, *kernel = shape
        model.append(nn.Conv1d(features, out, kernel[0]) if kernel else nn.Linear(features, out))
        n = math.prod(shape)
        values = draw(st.lists(literal.VALUES, min_size=n, max_size=n))
        model[-1].weight.data = torch.tensor(values, dtype=torch.float32).reshape(shape)
    return model, [layer.weight.detach().reshape(-1).tolist() for layer in model]


@st.composite
def models(draw: st.DrawFn, shapes: st.SearchStrategy[list[literal.Shape]] = SHAPES):
    """(shapes, model, weights, number of weights to keep)."""
    found = draw(shapes)
    model, weights = build(found, draw)
    return found, model, weights, draw(st.integers(1, sum(map(len, weights))))


def chosen(mask: Mask) -> list[set[int]]:
    return [set(tensor.reshape(-1).nonzero().flatten().tolist()) for tensor in mask.values()]


def magnitudes(weights: list[list[float]]) -> list[list[float]]:
    return [[abs(w) for w in layer] for layer in weights]


@given(models(), st.integers(0, 2))
@settings(max_examples=150, deadline=None)
def test_lamp(case, owed):
    _, model, weights, keep = case
    if keep < sum(min(owed, len(layer)) for layer in weights):
        return
    scores = [literal.lamp(layer, list(range(len(layer)))) for layer in weights]
    mask = prune(model, keep / sum(map(len, weights)), score="lamp", rules=[Rule(".*", least=owed)])
    assert chosen(mask) == literal.best_of_all(scores, keep, owed)


@given(models(), st.integers(0, 2))
@settings(max_examples=300, deadline=None)
def test_uniform_plus(case, owed):
    shapes, model, weights, keep = case
    total = sum(map(len, weights))
    if keep < sum(literal.uniform_plus_floors(shapes, owed)):
        with pytest.raises(MaskError, match=r"layers (together )?need"):
            prune(model, keep / total, allocation="uniform_plus", rules=[Rule(".*", least=owed)])
        return
    mask = prune(model, keep / total, allocation="uniform_plus", rules=[Rule(".*", least=owed)])
    counts = literal.uniform_plus(shapes, keep, owed)
    assert sum(counts) == keep
    assert chosen(mask) == [literal.best(s, n) for s, n in zip(magnitudes(weights), counts, strict=True)]


@given(models())
@settings(max_examples=150, deadline=None)
def test_erk(case):
    shapes, model, weights, keep = case
    mask = prune(model, keep / sum(map(len, weights)), allocation="erk", rules=[Rule(".*", least=0)])
    counts = literal.erk(shapes, keep)
    assert chosen(mask) == [literal.best(s, n) for s, n in zip(magnitudes(weights), counts, strict=True)]


@given(st.sampled_from([(1, 2), (2, 4), (1, 4), (4, 8), (3, 5)]), st.data())
@settings(max_examples=100, deadline=None)
def test_n_of_m(n_of_m, data):
    n, m = n_of_m
    # the inputs of a row in groups of m: whole rows of one group, of several, or taps of a kernel
    linear = st.tuples(st.integers(1, 4), st.sampled_from([m, 2 * m]))
    shapes = data.draw(st.lists(st.one_of(linear, st.tuples(st.integers(1, 3), st.just(m), st.integers(1, 3)))))
    model, weights = build(shapes or [(1, m)], data.draw)
    mask = prune(model, n / m, pattern=f"nm:{n}:{m}")
    assert chosen(mask) == [literal.n_of_m(layer, n, m) for layer in magnitudes(weights)]


BLOCKS = {
    "block:1x2": (1, 2),
    "block:1x4": (1, 4),
    "block:4x1": (4, 1),
    "block:2x3": (2, 3),
    "block:8x8": (8, 8),
    "rows": (1, None),
    "columns": (None, 1),
}
# sizes that blocks divide, so that all have one size
EVEN = st.lists(st.tuples(st.sampled_from([4, 8]), st.sampled_from([4, 8])), min_size=1, max_size=3)


@given(st.sampled_from(list(BLOCKS)), models(st.one_of(SHAPES, EVEN)))
@settings(max_examples=300, deadline=None)
def test_blocks(spec, case):
    shapes, model, weights, keep = case
    density = keep / sum(map(len, weights))
    groups = [literal.blocks(shape, *BLOCKS[spec]) for shape in shapes]
    if len({len(members) for layer in groups for members in layer}) == 1 and density * sum(map(len, groups)) < 0.5:
        with pytest.raises(MaskError, match="the layers need"):
            prune(model, density, pattern=spec, rules=[Rule(".*", least=0)])
        return
    mask = prune(model, density, pattern=spec, rules=[Rule(".*", least=0)])
    assert chosen(mask) == literal.best_blocks(magnitudes(weights), groups, density)
