"""Speed: tempo and pitch together, by exact factors."""

import time

import numpy as np
import pytest

from audio_lottery.data.noise import change_speed

RATE = 16_000


@pytest.mark.parametrize("n", [1, 7, 990, 16_000, 12_345])
@pytest.mark.parametrize(("factor", "up", "down"), [(0.9, 10, 9), (1.1, 10, 11), (0.5, 2, 1), (1.25, 4, 5)])
def test_length_is_exact(n: int, factor: float, up: int, down: int) -> None:
    changed = change_speed(np.ones(n, np.float32), factor)
    assert changed.dtype == np.float32
    assert len(changed) == -(-n * up // down)


@pytest.mark.parametrize("factor", [0.9, 1.1])
def test_pitch_follows(factor: float) -> None:
    tone = np.sin(2 * np.pi * 1000 * np.arange(RATE) / RATE).astype(np.float32)
    changed = change_speed(tone, factor)
    expected = np.sin(2 * np.pi * 1000 * factor * np.arange(len(changed)) / RATE)
    np.testing.assert_allclose(changed[500:-500], expected[500:-500], atol=0.01)


@pytest.mark.parametrize("factor", [0.5, 0.9137, 0.99999, 1.0007, 1.23456789, 2.0])
def test_the_cost_of_any_factor_is_bounded(factor: float) -> None:
    tone = np.sin(2 * np.pi * 440 * np.arange(10 * RATE) / RATE).astype(np.float32)
    begin = time.perf_counter()
    changed = change_speed(tone, factor)
    assert time.perf_counter() - begin < 1
    assert len(changed) == pytest.approx(len(tone) / factor, abs=2)
    expected = np.sin(2 * np.pi * 440 * factor * np.arange(len(changed)) / RATE)
    np.testing.assert_allclose(changed[500:5000], expected[500:5000], atol=0.01)


def test_speeding_up_does_not_alias() -> None:
    tone = np.sin(2 * np.pi * 7900 * np.arange(RATE) / RATE).astype(np.float32)  # would fold to 6125 Hz
    assert np.sqrt(np.mean(change_speed(tone, 1.25)[500:-500] ** 2)) < 0.003


def test_one_changes_nothing() -> None:
    samples = np.arange(10, dtype=np.float32)
    assert change_speed(samples, 1.0) is samples
