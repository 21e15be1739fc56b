"""Levels: the active level is that of ITU-T P.56, and pauses do not lower it."""

import numpy as np
import pytest

from audio_lottery.data.levels import speech_power
from audio_lottery.data.noise import SILENCE_POWER, active_power, centred, is_silent, mean_power, white_noise
from tests.data.noise.signals import RATE, literal_active_level, rng, second_active_level, speech_like


def active_level(speech: np.ndarray) -> float:
    return 10 * np.log10(active_power(speech))


@pytest.mark.parametrize(
    "speech",
    [
        speech_like(0.6, 0),
        speech_like(0.9, 1, level=0.3),
        speech_like(0.5, 2, level=0.004),
        np.concatenate([speech_like(0.3, 3), np.zeros(8000, np.float32), speech_like(0.2, 4, level=0.01)]),
        white_noise(5000, rng()) * 0.1,
        np.sin(np.arange(7000) / 9) * 0.5,
    ],
    ids=["speech", "loud", "quiet", "two levels and a pause", "noise", "tone"],
)
def test_active_level_is_that_of_the_recommendation(speech: np.ndarray) -> None:
    expected = literal_active_level(speech)
    assert active_level(speech) == pytest.approx(expected, abs=1e-6)
    assert second_active_level(speech) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("rate", [8000, 48_000])
def test_other_rates(rate: int) -> None:
    speech = speech_like(1.0, 5)
    assert 10 * np.log10(active_power(speech, rate)) == pytest.approx(literal_active_level(speech, rate), abs=1e-6)


@pytest.mark.parametrize("seed", range(5))
def test_pauses_lower_the_mean_power_and_not_the_active_level(seed: int) -> None:
    # Within 0.6 dB: what P.56 adds of each pause are its 0.2 s of hangover.
    phrases = [speech_like(2.0, 10 * seed + i, pauses=False) for i in range(4)]
    flowing = np.concatenate(phrases)
    pause = np.zeros(2 * RATE, np.float32)
    halting = np.concatenate([part for phrase in phrases for part in (phrase, pause)])
    assert active_level(halting) == pytest.approx(active_level(flowing), abs=0.6)
    assert 10 * np.log10(mean_power(flowing) / mean_power(halting)) == pytest.approx(3.01, abs=0.01)


@pytest.mark.parametrize("seed", range(5))
def test_twice_as_loud_is_six_decibels_more(seed: int) -> None:
    speech = speech_like(1.5, seed)
    assert active_power(2 * speech) == pytest.approx(4 * active_power(speech))
    assert active_power(speech / 512) == pytest.approx(active_power(speech) / 512**2)
    assert active_power(speech * 2**15) == pytest.approx(active_power(speech) * 2**30)


def test_active_power_is_at_least_the_mean_power() -> None:
    for seed in range(20):
        speech = speech_like(1.0, seed)
        assert active_power(speech) >= mean_power(speech)


@pytest.mark.parametrize("n", [0, 1, 2, 160, 3200])
def test_what_the_hangover_would_bridge_has_plain_power(n: int) -> None:
    speech = (0.1 * white_noise(n, rng())).astype(np.float32)
    assert active_power(speech) == mean_power(speech)


def test_the_step_at_the_hangover_is_small() -> None:
    # P.56 counts the rise of the envelope, some 0.03 s, as inactive.
    for seed in range(20):
        speech = 0.1 * white_noise(3201, rng(seed))
        assert 0 <= active_level(speech) - 10 * np.log10(mean_power(speech)) < 1.0


def test_a_click_has_plain_power() -> None:
    click = np.zeros(RATE, np.float32)
    click[800] = 0.9
    assert active_power(click) == mean_power(click)


def test_digital_silence_has_plain_power() -> None:
    assert active_power(np.zeros(RATE, np.float32)) == 0
    whisper = np.full(RATE, 1e-6, np.float32)
    assert active_power(whisper) == mean_power(whisper)


def test_the_quietest_signal_that_is_not_silent_has_a_level() -> None:
    hum = np.full(RATE, 1.01e-5)
    assert not is_silent(hum)
    assert 10 * np.log10(active_power(hum)) == pytest.approx(-99.9, abs=0.5)


@pytest.mark.parametrize("offset", [0.5, -0.1, 0.01])
@pytest.mark.parametrize("seed", range(5))
def test_the_level_of_speech_has_no_offset_in_it(seed: int, offset: float) -> None:
    speech = centred(speech_like(1.5, seed))
    assert speech_power(speech + np.float32(offset)) == pytest.approx(active_power(speech), rel=1e-3)
    assert speech_power(speech) == active_power(speech)


@pytest.mark.parametrize("level", [0.0, 1e-6, -0.3, 1.0])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_nothing_is_left_of_a_constant(level: float, dtype: type) -> None:
    left = centred(np.full(1000, level, dtype))
    assert left.dtype == dtype
    assert is_silent(left)
    assert centred(np.zeros(0, dtype)).size == 0
    assert centred(np.full(1, level, dtype)) == dtype(level)


def test_silence() -> None:
    click = np.zeros(RATE)
    click[5] = 1 / 2**15
    assert is_silent(np.zeros(0))
    assert is_silent(click)
    assert not is_silent(np.full(10, 2 * SILENCE_POWER**0.5))
