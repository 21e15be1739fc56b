"""Conditions: one code for training and test, every draw a function of seed, name, utterance and epoch."""

import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from datasets import Dataset

from audio_lottery.config import AugmentConfig, RunConfig, SuiteConfig, TrainingConfig
from audio_lottery.config.check import validate
from audio_lottery.data.batching import SpeechDataset
from audio_lottery.data.noise import centred, make_augmenter, make_condition, white_noise
from audio_lottery.data.noise.sources import NOISE_NAMES
from audio_lottery.errors import ConfigError, CorpusError
from tests.data.noise.signals import RATE, rng, second_active_level, speech_like, write
from tests.data.noise.test_babble import manifest_of

SPEECH = speech_like(1.5, 0)
ROW = {"id": "utt-1", "speaker": "a"}
NONE = Dataset.from_dict({"id": []})

SUITES = [
    SuiteConfig("pink10", "pink", 10.0),
    SuiteConfig("folder10", "noise", 10.0),
    SuiteConfig("babble5", "babble", 5.0),
    SuiteConfig("rir", rir="generated"),
    SuiteConfig("rooms", rir="rirs", noise_part="all"),
    SuiteConfig("rir-white0", "white", 0.0, rir="generated"),
]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("root")
    for part in ("train", "test"):
        for i in range(3):
            write(root / "noise" / part / f"{i}.wav", 0.1 * white_noise(3 * RATE, rng(hash(part == "test") + i)))
    for i in range(3):
        write(root / "rirs" / f"{i}.wav", 0.5 * np.exp(-np.arange(2000) / 300) * np.sign(rng(i).standard_normal(2000)))
    return root


@pytest.fixture(scope="module")
def manifest(root: Path) -> Dataset:
    return manifest_of(root / "speech", list("abcdefgh"))


def measured_snr(mixed: np.ndarray, speech: np.ndarray) -> float:
    return second_active_level(speech) - 10 * np.log10(np.mean((mixed - speech).astype(np.float64) ** 2))


@pytest.mark.parametrize("suite", SUITES, ids=lambda suite: suite.name)
def test_a_suite_is_a_function_of_seed_name_and_utterance(suite: SuiteConfig, root: Path, manifest: Dataset) -> None:
    transform = make_condition(suite, root, 0, manifest)
    first = transform(SPEECH, ROW, 0)
    assert first.dtype == np.float32
    assert first.shape == SPEECH.shape
    assert np.abs(first).max() <= 1
    assert not np.array_equal(first, SPEECH)
    for other in ("x", "y", "z"):
        transform(speech_like(1.0, 9), ROW | {"id": other}, 0)  # what came before must not matter
    np.testing.assert_array_equal(transform(SPEECH, ROW, 3), first)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(transform))(SPEECH, ROW, 0), first)
    np.testing.assert_array_equal(make_condition(suite, root, 0, manifest)(SPEECH, ROW, 0), first)
    renamed = SuiteConfig(suite.name + "x", suite.noise, suite.snr_db, suite.rir, suite.noise_part)
    changed = [
        make_condition(suite, root, 1, manifest)(SPEECH, ROW, 0),
        make_condition(renamed, root, 0, manifest)(SPEECH, ROW, 0),
        transform(SPEECH, ROW | {"id": "utt-2"}, 0),
    ]
    if suite.name != "rooms":  # three files: two draws may agree
        assert not any(np.array_equal(first, other) for other in changed)


@pytest.mark.parametrize("name", ["pink10", "folder10", "babble5"])
def test_snr_of_a_suite(name: str, root: Path, manifest: Dataset) -> None:
    suite = next(suite for suite in SUITES if suite.name == name)
    mixed = make_condition(suite, root, 0, manifest)(SPEECH, ROW, 0)
    assert measured_snr(mixed, SPEECH) == pytest.approx(suite.snr_db, abs=0.01)


@pytest.mark.parametrize("level", [1e-3, 0.1])
def test_an_offset_of_noise_and_speech_is_not_in_the_snr(root: Path, level: float) -> None:
    for part in ("train", "test"):
        write(root / "dc" / part / "hiss.wav", 0.5 + level * white_noise(4 * RATE, rng()))
    speech = SPEECH + np.float32(0.2)
    mixed = make_condition(SuiteConfig("dc", "dc", 10.0), root, 0, NONE)(speech, ROW, 0)
    noise = mixed - speech
    assert noise.mean(dtype=np.float64) == pytest.approx(0, abs=1e-6)
    assert second_active_level(centred(SPEECH)) - 10 * np.log10(np.mean(noise**2)) == pytest.approx(10, abs=0.01)


