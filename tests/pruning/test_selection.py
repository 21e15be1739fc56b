"""Exact counts, order and ties of the top-k selection, against a literal implementation and torch's own pruning."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn.utils import prune

from audio_lottery.errors import MaskError
from audio_lottery.pruning import Mask, exact_count, find_scope, global_magnitude, keep_largest

# few distinct values, so that ties, zeros and denormals are common
VALUES = st.sampled_from([0.0, -0.0, 1e-45, 1e-30, 0.5, 0.5, 1.0, 1.0000001, 3.0, 3.4e38])


@st.composite
def score_tables(draw: st.DrawFn) -> dict[str, torch.Tensor]:
    sizes = draw(st.lists(st.integers(1, 12), min_size=1, max_size=4))
    return {
        f"t{i}": torch.tensor(draw(st.lists(VALUES, min_size=n, max_size=n)), dtype=torch.float32)
        for i, n in enumerate(sizes)
    }


def literal_keep_largest(scores: dict[str, torch.Tensor], keep: int, among: Mask | None) -> dict[str, torch.Tensor]:
    entries = [
        (-float(value), position, index)
        for position, (name, tensor) in enumerate(scores.items())
        for index, value in enumerate(tensor.tolist())
        if among is None or among[name][index]
    ]
    chosen = {(position, index) for _, position, index in sorted(entries)[:keep]}
    return {
        name: torch.tensor([(position, index) in chosen for index in range(len(tensor))])
        for position, (name, tensor) in enumerate(scores.items())
    }


@given(score_tables(), st.data())
@settings(max_examples=200, deadline=None)
def test_equals_the_literal_sort(scores, data):
    total = sum(len(t) for t in scores.values())
    keep = data.draw(st.integers(1, total))
    first = keep_largest(scores, keep)
    expected = literal_keep_largest(scores, keep, None)
    assert all(torch.equal(first[name], expected[name]) for name in scores)
    again = data.draw(st.integers(1, keep))
    second = keep_largest(scores, again, among=first)
    expected = literal_keep_largest(scores, again, first)
    assert all(torch.equal(second[name], expected[name]) for name in scores)
    assert second.kept == again
    assert second.is_subset_of(first)


def test_equals_torch_global_unstructured():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(31, 17), nn.Conv1d(5, 7, 3), nn.Linear(64, 9))
    names = find_scope(model).names
    mask = global_magnitude(model, 0.3, among=Mask.dense(model, names))
    n = mask.prunable
    layers = [(module, "weight") for module in model]
    prune.global_unstructured(layers, pruning_method=prune.L1Unstructured, amount=n - exact_count(0.3, n))
    for name, module in zip(names, model, strict=True):
        assert torch.equal(mask[name], module.weight_mask.bool())


def test_selection_works_over_chunk_borders():
    generator = torch.Generator().manual_seed(1)
    scores = {"big": torch.rand(2_500_000, generator=generator), "small": torch.rand(3, generator=generator)}
    mask = keep_largest(scores, 1_234_567)
    assert mask.kept == 1_234_567
    flat = torch.cat(list(scores.values()))
    assert flat[torch.cat([mask["big"], mask["small"]])].min() >= flat[~torch.cat([mask["big"], mask["small"]])].max()


@pytest.mark.parametrize("rounds", [1, 5, 20])
def test_densities_are_the_nearest_integers(rounds):
    n = 852_001
    assert exact_count(0.8**rounds, n) == int(np.floor(0.8**rounds * n + 0.5))


@pytest.mark.parametrize("density", [0.0, -0.1, 1.01, float("nan")])
def test_density_out_of_range_is_refused(density):
    with pytest.raises(MaskError, match="outside"):
        exact_count(density, 10)


def test_a_density_that_keeps_nothing_is_refused():
    with pytest.raises(MaskError, match="keeps none"):
        exact_count(0.001, 10)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_refused_by_name(bad):
    scores = {"fine": torch.ones(3), "broken.weight": torch.tensor([1.0, bad])}
    with pytest.raises(MaskError, match=r"broken\.weight.*NaN or infinite"):
        keep_largest(scores, 2)


def test_more_than_is_there_is_refused():
    with pytest.raises(MaskError, match="cannot keep 5 weights: 3"):
        keep_largest({"t": torch.ones(3)}, 5)
