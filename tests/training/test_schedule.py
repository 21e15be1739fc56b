"""The learning rate as a literal table."""

import pytest

from audio_lottery.training.schedule import learning_rate_factor


@pytest.mark.parametrize(
    ("decay", "expected"),
    [
        ("linear", [1 / 3, 2 / 3, 1.0, 0.875, 0.75, 0.625, 0.5, 0.375, 0.25, 0.125]),
        ("constant", [1 / 3, 2 / 3, 1, 1, 1, 1, 1, 1, 1, 1]),
        ("cosine", [1 / 3, 2 / 3, 1.0, 0.9619397662556434, 0.8535533905932737, 0.6913417161825449, 0.5]),
    ],
)
def test_factors(decay, expected):
    factors = [learning_rate_factor(step, 10, 0.2, decay) for step in range(len(expected))]
    assert factors == pytest.approx(expected, abs=1e-12)


def test_a_hold_comes_between_warm_up_and_decay():
    factors = [learning_rate_factor(step, 10, 0.2, "linear", 0.4) for step in range(10)]
    assert factors == pytest.approx([1 / 3, 2 / 3, 1, 1, 1, 1, 1, 0.75, 0.5, 0.25])
    assert learning_rate_factor(9, 10, 0.2, "cosine", 0.8) == 1.0


def test_without_warmup_the_first_step_has_the_peak():
    assert learning_rate_factor(0, 10, 0.0, "linear") == 1.0