def test_noise_comes_after_reverberation(root: Path) -> None:
    wet = make_condition(SuiteConfig("x", rir="generated"), root, 0, NONE)(SPEECH, ROW, 0)
    mixed = make_condition(SuiteConfig("x", "white", 20.0, "generated"), root, 0, NONE)(SPEECH, ROW, 0)
    assert measured_snr(mixed, wet) == pytest.approx(20, abs=0.01)


def test_each_suite_uses_its_part(root: Path) -> None:
    suite, augment = SuiteConfig("n", "noise", 5.0), AugmentConfig(noise=("noise",), noise_prob=1.0)
    files = {file.parent.name for file in make_condition(suite, root, 0, NONE).noises[0].files}
    assert files == {"test"}
    files = {file.parent.name for file in make_augmenter(augment, root, 0, NONE).noises[0].files}
    assert files == {"train"}


def test_a_clean_suite_and_an_augmentation_of_nothing_are_none(root: Path) -> None:
    assert make_condition(SuiteConfig("clean"), root, 0, NONE) is None
    for nothing in (
        AugmentConfig(),
        AugmentConfig(noise=("white",), noise_prob=0.0),
        AugmentConfig(rirs="generated"),
        AugmentConfig(speeds=(1.0, 1.0)),
    ):
        assert make_augmenter(nothing, root, 0, NONE) is None


@pytest.mark.parametrize("offset", [0.0, 0.3])
def test_silence_stays_as_it_is(root: Path, offset: float) -> None:
    silence = np.full(8000, offset, np.float32)
    everything = AugmentConfig(("white",), noise_prob=1.0, rirs="generated", rir_prob=1.0, speeds=(0.9,))
    assert make_augmenter(everything, root, 0, NONE)(silence, ROW, 0) is silence
    assert make_condition(SUITES[-1], root, 0, NONE)(silence, ROW, 0) is silence


def test_augmentation_differs_by_epoch_seed_and_utterance(root: Path) -> None:
    config = AugmentConfig(("white", "noise"), noise_prob=1.0, rirs="generated", rir_prob=0.5, speeds=(1.0,))
    augment = make_augmenter(config, root, 0, NONE)
    results = [
        augment(SPEECH, ROW, 0),
        augment(SPEECH, ROW, 1),
        augment(SPEECH, ROW | {"id": "utt-2"}, 0),
        make_augmenter(config, root, 1, NONE)(SPEECH, ROW, 0),
    ]
    for i, one in enumerate(results):
        for other in results[:i]:
            assert not np.array_equal(one, other)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(augment))(SPEECH, ROW, 1), results[1])


def test_augmentation_keeps_its_shares_and_range(root: Path) -> None:
    noisy = make_augmenter(AugmentConfig(("white",), noise_prob=0.3, snr_db=(5.0, 15.0)), root, 0, NONE)
    speech = speech_like(0.5, 1, level=0.02, pauses=False)
    ratios = [
        measured_snr(mixed, speech) for e in range(400) if not np.array_equal(mixed := noisy(speech, ROW, e), speech)
    ]
    assert len(ratios) == pytest.approx(120, abs=35)
    assert min(ratios) == pytest.approx(5, abs=0.5)
    assert max(ratios) == pytest.approx(15, abs=0.5)
    assert np.mean(ratios) == pytest.approx(10, abs=1.0)


