"""Noise: the colour it claims, the part of the folder that was asked for, and the same samples every time."""

import pickle
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf

from audio_lottery.data.noise import (
    NoiseFolder,
    audio_files,
    centred,
    get_noise_source,
    is_silent,
    mean_power,
    pink_noise,
    utterance_rng,
    white_noise,
)
from audio_lottery.data.noise.folders import part_of, recording
from audio_lottery.errors import AudioError, ConfigError, CorpusError
from tests.data.noise.signals import RATE, rng, write

# --- generated noise ----------------------------------------------------------------------------------------------


def spectral_slope(noise: np.ndarray) -> float:
    """dB per decade, by regression of the log periodogram on log frequency."""
    power = np.abs(np.fft.rfft(noise))[1:-1] ** 2
    return float(np.polyfit(np.log10(np.arange(1, len(power) + 1)), 10 * np.log10(power), 1)[0])


@pytest.mark.parametrize(("generate", "slope"), [(white_noise, 0.0), (pink_noise, -10.0)])
def test_colour(generate, slope: float) -> None:
    slopes = [spectral_slope(generate(2**15, rng(seed))) for seed in range(8)]
    assert np.mean(slopes) == pytest.approx(slope, abs=0.3)


@pytest.mark.parametrize("n", [2, 3, 101, 16_000, 16_001])
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


def test_utterance_rng_depends_on_its_arguments_and_nothing_else() -> None:
    keys = [(0, "noise10", "u1"), (1, "noise10", "u1"), (0, "noise1", "0u1"), (0, "noise10", "u2"), (0, "n", "é\0")]
    keys += [(0, "noise10", "u1", 0), (0, "noise10", "u1", 1)]
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


@pytest.mark.parametrize("n", [100, 5000])
def test_a_silent_file_is_refused_by_name(tmp_path: Path, n: int) -> None:
    write(tmp_path / "zeros.wav", np.zeros(1000))
    with pytest.raises(AudioError, match=r"silent from end to end: .*zeros\.wav"):
        NoiseFolder(tmp_path).sample(n, rng())


@pytest.mark.parametrize(
    ("samples", "message"),
    [
        (np.zeros(3 * RATE), r"a noise file is silent from end to end: .*bad\.wav; remove it"),
        (np.full(3 * RATE, 0.5), r"a noise file is constant from end to end: .*bad\.wav; remove it"),
        (np.full(100, -0.1), r"a noise file is constant from end to end: .*bad\.wav; remove it"),
        (np.full(3 * RATE, np.nan), r"bad\.wav \(utterance 'noise'\): holds NaN or infinite samples"),
    ],
)
def test_a_file_without_sound_is_found_before_it_is_drawn(tmp_path: Path, samples: np.ndarray, message: str) -> None:
    write(tmp_path / "good.wav", 0.1 * white_noise(1000, rng()))
    sf.write(tmp_path / "bad.wav", samples, RATE, subtype="FLOAT" if np.isnan(samples).any() else "PCM_16")
    source = NoiseFolder(tmp_path)
    with pytest.raises(AudioError, match=message):
        source.check()
    with pytest.raises(AudioError, match=message):
        NoiseFolder(tmp_path).sample(50, rng(next(seed for seed in range(20) if rng(seed).integers(2) == 0)))


def test_files_with_sound_somewhere_pass(tmp_path: Path) -> None:
    late = np.concatenate([np.full(2 * RATE, 0.3), 0.3 + 0.1 * white_noise(RATE, rng())])
    write(tmp_path / "late.wav", late)
    write(tmp_path / "short.wav", 0.1 * white_noise(50, rng()), rate=8_000)
    sf.write(tmp_path / "float.wav", 0.1 * white_noise(3 * RATE, rng()), RATE, subtype="FLOAT")
    NoiseFolder(tmp_path).check()


def test_nan_late_in_a_file_is_found_before_it_is_drawn(tmp_path: Path) -> None:
    samples = 0.1 * white_noise(3 * RATE, rng())
    samples[-1] = np.inf
    sf.write(tmp_path / "late.wav", samples, RATE, subtype="FLOAT")
    with pytest.raises(AudioError, match=r"late\.wav .*: holds NaN or infinite samples"):
        NoiseFolder(tmp_path).check()


def test_constant_pieces_are_drawn_again(tmp_path: Path) -> None:
    # Four fifths of the file are nothing but an offset.
    samples = np.full(RATE, 0.5)
    samples[12_800:] += 0.1 * white_noise(3200, rng())
    write(tmp_path / "late.wav", samples)
    assert not any(is_silent(centred(NoiseFolder(tmp_path).sample(100, rng(seed)))) for seed in range(8))


