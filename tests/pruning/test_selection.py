"""Exact counts, order and ties of the top-k selection, against a literal implementation and torch's own pruning."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn.utils import prune

from audio_lottery.errors import MaskError
from audio_lottery.pruning import Mask, exact_count, find_scope, global_magnitude, keep_largest, selection
from audio_lottery.pruning.selection import keep_in_rows

# few distinct values, so that ties, zeros and denormals are common
VALUES = st.sampled_from([0.0, -0.0, 1e-45, -1e-30, 0.5, 0.5, 1.0, 1.0000001, -3.0, 3.4e38, -3.4e38])


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


@given(score_tables(), st.data())
@settings(max_examples=100, deadline=None)
def test_absolute_ranks_by_magnitude(scores, data):
    keep = data.draw(st.integers(1, sum(len(t) for t in scores.values())))
    ranked = keep_largest(scores, keep, absolute=True)
    expected = literal_keep_largest({name: t.abs() for name, t in scores.items()}, keep, None)
    assert all(torch.equal(ranked[name], expected[name]) for name in scores)


@given(score_tables(), st.data())
@settings(max_examples=200, deadline=None)
def test_groups_of_unequal_size_come_nearest_to_the_number_asked(scores, data):
    sizes = {
        name: data.draw(st.one_of(st.integers(1, 5), st.lists(st.integers(1, 5), min_size=len(t), max_size=len(t))))
        for name, t in scores.items()
    }
    sizes = {name: size if isinstance(size, int) else np.array(size) for name, size in sizes.items()}
    each = {name: np.broadcast_to(size, len(scores[name])) for name, size in sizes.items()}
    total = int(sum(size.sum() for size in each.values()))
    keep = data.draw(st.integers(1, total))
    least = data.draw(st.integers(0, keep))
    mask = keep_largest(scores, keep, sizes=sizes, least=least)
    # every beginning of the ranking, by the literal sort
    groups = sum(len(t) for t in scores.values())
    beginnings = [literal_keep_largest(scores, n, None) for n in range(1, groups + 1)]
    weights = [sum(int(each[name][kept.numpy()].sum()) for name, kept in b.items()) for b in beginnings]
    allowed = [i for i, weight in enumerate(weights) if weight >= least]
    best = min(allowed, key=lambda i: (abs(weights[i] - keep), -weights[i]))
    assert all(torch.equal(mask[name], beginnings[best][name]) for name in scores)


@given(st.integers(1, 6), st.integers(1, 9), st.data())
@settings(max_examples=100, deadline=None)
def test_rows_keep_their_own_best(rows, columns, data):
    scores = torch.tensor([data.draw(st.lists(VALUES, min_size=columns, max_size=columns)) for _ in range(rows)])
    among = torch.tensor([data.draw(st.lists(st.booleans(), min_size=columns, max_size=columns)) for _ in range(rows)])
    counts = np.array([data.draw(st.integers(0, int(among[row].sum()))) for row in range(rows)])
    mask = keep_in_rows(scores, counts, among)
    for row in range(rows):
        places = [c for c in range(columns) if among[row, c]]
        best = sorted(places, key=lambda c: (-float(scores[row, c]), c))[: counts[row]]
        assert [c for c in range(columns) if mask[row, c]] == sorted(best)
    with pytest.raises(MaskError, match=rf"cannot keep {columns + 1} weights in row 0: {columns} are there"):
        keep_in_rows(scores, np.full(rows, columns + 1))


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


LARGE = 1_500_000


@pytest.mark.parametrize(
    "kind",
    ["normal", "signed", "few values", "nearly all zero", "sorted", "one layer far larger", "constant"],
)
@pytest.mark.parametrize("density", [0.5, 0.013, 1e-6, 0.999])
def test_large_tables_equal_a_sort(kind, density):
    """The sampled bracket must not show in the result: ties at its ends, values it never saw, layers of other scale."""
    generator = torch.Generator().manual_seed(2)
    big = torch.randn(LARGE, generator=generator)
    big = {
        "normal": big.abs(),
        "signed": big,
        "few values": (big * 2).round(),
        "nearly all zero": big * (torch.rand(LARGE, generator=generator) < 0.02),
        "sorted": big.sort().values,
        "one layer far larger": big * 1e-3,
        "constant": torch.ones(LARGE),
    }[kind]
    scores = {"big": big, "small": torch.randn(1000, generator=generator)}
    keep = exact_count(density, LARGE + 1000)
    mask = keep_largest(scores, keep)
    flat = torch.cat(list(scores.values()))
    expected = torch.zeros(len(flat), dtype=torch.bool)
    expected[flat.sort(descending=True, stable=True).indices[:keep]] = True
    assert torch.equal(torch.cat([mask["big"], mask["small"]]), expected)


def test_a_bracket_that_missed_is_widened(monkeypatch):
    monkeypatch.setattr(selection._Column, "sample", lambda self, count: (np.full(2000, 9.0), np.ones(2000)))
    generator = torch.Generator().manual_seed(1)
    scores = {"big": torch.rand(1_200_000, generator=generator)}
    assert torch.equal(
        keep_largest(scores, 7)["big"].nonzero().flatten().sort().values, scores["big"].topk(7).indices.sort().values
    )


def test_the_number_of_threads_does_not_matter():
    generator = torch.Generator().manual_seed(1)
    scores = {f"t{i}": torch.randn(400_000, generator=generator) for i in range(3)}
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        one = keep_largest(scores, 123_456)
        torch.set_num_threads(3)
        assert keep_largest(scores, 123_456) == one
    finally:
        torch.set_num_threads(before)


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


def test_float64_scores_are_refused_since_ranking_is_in_float32():
    with pytest.raises(MaskError, match="float64; float32 is needed"):
        keep_largest({"t": torch.ones(3, dtype=torch.float64)}, 2)
