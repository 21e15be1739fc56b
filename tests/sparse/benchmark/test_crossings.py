"""Where ours is as fast as a rival: between the sparsities measured, and said so where that is not one place."""

import json
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audio_lottery.sparse.benchmark import Crossings, model_break_even, own
from audio_lottery.sparse.benchmark.crossings import crossings

FALLING = {0.0: 4.0, 0.5: 2.0, 0.9: 1.0}


@pytest.mark.parametrize(
    ("times", "rival", "points", "fast_at_least", "break_even"),
    [
        (FALLING, 3.0, (0.25,), False, 0.25),
        (FALLING, 1.5, (0.7,), False, 0.7),
        (FALLING, 5.0, (), True, None),  # faster at all that was measured
        (FALLING, 0.5, (), False, None),  # at none
        ({0.9: 1.0, 0.0: 4.0, 0.5: 2.0}, 3.0, (0.25,), False, 0.25),  # the order does not matter
        (FALLING, 1.0, (0.9,), False, 0.9),  # as fast is enough
        (FALLING, 4.0, (), True, None),
        ({0.0: 4.0, 0.5: 1.0, 0.8: 3.0, 0.9: 1.0}, 2.0, (1 / 3, 0.65, 0.85), False, None),  # nothing is picked
        ({0.0: 1.0, 0.5: 3.0}, 2.0, (0.25,), True, None),  # slower from there on: no break-even
        ({0.7: 1.0}, 2.0, (), True, None),
        ({0.7: 3.0}, 2.0, (), False, None),
    ],
)
def test_crossings(times, rival, points, fast_at_least, break_even) -> None:
    found = crossings(times, rival)
    assert found == Crossings(pytest.approx(points), fast_at_least, min(times), max(times))
    assert found.break_even == (None if break_even is None else pytest.approx(break_even))


seconds = st.floats(1e-6, 1e6)


@given(st.dictionaries(st.floats(0, 1, exclude_max=True), seconds, min_size=1, max_size=8), seconds)
def test_crossings_part_what_was_measured_into_as_fast_and_slower(times, rival) -> None:
    found = crossings(times, rival)
    assert list(found.points) == sorted(found.points)
    assert all(found.least <= point <= found.most for point in found.points)
    for sparsity, taken in times.items():
        # a point lies within its neighbours, so what was measured beyond it is on its other side
        before = sum(point < sparsity for point in found.points)
        on_it = found.points.count(sparsity)
        sides = {found.fast_at_least ^ (number % 2 == 1) for number in range(before, before + on_it + 1)}
        assert (taken <= rival) in sides


@given(st.lists(st.floats(0, 0.99), min_size=2, max_size=6, unique=True), st.floats(0.1, 10), st.floats(0.1, 10))
def test_times_that_fall_with_the_kept_weights_cross_where_they_say(sparsities, fixed, slope) -> None:
    """Fixed + slope · kept weights: the interpolation is exact, whatever was measured."""
    least, most = min(sparsities), max(sparsities)
    middle = (least + most) / 2
    found = crossings({one: fixed + slope * (1 - one) for one in sparsities}, fixed + slope * (1 - middle))
    assert found.break_even == pytest.approx(middle, abs=1e-6) or most - least < 1e-6


def row(runtime, precision, pattern, sparsity, median, subject="a", seconds=10.0, plan="74 csr"):
    return {
        "subject": subject,
        "runtime": runtime,
        "precision": precision,
        "pattern": pattern,
        "sparsity": sparsity,
        "audio_seconds": seconds,
        "median_s": median,
        "shared": runtime != "audio_lottery",
        "plan": plan if runtime == "audio_lottery" else "",
    }


def table(rows):
    return {
        (one.subject, one.audio_seconds, one.precision, one.pattern, one.rival, one.rival_precision): (
            one.crossings.points,
            one.crossings.least,
        )
        for one in model_break_even(rows)
    }


ROWS = [
    *(row("openvino", "int8", "dense", sparsity, 2.0) for sparsity in (0.0, 0.5, 0.9)),
    *(row("torch", "float32", "dense", sparsity, 8.0) for sparsity in (0.0, 0.5, 0.9)),
    row("audio_lottery", "int8", "dense", 0.0, 8.1, plan="unchanged"),
    row("audio_lottery", "int8", "16x1", 0.5, 3.0),
    row("audio_lottery", "int8", "16x1", 0.9, 1.0),
    row("audio_lottery", "int8", "1x4", 0.9, 1.9),
]


def test_a_line_for_each_of_ours_and_each_rival_and_no_point_where_the_dense_model_came_back() -> None:
    assert table(ROWS) == {
        ("a", 10.0, "int8", "16x1", "openvino", "int8"): ((pytest.approx(0.7),), 0.5),
        ("a", 10.0, "int8", "16x1", "torch", "float32"): ((), 0.5),  # 8.1 at 0 % is torch itself
        ("a", 10.0, "int8", "1x4", "openvino", "int8"): ((), 0.9),
        ("a", 10.0, "int8", "1x4", "torch", "float32"): ((), 0.9),
    }


PLANS = {(): "unchanged", ("dense", "dense"): "unchanged", ("dense", "csr", "csr"): "2 csr, 1 dense"}


def test_a_dense_model_on_our_kernels_belongs_to_every_pattern() -> None:
    rows = [row("audio_lottery", "int8", "dense", 0.0, 4.0), *(one for one in ROWS if one["plan"] != "unchanged")]
    found = table(rows)
    assert found["a", 10.0, "int8", "16x1", "openvino", "int8"] == ((pytest.approx(0.7),), 0.0)
    assert found["a", 10.0, "int8", "1x4", "openvino", "int8"] == ((pytest.approx(0.9 * 2 / 2.1),), 0.0)


def test_lengths_models_and_precisions_are_not_mixed() -> None:
    others = [one | {"median_s": 10 * one["median_s"], "audio_seconds": 30.0} for one in ROWS]
    others += [one | {"subject": "b"} for one in ROWS if one["shared"] or one["sparsity"]]
    others += [one | {"precision": "bfloat16", "median_s": 2 * one["median_s"]} for one in ROWS if not one["shared"]]
    found = table([*ROWS, *others])
    assert len(found) == 16
    assert found["a", 30.0, "int8", "16x1", "openvino", "int8"] == ((pytest.approx(0.7),), 0.5)
    assert found["a", 10.0, "bfloat16", "16x1", "openvino", "int8"] == ((pytest.approx(0.9),), 0.5)


def test_a_plan_without_a_kernel_is_torch() -> None:
    plans = {kernels: own.describe_plan(SimpleNamespace(kernel=one) for one in kernels) for kernels in PLANS}
    assert plans == PLANS


def test_one_sparsity_has_no_break_even() -> None:
    assert model_break_even([one for one in ROWS if one["sparsity"] == 0.9]) == []
    assert model_break_even([]) == []


def test_json() -> None:
    first = json.loads(json.dumps([line.to_dict() for line in model_break_even(ROWS)]))[0]
    assert first["break_even"] == pytest.approx(0.7)
    assert first["crossings"]["least"] == 0.5