def test_a_silent_file_among_good_ones_is_not_passed_over(tmp_path: Path) -> None:
    write(tmp_path / "good.wav", 0.1 * white_noise(1000, rng()))
    write(tmp_path / "zeros.wav", np.zeros(1000))
    source = NoiseFolder(tmp_path)
    seed = next(seed for seed in range(20) if rng(seed).integers(2) == 1)  # draws the second file
    with pytest.raises(AudioError, match=r"zeros\.wav"):
        source.sample(100, rng(seed))


def test_a_file_of_almost_nothing_but_silence(tmp_path: Path) -> None:
    samples = np.zeros(RATE * 60)
    samples[:50] = 0.5
    write(tmp_path / "click.wav", samples)
    with pytest.raises(AudioError, match=r"pieces of noise in a row were silent, the last one from .*click\.wav"):
        NoiseFolder(tmp_path).sample(10, rng())


@pytest.mark.parametrize(
    ("name", "message"), [("missing", "no such noise folder.*white, pink"), ("", "no audio files")]
)
def test_no_noise_to_be_had(tmp_path: Path, name: str, message: str) -> None:
    with pytest.raises(CorpusError, match=message):
        get_noise_source(str(tmp_path / name))


def test_a_folder_may_be_relative_to_the_root(folder: Path) -> None:
    assert get_noise_source("b", folder).files == [folder / "b" / "long.wav"]


@pytest.mark.parametrize("spec", ["", "  "])
def test_empty_setting_is_not_the_current_folder(spec: str) -> None:
    with pytest.raises(ConfigError, match="white, pink"):
        get_noise_source(spec)


# --- parts --------------------------------------------------------------------------------------------------------


def touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def test_subfolders_train_and_test_are_the_parts(tmp_path: Path) -> None:
    touch(tmp_path, "train/a.wav", "train/deep/b.wav", "test/c.wav", "d.wav")
    assert audio_files(tmp_path, "train", "noise") == [tmp_path / "train/a.wav", tmp_path / "train/deep/b.wav"]
    assert audio_files(tmp_path, "test", "noise") == [tmp_path / "test/c.wav"]
    assert len(audio_files(tmp_path, "all", "noise")) == 4


def test_other_folders_are_divided_by_name(tmp_path: Path) -> None:
    names = [f"noise-free-sound-{i:04d}.wav" for i in range(500)]
    touch(tmp_path, *names)
    parts = {part: {file.name for file in audio_files(tmp_path, part, "noise")} for part in ("train", "test", "all")}
    assert parts["train"] | parts["test"] == parts["all"] == set(names)
    assert not parts["train"] & parts["test"]
    assert len(parts["train"]) == pytest.approx(400, abs=30)


def test_the_division_stays_the_same() -> None:
    # A change here would move noise from training into the test of a run that exists.
    test = {"g.wav", "NRIVER/ch01.wav", "PCAFETER/ch16.wav", "TMETRO/ch02.wav"}
    train = {"a.wav", "f.wav", "DKITCHEN/ch01.wav", "DLIVING/ch16.wav", "TBUS/ch02.wav", "STRAFFIC/ch01.wav"}
    assert {name for name in test | train if part_of(name) == "test"} == test


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("DKITCHEN/ch01.wav", "DKITCHEN/ch16.wav"),
        ("x/street_ch1.wav", "x/street_ch2.flac"),
        ("street-mic3.wav", "street-mic12.wav"),
        ("smallroom/Room001/Room001-00001.wav", "smallroom/Room001/Room001-00100.wav"),
        ("caf\u00e9.wav", "cafe\u0301.wav"),
    ],
)
def test_channels_places_and_spellings_of_one_recording_stay_together(one: str, other: str) -> None:
    assert recording(one) == recording(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("DKITCHEN/ch01.wav", "NPARK/ch01.wav"),
        ("a/x.wav", "b/x.wav"),
        ("search1.wav", "search2.wav"),
        ("smallroom/Room001/Room001-00001.wav", "smallroom/Room002/Room002-00001.wav"),
        ("smallroom/Room001/Room001-00001.wav", "largeroom/Room001/Room001-00001.wav"),
    ],
)
def test_different_recordings(one: str, other: str) -> None:
    assert recording(one) != recording(other)


def test_an_empty_part_is_refused(tmp_path: Path) -> None:
    touch(tmp_path, "DKITCHEN/ch01.wav", "DKITCHEN/ch02.wav")
    empty = "test" if part_of("DKITCHEN/ch01.wav") == "train" else "train"
    with pytest.raises(CorpusError, match=rf"no noise falls into its {empty} part \(1 recordings"):
        NoiseFolder(tmp_path, empty)


def test_a_part_without_audio_is_refused(tmp_path: Path) -> None:
    touch(tmp_path, "train/a.wav", "test/readme.txt")
    with pytest.raises(CorpusError, match=r"test: no audio files for noise"):
        NoiseFolder(tmp_path, "test")
