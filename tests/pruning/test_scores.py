"""Scores against literal implementations of their formulas, on tensors with ties, zeros and one weight."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from audio_lottery.errors import MaskError
from audio_lottery.pruning import SCORES, Mask, ScoreInputs
from tests.pruning import literal


@st.composite
def weight_tables(draw: st.DrawFn) -> dict[str, torch.Tensor]:
    shapes = draw(st.lists(st.tuples(st.integers(1, 5), st.integers(1, 6)), min_size=1, max_size=4))
    return {
        f"t{i}": torch.tensor(
            draw(st.lists(literal.VALUES, min_size=a * b, max_size=a * b)), dtype=torch.float32
        ).reshape(a, b)
        for i, (a, b) in enumerate(shapes)
    }


@given(weight_tables(), st.data())
@settings(max_examples=100, deadline=None)
def test_lamp_is_the_formula(weights, data):
    among = Mask(
        {
            name: torch.tensor(data.draw(st.lists(st.booleans(), min_size=w.numel(), max_size=w.numel()))).view_as(w)
            for name, w in weights.items()
        }
    )
    for mask in (None, among):
        found = SCORES["lamp"].function(weights, mask, ScoreInputs())
        for name, weight in weights.items():
            present = range(weight.numel()) if mask is None else mask[name].reshape(-1).nonzero().flatten().tolist()
            expected = literal.lamp(weight.reshape(-1).tolist(), list(present))
            assert found[name].reshape(-1).tolist() == expected


def test_the_largest_weight_of_every_tensor_has_lamp_score_one():
    weights = {"big": torch.randn(8, 8, generator=torch.Generator().manual_seed(0)), "one": torch.tensor([[1e-20]])}
    scores = SCORES["lamp"].function(weights, None, ScoreInputs())
    assert [float(score.max()) for score in scores.values()] == [1.0, 1.0]


def test_random_depends_on_seed_and_name_only():
    weights = {"a": torch.ones(40, 50), "b": torch.zeros(40, 50)}
    first = SCORES["random"].function(weights, None, ScoreInputs(seed=1))
    again = SCORES["random"].function({"b": torch.ones(40, 50), "a": torch.zeros(40, 50)}, None, ScoreInputs(seed=1))
    other = SCORES["random"].function(weights, None, ScoreInputs(seed=2))
    assert torch.equal(first["a"], again["a"])
    assert torch.equal(first["b"], again["b"])
    assert not torch.equal(first["a"], first["b"])
    assert not torch.equal(first["a"], other["a"])
    assert abs(float(first["a"].mean()) - 0.5) < 5 / math.sqrt(12 * 2000)


def test_wanda_takes_norms_of_each_output_where_groups_see_different_inputs():
    kernel, norms = torch.randn(4, 3, 2), torch.rand(4, 6)
    found = SCORES["wanda"].function({"kernel": kernel}, None, ScoreInputs(activations={"kernel": norms}))
    assert torch.equal(found["kernel"], kernel.abs() * norms.reshape(4, 3, 2))


def test_wanda_multiplies_by_the_norm_of_the_input_and_flattens_kernels_tap_by_tap():
    linear = torch.tensor([[1.0, -2.0], [-3.0, 4.0]])
    kernel = torch.arange(1.0, 13.0).reshape(2, 2, 3)  # two inputs, three taps
    norms = {"linear": torch.tensor([10.0, 0.5]), "kernel": torch.tensor([1.0, 0.0, 0.0, 0.0, 0.0, 2.0])}
    found = SCORES["wanda"].function({"linear": linear, "kernel": kernel}, None, ScoreInputs(activations=norms))
    assert found["linear"].tolist() == [[10.0, 1.0], [30.0, 2.0]]
    assert found["kernel"].tolist() == [[[1, 0, 0], [0, 0, 12]], [[7, 0, 0], [0, 0, 24]]]


def test_taylor_and_movement_are_the_evidence():
    weights = {"w": torch.tensor([[1.0, 2.0]])}
    score_inputs = ScoreInputs(saliency={"w": torch.tensor([[3.0, 0.0]])}, movement={"w": torch.tensor([[-1.0, 2.0]])})
    assert SCORES["taylor"].function(weights, None, score_inputs)["w"].tolist() == [[3.0, 0.0]]
    assert SCORES["movement"].function(weights, None, score_inputs)["w"].tolist() == [[-1.0, 2.0]]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("score", list(SCORES))
def test_scores_are_finite_float32_of_the_shapes(score, dtype):
    weights = {"a": torch.randn(4, 6).to(dtype), "b": torch.randn(2, 3, 2).to(dtype).requires_grad_()}
    like = {name: weight.detach().abs() for name, weight in weights.items()}
    grams = {"a": torch.eye(6), "b": torch.eye(6)}
    score_inputs = ScoreInputs({"a": torch.ones(6), "b": torch.ones(6)}, like, like, grams)
    found = SCORES[score].function(weights, None, score_inputs)
    for name, weight in weights.items():
        assert found[name].dtype == torch.float32
        assert found[name].shape == weight.shape
        assert np.isfinite(found[name].numpy()).all()


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("score", list(SCORES))
def test_weights_that_are_not_finite_are_named(score, bad):
    weights = {"fine": torch.ones(2, 2), "broken": torch.tensor([[1.0, bad]])}
    like = {name: torch.ones_like(weight) for name, weight in weights.items()}
    grams = dict.fromkeys(weights, torch.eye(2))
    score_inputs = ScoreInputs(dict.fromkeys(weights, torch.ones(2)), like, like, grams)
    with pytest.raises(MaskError, match="'broken' has weights that are NaN or infinite"):
        SCORES[score].function(weights, None, score_inputs)


W = {"a.weight": torch.ones(2, 3)}


@pytest.mark.parametrize(
    ("score", "score_inputs", "message"),
    [
        ("taylor", ScoreInputs(), r"needs score_inputs\.saliency .* lacks a\.weight; make it with pruning\.collect"),
        (
            "wanda",
            ScoreInputs(saliency=W),
            r"needs score_inputs\.activations .* lacks a\.weight; make it with pruning\.coll",
        ),
        (
            "movement",
            ScoreInputs(movement={"b": W["a.weight"]}),
            r"lacks a\.weight; make it with pruning\.MovementAccu",
        ),
        ("wanda", ScoreInputs(activations={"a.weight": torch.ones(2)}), r"has 2 numbers; its 3 inputs need one each"),
        ("wanda", ScoreInputs(activations={"a.weight": -torch.ones(3)}), r"negative numbers; norms are none"),
        ("wanda", ScoreInputs(activations={"a.weight": torch.full((3,), float("nan"))}), r"activations that are NaN"),
        ("taylor", ScoreInputs(saliency={"a.weight": torch.ones(3, 2)}), r"is \(3, 2\); the weight is \(2, 3\)"),
        ("taylor", ScoreInputs(saliency={"a.weight": -torch.ones(2, 3)}), r"negative numbers; it is a sum of absolute"),
        (
            "movement",
            ScoreInputs(movement={"a.weight": torch.full((2, 3), float("inf"))}),
            r"movement that are NaN or in",
        ),
    ],
)
def test_evidence_that_is_missing_or_does_not_fit_is_refused(score, score_inputs, message):
    with pytest.raises(MaskError, match=message):
        SCORES[score].function(W, None, score_inputs)
