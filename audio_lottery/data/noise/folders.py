"""Folders of recordings, and their division into a part for training and one for testing."""

import hashlib
import re
import unicodedata
from pathlib import Path, PurePosixPath
from typing import Literal

from audio_lottery.data.walk import AUDIO_SUFFIXES, is_hidden
from audio_lottery.errors import CorpusError

TRAIN_SHARE = 0.8

Part = Literal["train", "test", "all"]

# DEMAND: DKITCHEN/ch01.wav to ch16.wav are one recording.
_CHANNEL = re.compile(r"(?:^|[-_. ]+)(?:ch|chan|channel|mic)[-_ ]?\d+$", re.IGNORECASE)

# RIRS_NOISES/simulated_rirs: smallroom/Room001/Room001-00001.wav to -00100.wav are places in one room.
_ROOM = re.compile(r"^(Room\d+)-\d+$")


def audio_files(folder: Path, part: Part, what: str) -> list[Path]:
    """The audio files of one part of a folder, at any depth, hidden ones left out.

    A folder with subfolders ``train`` and ``test`` is divided by them. Any other is divided by SHA-256 of the names of
    its recordings relative to the folder, 80 % train; see `recording`. ``all`` is every file.

    Args:
        folder: where to look; linked folders inside it are not followed.
        part: which part.
        what: for messages, e.g. ``noise``.

    Returns:
        The files in the order of their relative paths, so that the same folder gives the same draws wherever it lies.

    Raises:
        CorpusError: there is no such folder, no audio in it, or none in that part of it.
    """
    if not folder.is_dir():
        raise CorpusError(f"{folder}: no such {what} folder; give a folder of audio files")
    names = sorted(
        name
        for file in folder.rglob("*")
        if file.suffix.lower() in AUDIO_SUFFIXES
        and not is_hidden(name := file.relative_to(folder).as_posix())
        and file.is_file()
    )
    if part != "all" and (folder / "train").is_dir() and (folder / "test").is_dir():
        return audio_files(folder / part, "all", what)
    if not names:
        raise CorpusError(f"{folder}: no audio files for {what} ({', '.join(sorted(AUDIO_SUFFIXES))}) in it")
    chosen = names if part == "all" else [name for name in names if part_of(name) == part]
    if not chosen:
        recordings = len({recording(name) for name in names})
        raise CorpusError(
            f"{folder}: no {what} falls into its {part} part ({recordings} recordings, divided by name); put files "
            "into subfolders train and test, or ask for all of it"
        )
    return [folder / name for name in chosen]


def recording(name: str) -> str:
    """What a file is a recording of: its relative path without suffix and channel, or its simulated room.

    Files of one recording always belong to one part.
    """
    path = PurePosixPath(unicodedata.normalize("NFC", name))
    stem = _CHANNEL.sub("", path.stem)
    room = _ROOM.match(stem)
    return (path.parent / (room[1] if room else stem)).as_posix()


def part_of(name: str) -> Literal["train", "test"]:
    """The part that a file belongs to by its path relative to the folder, in a folder without train and test."""
    digest = hashlib.sha256(recording(name).encode()).digest()
    return "train" if int.from_bytes(digest[:8], "big") < TRAIN_SHARE * 2**64 else "test"
