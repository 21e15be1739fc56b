"""Reverberation: the same length, time and level; responses of any rate, the first channel only."""

from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
from scipy.signal import hilbert

from audio_lottery.data.noise import GeneratedRirs, RirFolder, active_power, get_rir_source, reverberate
from audio_lottery.data.noise.rir import read_rir
from audio_lottery.errors import AudioError, ConfigError, CorpusError
from tests.data.noise.signals import RATE, rng, second_active_level, speech_like, write


def test_length_and_level_are_kept() -> None:
    for seed in range(5):
        speech = speech_like(2.0, seed)
        wet = reverberate(speech, GeneratedRirs().sample(rng(seed)))
        assert wet.dtype == np.float32
        assert wet.shape == speech.shape
        assert second_active_level(wet) == pytest.approx(second_active_level(speech), abs=0.1)
        assert np.abs(wet - speech).max() > 0.01


def test_convolution_is_that_of_the_definition() -> None:
    draw = rng(3)
    speech, rir = speech_like(0.3, 1), draw.standard_normal(500) * np.exp(-np.arange(500) / 60)
    rir[40] = 9.0
    expected = np.convolve(speech.astype(np.float64), rir / 9)[40 : 40 + len(speech)]
    expected *= np.sqrt(active_power(speech) / active_power(expected))
    np.testing.assert_allclose(reverberate(speech, rir), expected, atol=1e-5)


@pytest.mark.parametrize("delay", [0, 1, 777])
@pytest.mark.parametrize("gain", [1.0, -0.3, 1e-3])
def test_a_pure_delay_changes_nothing_but_the_sign(delay: int, gain: float) -> None:
    speech, rir = speech_like(1.0, 2), np.zeros(1000, np.float32)
    rir[delay] = gain
    np.testing.assert_allclose(reverberate(speech, rir), np.sign(gain) * speech, atol=1e-6)


def test_a_response_longer_than_the_speech() -> None:
    speech = speech_like(0.2, 0, pauses=False)
    assert reverberate(speech, GeneratedRirs().sample(rng(1))).shape == speech.shape


def test_generated_responses_decay_by_60_db_in_t60() -> None:
    lengths = []
    for seed in range(30):
        rir = GeneratedRirs().sample(rng(seed)).astype(np.float64)
        assert rir[0] == 1 == np.abs(rir).max()
        lengths.append(len(rir) / RATE)
        ratio_db = -10 * np.log10(np.sum(rir[1:] ** 2))
        assert -1e-6 <= ratio_db <= 10 + 1e-6
        # Schroeder's backward integral between -5 and -25 dB, extrapolated to 60 dB
        decay = 10 * np.log10(np.cumsum(rir[:0:-1] ** 2)[::-1] / np.sum(rir[1:] ** 2))
        t60 = 3 * (np.argmax(decay < -25) - np.argmax(decay < -5)) / RATE
        assert t60 == pytest.approx(lengths[-1], rel=0.15)
    assert 0.2 <= min(lengths) < 0.3
    assert 0.7 < max(lengths) <= 0.8


@pytest.mark.parametrize("rate", [8000, 16_000, 16_001, 44_100, 48_000, 192_001])
def test_responses_of_any_rate_come_out_in_time(tmp_path: Path, rate: int) -> None:
    time = np.arange(rate // 2) / rate
    rir = np.where(time >= 0.01, np.exp(-(time - 0.01) / 0.05) * np.sin(2 * np.pi * 500 * (time - 0.01)), 0)
    read = read_rir(write(tmp_path / "rir.wav", 0.5 * rir, rate))
    assert len(read) == RATE // 2
    reference = np.interp(np.arange(RATE // 2) / RATE, time, 0.5 * rir)
    assert np.abs(np.abs(hilbert(read)) - np.abs(hilbert(reference)))[200:7000].max() < 0.05


def test_the_first_channel_is_used(tmp_path: Path) -> None:
    rir = np.zeros((100, 2))
    rir[10, 0], rir[30, 1] = 0.5, -0.5
    sf.write(tmp_path / "stereo.wav", rir, RATE, subtype="PCM_16")
    np.testing.assert_allclose(read_rir(tmp_path / "stereo.wav"), rir[:, 0], atol=1e-4)


def test_a_response_in_the_cache_cannot_be_changed(tmp_path: Path) -> None:
    path = write(tmp_path / "rir.wav", np.array([0.5, 0.25]))
    with pytest.raises(ValueError, match="read-only"):
        read_rir(path)[0] = 1


def test_parts_of_a_folder(tmp_path: Path) -> None:
    for name in ("train/a.wav", "test/b.wav"):
        write(tmp_path / "rirs" / name, np.array([0.5]))
    assert RirFolder(tmp_path / "rirs", "train").files == [tmp_path / "rirs/train/a.wav"]
    source = get_rir_source("rirs", tmp_path, "test")
    np.testing.assert_array_equal(source.sample(rng()), [0.5])


def test_generated_is_a_name() -> None:
    assert get_rir_source("generated") == GeneratedRirs()


def test_silent_response_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "zeros.wav", np.zeros(100))
    with pytest.raises(AudioError, match=r"zeros\.wav: the impulse response is silent"):
        RirFolder(tmp_path).sample(rng())


@pytest.mark.parametrize(
    ("samples", "message"),
    [
        (np.zeros(100), r"bad\.wav: the impulse response is silent"),
        (np.full(100, 0.5), r"bad\.wav: the impulse response is constant"),
        (np.array([1.0, np.nan]), r"bad\.wav: the impulse response holds NaN"),
        (np.zeros(0), r"bad\.wav: holds no audio"),
    ],
)
def test_a_file_without_response_is_found_before_it_is_drawn(tmp_path: Path, samples: np.ndarray, message: str) -> None:
    write(tmp_path / "good.wav", np.array([0.5, 0.25]))
    sf.write(tmp_path / "bad.wav", samples, RATE, subtype="FLOAT")
    with pytest.raises(AudioError, match=message):
        RirFolder(tmp_path).check()


def test_an_offset_of_the_recorder_is_not_reverberated() -> None:
    speech, rir = speech_like(1.0, 3), GeneratedRirs().sample(rng(2))
    np.testing.assert_allclose(reverberate(speech + np.float32(0.4), rir), reverberate(speech, rir), atol=2e-3)


def test_nan_in_a_response_is_refused(tmp_path: Path) -> None:
    sf.write(tmp_path / "nan.wav", np.array([1.0, np.nan]), RATE, subtype="FLOAT")
    with pytest.raises(AudioError, match=r"nan\.wav: the impulse response holds NaN"):
        RirFolder(tmp_path).sample(rng())


def test_no_response_to_be_had(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match=r"nowhere: no such RIR folder; .*or generated"):
        get_rir_source("nowhere", tmp_path)
    with pytest.raises(CorpusError, match="no audio files for RIR"):
        get_rir_source(".", tmp_path)
    with pytest.raises(ConfigError, match="RIR setting is empty"):
        get_rir_source(" ", tmp_path)
