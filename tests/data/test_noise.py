"""Noise: the SNR that was asked for, the colour it claims, and the same samples every time."""

import pickle
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
from hypothesis import given, settings
from hypothesis import strategies as st

from audio_lottery.data.noise import (
    SILENCE_POWER,
    NoiseFolder,
    get_noise_source,
    is_silent,
    mean_power,
    mix_at_snr,
    pink_noise,
    utterance_rng,
    white_noise,
)
from audio_lottery.errors import AudioError, ConfigError, CorpusError

RATE = 16_000


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def write(path: Path, samples: np.ndarray, rate: int = RATE) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    sf.write(path, samples, rate, subtype="PCM_16")
    return path


# --- mixing -------------------------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=80)
@given(
    snr_db=st.floats(-20, 40),
    n=st.integers(2, 4000),
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
    added = mixed.astype(np.float64) - speech
    assert mixed.dtype == np.float32
    assert mixed.shape == speech.shape
    assert 10 * np.log10(mean_power(speech) / mean_power(added)) == pytest.approx(snr_db, abs=1e-3)


def test_silent_noise_is_an_error() -> None:
    with pytest.raises(AudioError, match="cannot mix at 10 dB: the noise is silent"):
        mix_at_snr(white_noise(100, rng()), np.zeros(100, np.float32), 10)


def test_silent_speech_comes_back_unchanged() -> None:
    speech = np.zeros(100, np.float32)
    mixed = mix_at_snr(speech, white_noise(100, rng()), 10)
    assert is_silent(speech)
    np.testing.assert_array_equal(mixed, speech)
    assert mixed is not speech


def test_speech_is_not_changed_in_place() -> None:
    speech, noise = white_noise(100, rng()), white_noise(100, rng(1))
    before = speech.copy(), noise.copy()
    mix_at_snr(speech, noise, 0)
    np.testing.assert_array_equal(speech, before[0])
    np.testing.assert_array_equal(noise, before[1])


def test_shapes_must_match() -> None:
    with pytest.raises(ValueError, match="same shape"):
        mix_at_snr(np.ones(3), np.ones(4), 0)


def test_silence() -> None:
    click = np.zeros(RATE)
    click[5] = 1 / 2**15
    assert is_silent(np.zeros(0))
    assert is_silent(click)
    assert not is_silent(np.full(10, 2 * SILENCE_POWER**0.5))


# --- generated noise ----------------------------------------------------------------------------------------------


def spectral_slope(noise: np.ndarray) -> float:
    """dB per decade, by regression of the log periodogram on log frequency."""
    power = np.abs(np.fft.rfft(noise))[1:-1] ** 2
    return float(np.polyfit(np.log10(np.arange(1, len(power) + 1)), 10 * np.log10(power), 1)[0])


@pytest.mark.parametrize(("generate", "slope"), [(white_noise, 0.0), (pink_noise, -10.0)])
def test_colour(generate, slope: float) -> None:
    slopes = [spectral_slope(generate(2**15, rng(seed))) for seed in range(8)]
    assert np.mean(slopes) == pytest.approx(slope, abs=0.3)


@pytest.mark.parametrize("n", [2, 3, 101, 16_000])
def test_pink_is_centred_with_unit_power(n: int) -> None:
    noise = pink_noise(n, rng())
    assert noise.dtype == np.float32
    assert noise.shape == (n,)
    assert np.mean(noise, dtype=np.float64) == pytest.approx(0, abs=1e-6)
    assert mean_power(noise) == pytest.approx(1, rel=1e-6)


@pytest.mark.parametrize("name", ["white", "pink"])
@pytest.mark.parametrize("n", [0, 1, 500])
def test_generated_sources(name: str, n: int) -> None:
    source = get_noise_source(name)
    noise = source.sample(n, rng(3))
    assert noise.dtype == np.float32
    assert noise.shape == (n,)
    assert np.isfinite(noise).all()
    np.testing.assert_array_equal(noise, pickle.loads(pickle.dumps(source)).sample(n, rng(3)))


# --- seeds --------------------------------------------------------------------------------------------------------


def test_utterance_rng_depends_on_all_three_and_nothing_else() -> None:
    keys = [(0, "noise10", "u1"), (1, "noise10", "u1"), (0, "noise1", "0u1"), (0, "noise10", "u2"), (0, "n", "é\0")]
    draws = [utterance_rng(*key).integers(2**62) for key in keys]
    assert len(set(draws)) == len(keys)
    assert draws == [utterance_rng(*key).integers(2**62) for key in keys]


def test_utterance_rng_is_the_same_in_every_process() -> None:
    # A number from another process: Python's hash() of a string would not repeat it.
    assert utterance_rng(7, "noise10", "u1").bit_generator.random_raw() == 6136567887835670178


# --- folders ------------------------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A long file, a short one at another sampling rate, and what must not be listed."""
    write(tmp_path / "b" / "long.wav", 0.1 * white_noise(2 * RATE, rng(1)))
    write(tmp_path / "a" / "short.FLAC", 0.1 * white_noise(2205, rng(2)), rate=22_050)
    write(tmp_path / "a" / "._short.wav", np.zeros(10))
    (tmp_path / "LICENSE.txt").write_text("not audio")
    return tmp_path


def test_folder_lists_audio_files_in_order(folder: Path) -> None:
    assert NoiseFolder(folder).files == [folder / "a" / "short.FLAC", folder / "b" / "long.wav"]


@pytest.mark.parametrize("n", [1, 777, 1600, 20_000, 3 * RATE])
def test_folder_gives_what_was_asked_for(folder: Path, n: int) -> None:
    source = get_noise_source(str(folder))
    for seed in range(6):
        noise = source.sample(n, rng(seed))
        assert noise.dtype == np.float32
        assert noise.shape == (n,)
        assert not is_silent(noise)
        np.testing.assert_array_equal(noise, NoiseFolder(folder).sample(n, rng(seed)))


def test_pieces_come_from_many_places(tmp_path: Path) -> None:
    ramp = np.linspace(0.1, 0.9, RATE)
    write(tmp_path / "ramp.wav", ramp)
    starts = [NoiseFolder(tmp_path).sample(100, rng(seed))[0] for seed in range(40)]
    assert min(starts) < 0.3
    assert max(starts) > 0.7


def test_short_file_is_looped(tmp_path: Path) -> None:
    write(tmp_path / "short.wav", np.array([0.1, 0.2, 0.3]))
    noise = NoiseFolder(tmp_path).sample(8, rng())
    np.testing.assert_array_equal(noise[:5], noise[3:])
    np.testing.assert_allclose(sorted(noise[:3]), [0.1, 0.2, 0.3], atol=1e-4)


def test_silent_start_is_drawn_again(tmp_path: Path) -> None:
    # Four fifths of the file are digital zeros: most first draws are silent.
    samples = np.zeros(RATE)
    samples[12_800:] = 0.1 * white_noise(3200, rng())
    write(tmp_path / "late.wav", samples)
    assert not any(is_silent(NoiseFolder(tmp_path).sample(100, rng(seed))) for seed in range(8))


def test_silent_folder_is_an_error_that_names_the_file(tmp_path: Path) -> None:
    write(tmp_path / "zeros.wav", np.zeros(1000))
    with pytest.raises(AudioError, match=r"silent.*zeros\.wav"):
        NoiseFolder(tmp_path).sample(100, rng())


@pytest.mark.parametrize(
    ("name", "message"), [("missing", "no such noise folder.*white, pink"), ("", "no audio files")]
)
def test_no_noise_to_be_had(tmp_path: Path, name: str, message: str) -> None:
    with pytest.raises(CorpusError, match=message):
        get_noise_source(str(tmp_path / name))


@pytest.mark.parametrize("spec", ["", "  "])
def test_empty_setting_is_not_the_current_folder(spec: str) -> None:
    with pytest.raises(ConfigError, match="white, pink"):
        get_noise_source(spec)
