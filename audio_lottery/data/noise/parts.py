"""Folders of noise and RIRs before they are used: training and test share no file, and every file holds something."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from audio_lottery.config import AugmentConfig, SuiteConfig
from audio_lottery.data.noise.folders import Part, audio_files
from audio_lottery.data.noise.rir import GENERATED, RirFolder
from audio_lottery.data.noise.sources import NOISE_NAMES, NoiseFolder
from audio_lottery.errors import ConfigError


def check_parts(augment: AugmentConfig, suites: Sequence[SuiteConfig], root: Path) -> None:
    """Compare the files that augmentation may use with those that the test suites may use, links resolved.

    Args:
        augment: settings of the training.
        suites: the test conditions.
        root: folder that relative folders start from.

    Raises:
        ConfigError: a file is on both sides; names both settings, how many files, and one of them.
        CorpusError: a folder is missing or holds nothing of its part.
    """
    test_folders = [(suite, *folder) for suite in suites for folder in _suite_folders(suite, root)]
    if not test_folders:
        return
    train_folders = list(_augment_folders(augment, root))
    listed: dict[tuple[Path, Part], set[str]] = {}

    def files(folder: Path, part: Part, what: str) -> set[str]:
        if (folder, part) not in listed:
            listed[folder, part] = {os.path.realpath(file) for file in audio_files(folder, part, what)}
        return listed[folder, part]

    for what, folder, part in train_folders:
        for suite, test_what, test_folder, test_part in test_folders:
            shared = files(folder, part, what) & files(test_folder, test_part, test_what)
            if shared:
                raise ConfigError(
                    f"training noise and the test suite '{suite.name}' share {len(shared)} files, e.g. {min(shared)}: "
                    f"augment uses part {part} of {folder}, the suite part {test_part} of {test_folder}; use one "
                    "folder with parts train and test, or folders apart"
                )


def check_recordings(augments: Sequence[AugmentConfig], suites: Sequence[SuiteConfig], root: Path) -> None:
    """Refuse a noise or RIR file that cannot be used now, and not when it is first drawn, hours later.

    A millisecond a file, more or less: of noise, usually the first second is read.

    Args:
        augments: settings of the training, if any.
        suites: the test conditions.
        root: folder that relative folders start from.

    Raises:
        AudioError: a file cannot be decoded, is silent or constant from end to end, or holds NaN; names the file.
        CorpusError: a folder is missing or holds nothing of its part.
    """
    folders = {folder for augment in augments for folder in _augment_folders(augment, root)}
    folders |= {folder for suite in suites for folder in _suite_folders(suite, root)}
    for what, folder, part in sorted(folders):
        source = NoiseFolder(folder, part) if what == "noise" else RirFolder(folder, part)
        source.check()


def _augment_folders(augment: AugmentConfig, root: Path) -> Iterator[tuple[str, Path, Part]]:
    if augment.noise_prob > 0:
        for noise in augment.noise:
            if noise not in NOISE_NAMES:
                yield "noise", root / Path(noise).expanduser(), augment.noise_part
    if augment.rirs not in (None, GENERATED) and augment.rir_prob > 0:
        yield "RIR", root / Path(str(augment.rirs)).expanduser(), augment.noise_part


def _suite_folders(suite: SuiteConfig, root: Path) -> Iterator[tuple[str, Path, Part]]:
    if suite.noise is not None and suite.noise not in NOISE_NAMES:
        yield "noise", root / Path(suite.noise).expanduser(), suite.noise_part
    if suite.rir not in (None, GENERATED):
        yield "RIR", root / Path(str(suite.rir)).expanduser(), suite.noise_part
