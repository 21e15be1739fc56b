"""Counts per layer against literal implementations: ERK as RigL does it, uniform+ by its definition."""

import math
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from audio_lottery.errors import MaskError
from audio_lottery.pruning import Rule
from audio_lottery.pruning.allocation import Layer, Owed, allocate, check_allocation, match_rules, share
from tests.pruning import literal

SHAPES = st.lists(
    st.one_of(
        st.tuples(st.integers(1, 40), st.integers(1, 40)),
        st.tuples(st.integers(1, 12), st.integers(1, 6), st.integers(1, 5)),
    ),
    min_size=1,
    max_size=6,
)


def layers_of(shapes: list[tuple[int, ...]]) -> list[Layer]:
    return [Layer(f"l{i}", s, math.prod(s), math.prod(s), 0) for i, s in enumerate(shapes)]


@given(SHAPES, st.data())
@settings(max_examples=200, deadline=None)
def test_erk(shapes, data):
    total = data.draw(st.integers(1, sum(map(math.prod, shapes))))
    counts = allocate("erk", layers_of(shapes), total, {})
    assert list(counts.values()) == literal.erk(shapes, total)
    assert sum(counts.values()) == total


@given(SHAPES, st.data())
@settings(max_examples=100, deadline=None)
def test_uniform(shapes, data):
    sizes = [math.prod(s) for s in shapes]
    total = data.draw(st.integers(1, sum(sizes)))
    counts = list(allocate("uniform", layers_of(shapes), total, {}).values())
    assert counts == literal.rounded([Fraction(total * n, sum(sizes)) for n in sizes], total)


@given(SHAPES, st.data())
@settings(max_examples=200, deadline=None)
def test_uniform_plus_of_a_mask_that_shrinks(shapes, data):
    """What the mask so far keeps of a layer is all that the layer may get, the first convolution too."""
    available = [data.draw(st.integers(1, math.prod(shape))) for shape in shapes]
    floors = [min(n, most) for n, most in zip(literal.uniform_plus_floors(shapes, 1), available, strict=True)]
    total = data.draw(st.integers(sum(floors), sum(available)))
    layers = [
        Layer(f"l{i}", shape, math.prod(shape), most, 1)
        for i, (shape, most) in enumerate(zip(shapes, available, strict=True))
    ]
    counts = allocate("uniform_plus", layers, total, {layer.name: layer.shape for layer in layers})
    sizes = [math.prod(shape) for shape in shapes]
    assert list(counts.values()) == literal.proportional(total, sizes, floors, available)


def test_uniform_plus_by_hand():
    shapes = {"conv": (4, 1, 5), "conv2": (4, 5, 5), "body": (20, 20), "head": (10, 10)}
    layers = [Layer(name, shape, math.prod(shape), math.prod(shape), 1) for name, shape in shapes.items()]
    # 62 of 620: the first convolution keeps 20, the head 20 of 100; 22 are left for 500 weights
    assert allocate("uniform_plus", layers, 62, shapes) == {"conv": 20, "conv2": 4, "body": 18, "head": 20}
    # 320: the head is above a fifth anyway, so it is as dense as the others: 300 for 600
    assert allocate("uniform_plus", layers, 320, shapes) == {"conv": 20, "conv2": 50, "body": 200, "head": 50}
    # without a convolution nothing is dense
    linear = {"body": (20, 20), "head": (10, 10)}
    assert allocate("uniform_plus", layers[2:], 50, linear) == {"body": 30, "head": 20}


@given(
    st.lists(st.tuples(st.integers(1, 30), st.integers(0, 9), st.integers(0, 20)), min_size=1, max_size=7), st.data()
)
@settings(max_examples=300, deadline=None)
def test_bounds_hold_and_the_free_ones_stay_in_proportion(rows, data):
    weights, least = [w for w, _, _ in rows], [low for _, low, _ in rows]
    most = [low + more for _, low, more in rows]
    total = data.draw(st.integers(sum(least), sum(most)))
    counts = share(total, weights, least, most)
    assert sum(counts) == total
    assert all(low <= n <= high for low, n, high in zip(least, counts, most, strict=True))
    # one λ serves all: what lies strictly inside its bounds is λ·weight up to rounding
    inside = [(n, w) for n, w, low, high in zip(counts, weights, least, most, strict=True) if low < n < high]
    for n, w in inside:
        for n2, w2 in inside:
            assert Fraction(n - 1, w) < Fraction(n2 + 1, w2)
    # nobody is cut at a bound that λ does not reach
    for n, w, low, high in zip(counts, weights, least, most, strict=True):
        for n2, w2 in inside:
            if n == high > low:  # filled: λ·w would be at least that, up to rounding
                assert Fraction(n - 1, w) < Fraction(n2 + 1, w2)
            if n == low < high:  # held up: λ·w would be at most that
                assert Fraction(n2 - 1, w2) < Fraction(n + 1, w)


def test_largest_remainder_ties_go_to_the_earlier():
    assert share(2, [1, 1, 1], [0, 0, 0], [9, 9, 9]) == [1, 1, 0]


def test_impossible_totals_are_refused_with_numbers():
    with pytest.raises(MaskError, match="cannot keep 3 weights: the layers together need at least 4 and have 10"):
        share(3, [1, 1], [2, 2], [5, 5])
    with pytest.raises(MaskError, match="'fair' is not an allocation; allocations are global, uniform"):
        check_allocation("fair")


@pytest.mark.parametrize(
    ("settings_", "message"),
    [
        ({"match": "("}, "not a regular expression"),
        ({"match": "a"}, "exactly one of dense, floor and least"),
        ({"match": "a", "dense": True, "floor": 0.5}, "exactly one of dense, floor and least"),
        ({"match": "a", "floor": 0.0}, r"floor 0.0, which is outside \(0, 1\]"),
        ({"match": "a", "floor": 1.5}, "outside"),
        ({"match": "a", "floor": 0.5, "least": 1}, "exactly one of dense, floor and least"),
        ({"match": "a", "least": -1}, "keeps at least -1 weights; it must be 0 or more"),
    ],
)
def test_rules_that_make_no_sense_are_refused(settings_, message):
    with pytest.raises(MaskError, match=message):
        Rule(**settings_)


def test_rules_match_by_search_dense_wins_and_of_others_the_highest():
    names = ["encoder.0.weight", "encoder.1.weight", "head.weight"]
    rules = [
        Rule("encoder", floor=0.1),
        Rule(r"\.1\.", floor=0.3),
        Rule("encoder", floor=0.2),
        Rule("head", dense=True),
        Rule(r"\.0\.", least=0),
        Rule("weight", least=3),
        Rule(r"\.1\.", least=2),
    ]
    assert match_rules([*rules, Rule("head", floor=0.5)], names) == Owed(
        {"head.weight"},
        {"encoder.0.weight": 0.2, "encoder.1.weight": 0.3},
        {"encoder.0.weight": 3, "encoder.1.weight": 3},
    )
    with pytest.raises(MaskError, match=r"rule 'haed\.weight' matches no prunable weight; nearest names: head\.weight"):
        match_rules([Rule("haed.weight", dense=True)], names)