def test_noise_by_its_amplitude_does_not_heed_the_level_of_speech(root: Path) -> None:
    config = AugmentConfig(("noise",), noise_prob=1.0, noise_amplitude=(0.2, 0.5))
    augment = make_augmenter(config, root, 0, NONE)
    ordinary = make_augmenter(AugmentConfig(("noise",), noise_prob=1.0), root, 0, NONE)
    quiet, levels = SPEECH / 8, []
    for epoch in range(60):
        noise = augment(SPEECH, ROW, epoch) - SPEECH
        np.testing.assert_allclose(augment(quiet, ROW, epoch) - quiet, noise, atol=1e-6)
        by_ratio = ordinary(SPEECH, ROW, epoch) - SPEECH  # the same piece of the same recording
        assert np.corrcoef(noise, by_ratio)[0, 1] == pytest.approx(1, abs=1e-4)
        levels.append(noise.std() / 0.1)  # of the recordings
    assert min(levels) == pytest.approx(0.2, abs=0.03)
    assert max(levels) == pytest.approx(0.5, abs=0.03)
    loud = SPEECH / np.abs(SPEECH).max()
    assert np.abs(augment(loud, ROW, 0)).max() <= 1


@pytest.mark.parametrize(
    ("augment", "message"),
    [
        (AugmentConfig(("noise",), noise_amplitude=(0.5, 0.1)), "two factors of 0 or more, the lower one first"),
        (AugmentConfig(("noise",), noise_amplitude=(0.5,)), "two factors"),
        (AugmentConfig(("noise",), noise_amplitude=(-0.5, 0.1)), "two factors"),
        (AugmentConfig(("noise", "pink"), noise_amplitude=(0.0, 0.5)), "white, pink and babble have no level"),
        *((AugmentConfig((name,), noise_amplitude=(0.0, 0.5)), f"{name}.* no level") for name in NOISE_NAMES),
    ],
)
def test_wrong_amplitudes(augment: AugmentConfig, message: str) -> None:
    training = TrainingConfig(max_steps=1, augment=replace(augment, noise_prob=1.0))
    with pytest.raises(ConfigError, match=message):
        validate(RunConfig(training=training))
    validate(RunConfig(training=replace(training, augment=replace(training.augment, noise_amplitude=()))))


def test_every_speed_is_drawn(root: Path) -> None:
    augment = make_augmenter(AugmentConfig(speeds=(0.9, 1.0, 1.1)), root, 0, NONE)
    lengths = [len(augment(SPEECH, ROW, epoch)) for epoch in range(60)]
    assert set(lengths) == {-(-len(SPEECH) * 10 // 9), len(SPEECH), -(-len(SPEECH) * 10 // 11)}


def test_one_step_does_not_change_the_draws_of_another(root: Path) -> None:
    noise = AugmentConfig(("white",), noise_prob=1.0, snr_db=(10.0, 10.0))
    both = AugmentConfig(("white",), noise_prob=1.0, snr_db=(10.0, 10.0), rirs="generated", rir_prob=0.5)
    alone = [make_augmenter(noise, root, 0, NONE)(SPEECH, ROW, epoch) for epoch in range(10)]
    beside = [make_augmenter(both, root, 0, NONE)(SPEECH, ROW, epoch) for epoch in range(10)]
    assert 0 < sum(np.array_equal(a, b) for a, b in zip(alone, beside, strict=True)) < 10


def test_it_fits_the_dataset(manifest: Dataset, root: Path) -> None:
    dataset = SpeechDataset(manifest, transform=make_condition(SuiteConfig("b", "babble", 10.0), root, 0, manifest))
    assert dataset[2]["audio"].shape == (8000,)


def test_reverberation_alone_does_not_leave_full_scale(root: Path) -> None:
    loud = speech_like(1.0, 3)
    loud /= np.abs(loud).max()
    wet = [make_condition(SuiteConfig(f"r{i}", rir="generated"), root, 0, NONE)(loud, ROW, 0) for i in range(10)]
    assert max(np.abs(w).max() for w in wet) <= 1


@pytest.mark.parametrize(
    ("suite", "error", "message"),
    [
        (SuiteConfig("n", "nowhere", 5.0), CorpusError, "nowhere: no such noise folder"),
        (SuiteConfig("n", "white"), ConfigError, "suite 'n': noise and snr_db go together"),
        (SuiteConfig("n", snr_db=3.0), ConfigError, "suite 'n': noise and snr_db go together"),
        (SuiteConfig("n", rir="nowhere"), CorpusError, "nowhere: no such RIR folder"),
    ],
)
def test_wrong_suites(suite: SuiteConfig, error: type[Exception], message: str, root: Path) -> None:
    with pytest.raises(error, match=message):
        make_condition(suite, root, 0, NONE)
