"""No noise or RIR file serves training and test."""

from pathlib import Path

import numpy as np
import pytest

from audio_lottery.config import AugmentConfig, SuiteConfig
from audio_lottery.data.noise import check_parts, check_recordings
from audio_lottery.errors import AudioError, ConfigError, CorpusError
from tests.data.noise.signals import write


@pytest.fixture
def root(tmp_path: Path) -> Path:
    names = [f"flat/{i}.wav" for i in range(40)] + [f"flat/deep/{i}.wav" for i in range(40)]
    names += ["split/train/a.wav", "split/test/b.wav", "other/a.wav", "other/b.wav"]
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "link").symlink_to(tmp_path / "flat")
    (tmp_path / "mixed").mkdir()
    (tmp_path / "mixed" / "c.wav").symlink_to(tmp_path / "split" / "test" / "b.wav")
    return tmp_path


def train(folder: str, part: str = "train") -> AugmentConfig:
    return AugmentConfig(noise=("white", folder), noise_part=part, noise_prob=0.5)


def suite_of(folder: str, part: str = "test") -> SuiteConfig:
    return SuiteConfig("noisy", folder, 10.0, noise_part=part)


@pytest.mark.parametrize(
    ("augment", "suite"),
    [
        (train("flat"), suite_of("flat")),
        (train("link"), suite_of("flat")),
        (train("split"), suite_of("split")),
        (train("split/train", "all"), suite_of("split")),
        (train("split/train", "all"), suite_of("split/test", "all")),
        (train("flat", "all"), suite_of("other", "all")),
        (train("flat", "all"), suite_of("pink")),
        (train("babble"), suite_of("babble")),
        (AugmentConfig(noise=("flat",), noise_part="all", noise_prob=0.0), suite_of("flat")),
        (AugmentConfig(rirs="flat", rir_prob=0.5), SuiteConfig("rir", rir="flat")),
        (AugmentConfig(rirs="flat", noise_part="all", rir_prob=0.0), SuiteConfig("rir", rir="flat")),
        (AugmentConfig(rirs="generated", rir_prob=1.0), SuiteConfig("rir", rir="generated")),
        (train("flat", "all"), SuiteConfig("clean")),
    ],
)
def test_apart(augment: AugmentConfig, suite: SuiteConfig, root: Path) -> None:
    check_parts(augment, [SuiteConfig("clean"), suite], root)


@pytest.mark.parametrize(
    ("augment", "suite"),
    [
        (train("flat", "all"), suite_of("flat")),
        (train("flat"), suite_of("flat", "all")),
        (train("flat", "all"), suite_of("flat", "all")),
        (train("link", "all"), suite_of("flat")),
        (train("flat", "all"), suite_of("flat/deep")),
        (train("flat/deep", "all"), suite_of("flat")),
        (train("flat"), suite_of("flat/deep")),  # relative names differ, and so do the parts
        (train("split", "all"), suite_of("split/test", "all")),
        (train("mixed", "all"), suite_of("split")),
        (AugmentConfig(rirs="flat", noise_part="all", rir_prob=0.5), SuiteConfig("noisy", rir="flat")),
        (train("flat", "all"), SuiteConfig("noisy", rir="flat")),
    ],
)
def test_shared_files_are_refused(augment: AugmentConfig, suite: SuiteConfig, root: Path) -> None:
    with pytest.raises(ConfigError, match=r"test suite 'noisy' share \d+ files, e\.g\. .*\.wav") as caught:
        check_parts(augment, [SuiteConfig("clean"), suite], root)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("augment", "suite", "name"),
    [
        (train("noise"), SuiteConfig("clean"), "constant.wav"),
        (AugmentConfig(), suite_of("noise"), "zeros.wav"),
        (AugmentConfig(rirs="rirs", rir_prob=0.5, noise_part="all"), SuiteConfig("clean"), "silent.wav"),
        (AugmentConfig(), SuiteConfig("rir", rir="rirs", noise_part="all"), "silent.wav"),
        (AugmentConfig(noise=("noise",), noise_prob=0.0), SuiteConfig("clean"), None),
        (AugmentConfig(("pink", "babble"), noise_prob=1.0, rirs="generated", rir_prob=1.0), suite_of("white"), None),
    ],
)
def test_recordings_are_checked_before_a_run(
    tmp_path: Path, augment: AugmentConfig, suite: SuiteConfig, name: str | None
) -> None:
    write(tmp_path / "noise" / "train" / "constant.wav", np.full(100, 0.2))
    write(tmp_path / "noise" / "test" / "zeros.wav", np.zeros(100))
    write(tmp_path / "rirs" / "silent.wav", np.zeros(100))
    if name is None:
        check_recordings([augment], [suite], tmp_path)
        return
    with pytest.raises(AudioError, match=rf"{name}.*remove it") as caught:
        check_recordings([augment], [suite], tmp_path)
    assert "\n" not in str(caught.value)


def test_a_missing_folder_is_named(root: Path) -> None:
    with pytest.raises(CorpusError, match="nowhere: no such noise folder"):
        check_parts(train("nowhere"), [suite_of("flat")], root)
