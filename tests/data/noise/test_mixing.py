"""Mixing: the SNR that was asked for, nothing clipped."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from audio_lottery.data.levels import without_offset
from audio_lottery.data.noise import (
    active_power,
    centred,
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
        speech = centred(speech_like(draw.uniform(1.0, 4.0), i, level=10 ** draw.uniform(-2.5, -0.5)))
        noise = centred((white_noise, pink_noise)[i % 2](len(speech), draw))
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
    speech = centred((speech_level * draw.standard_normal(n)).astype(np.float32))
    noise = centred((noise_level * draw.standard_normal(n)).astype(np.float32))
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


OFFSETS = [0.5, -0.3, 0.02, 3e-3, 1e-3, 1e-4, 0.0]


@pytest.mark.parametrize("offset", OFFSETS)
@pytest.mark.parametrize("of", ["speech", "noise", "both"])
@pytest.mark.parametrize("hiss", [1e-3, 0.1])
def test_offsets_do_not_count(offset: float, of: str, hiss: float) -> None:
    speech, noise = centred(speech_like(2.0, 4)), centred(hiss * white_noise(2 * RATE, rng()))
    with_offset = [
        signal + np.float32(offset) if of in (name, "both") else signal
        for name, signal in (("speech", speech), ("noise", noise))
    ]
    mixed = mix_at_snr(with_offset[0], with_offset[1], 10)
    parts = np.stack([speech, noise, np.ones_like(speech)], axis=1).astype(np.float64)
    a, b, _ = np.linalg.lstsq(parts, mixed.astype(np.float64), rcond=None)[0]
    measured = second_active_level(a * speech) - 10 * np.log10(mean_power(b * noise))
    # An offset that moves the level of speech or of noise by up to 0.03 dB may be left alone.
    moved = [10 * np.log10(mean_power(signal) / mean_power(centred(signal))) for signal in with_offset]
    exact = all(db < 1e-4 or db > 0.1 for db in moved)
    assert measured == pytest.approx(10, abs=0.01 if exact else 0.06)
    if of != "speech" and moved[1] > 0.1:  # what was mixed in has no offset; what was spoken keeps its own
        left = mixed.mean(dtype=np.float64) - (a * offset if of == "both" else 0)
        assert left == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("n", [2, 3, 100, RATE])
def test_a_mean_that_says_nothing_is_left_as_it_is(n: int) -> None:
    hum = np.tile(np.array([0.1, -0.1], np.float32), n)
    np.testing.assert_array_equal(without_offset(hum + np.float32(1e-3)), hum + np.float32(1e-3))
    np.testing.assert_allclose(without_offset(hum + np.float32(0.1)), hum, atol=1e-7)


@pytest.mark.parametrize(
    ("noise", "reason"),
    [
        (np.zeros(100), "silent"),
        (np.full(100, 0.5), "silent or constant"),
        (np.full(100, -1e-3), "silent or constant"),
        (0.5 + 1e-6 * np.sin(np.arange(100)), "silent or constant"),
        (np.where(np.arange(100) == 50, np.nan, 0.1), "the noise holds NaN or infinite samples"),
        (np.where(np.arange(100) == 50, -np.inf, 0.1), "the noise holds NaN or infinite samples"),
    ],
)
def test_silent_noise_is_an_error(noise: np.ndarray, reason: str) -> None:
    with pytest.raises(AudioError, match=f"cannot mix at 10 dB: .*{reason}"):
        mix_at_snr(white_noise(100, rng()), noise.astype(np.float32), 10)


def test_speech_that_is_no_number_is_an_error() -> None:
    with pytest.raises(AudioError, match="cannot mix at 0 dB: the speech holds NaN or infinite samples"):
        mix_at_snr(np.full(100, np.nan, np.float32), white_noise(100, rng()), 0)


@pytest.mark.parametrize("offset", [0.0, 0.5, -1.0])
def test_silent_speech_comes_back_unchanged(offset: float) -> None:
    speech = np.full(100, offset, np.float32)
    mixed = mix_at_snr(speech, white_noise(100, rng()), 10)
    assert is_silent(centred(speech))
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
