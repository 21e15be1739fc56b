"""Mixing: the SNR that was asked for, nothing clipped."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from audio_lottery.data.noise import (
    active_power,
    is_silent,
    mean_power,
    mix_at_snr,
    pink_noise,
    white_noise,
    within_full_scale,
)
from audio_lottery.errors import AudioError
from tests.data.noise.signals import RATE, rng, second_active_level, speech_like


def unmix(mixed: np.ndarray, speech: np.ndarray, noise: np.ndarray) -> tuple[float, float]:
    """The two factors in ``mixed = a · speech + b · noise``, by least squares."""
    parts = np.stack([speech, noise], axis=1).astype(np.float64)
    factors = np.linalg.solve(parts.T @ parts, parts.T @ mixed.astype(np.float64))
    return float(factors[0]), float(factors[1])


def test_measured_snr_of_200_utterances_is_within_a_tenth_of_a_decibel() -> None:
    draw = rng(7)
    errors, scaled = [], 0
    for i in range(200):
        speech = speech_like(draw.uniform(1.0, 4.0), i, level=10 ** draw.uniform(-2.5, -0.5))
        noise = (white_noise, pink_noise)[i % 2](len(speech), draw)
        snr_db = float(draw.uniform(-10, 30))
        mixed = mix_at_snr(speech, noise, snr_db)
        assert np.abs(mixed).max() <= 1
        a, b = unmix(mixed, speech, noise)
        scaled += a < 0.999
        noise_level = 10 * np.log10(np.mean((b * noise.astype(np.float64)) ** 2))
        errors.append(second_active_level(a * speech) - noise_level - snr_db)
    assert np.abs(errors).max() < 0.01  # 0.1 is asked for
    assert 10 < scaled < 190  # both kinds were there


@settings(deadline=None, max_examples=80)
@given(
    snr_db=st.floats(-20, 40),
    n=st.integers(3, 8000),
    speech_level=st.floats(1e-3, 1.0),
    noise_level=st.floats(1e-3, 1e3),
    seed=st.integers(0, 2**32),
)
def test_measured_snr_is_the_requested(
    snr_db: float, n: int, speech_level: float, noise_level: float, seed: int
) -> None:
    draw = rng(seed)
    speech = (speech_level * (draw.standard_normal(n) + 0.1)).astype(np.float32)
    noise = (noise_level * draw.standard_normal(n)).astype(np.float32)
    mixed = mix_at_snr(speech, noise, snr_db)
    assert mixed.dtype == np.float32
    assert mixed.shape == speech.shape
    a, b = unmix(mixed, speech, noise)
    measured = 10 * np.log10(active_power(a * speech) / (b**2 * mean_power(noise)))
    assert measured == pytest.approx(snr_db, abs=0.01)


def test_a_mixture_that_would_clip_is_scaled_as_a_whole() -> None:
    speech, noise = 0.9 * np.sin(np.arange(RATE) / 20), white_noise(RATE, rng())
    mixed = mix_at_snr(speech.astype(np.float32), noise, 0)
    assert 0.97 < np.abs(mixed).max() <= 1
    a, b = unmix(mixed, speech, noise)
    assert a < 0.5
    assert 10 * np.log10(active_power(a * speech) / (b**2 * mean_power(noise))) == pytest.approx(0, abs=0.01)
    np.testing.assert_allclose(mixed, a * speech + b * noise, atol=1e-5)  # clipping would leave a remainder


def test_a_mixture_within_full_scale_keeps_the_speech() -> None:
    speech, noise = speech_like(1.0, 0, level=0.02), white_noise(RATE, rng())
    assert unmix(mix_at_snr(speech, noise, 20), speech, noise)[0] == pytest.approx(1, abs=1e-6)


def test_within_full_scale() -> None:
    quiet = np.array([0.5, -1.0], np.float32)
    assert within_full_scale(quiet) is quiet
    np.testing.assert_array_equal(within_full_scale(np.array([0.5, -2.0], np.float32)), [0.25, -1.0])
    assert within_full_scale(np.zeros(0, np.float32)).size == 0


def test_silent_noise_is_an_error() -> None:
    with pytest.raises(AudioError, match="cannot mix at 10 dB: the noise is silent"):
        mix_at_snr(white_noise(100, rng()), np.zeros(100, np.float32), 10)


def test_silent_speech_comes_back_unchanged() -> None:
    speech = np.zeros(100, np.float32)
    mixed = mix_at_snr(speech, white_noise(100, rng()), 10)
    assert is_silent(speech)
    np.testing.assert_array_equal(mixed, speech)
    assert mixed is not speech


def test_speech_and_noise_are_not_changed_in_place() -> None:
    speech, noise = white_noise(100, rng()), white_noise(100, rng(1))
    before = speech.copy(), noise.copy()
    mix_at_snr(speech, noise, 0)
    np.testing.assert_array_equal(speech, before[0])
    np.testing.assert_array_equal(noise, before[1])


def test_shapes_must_match() -> None:
    with pytest.raises(ValueError, match="same shape"):
        mix_at_snr(np.ones(3), np.ones(4), 0)
