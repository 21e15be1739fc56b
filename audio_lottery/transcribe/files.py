"""Which files are meant by files, folders and patterns, and what their transcripts are called."""

import glob
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath

from audio_lottery.data.walk import AUDIO_SUFFIXES, visible
from audio_lottery.errors import ConfigError


@dataclass(frozen=True, slots=True)
class AudioFile:
    """A file to transcribe.

    Attributes:
        path: where it is.
        name: of its transcript, without an ending: of a file in a folder that was named, with the folders below that.
    """

    path: Path
    name: PurePath


def find_audio(named: Sequence[str]) -> list[AudioFile]:
    """The files that a user named, in that order, each once; what is in a folder or matches a pattern is sorted.

    A file that is not there is found out when it is opened, so that the others are transcribed.

    Args:
        named: files; folders, of which every recording is taken, in folders below them too; or patterns with ``*``,
            ``?``, ``[...]`` or ``**``, which the shell has not replaced.

    Raises:
        ConfigError: a folder without a recording, or a pattern that nothing matches.
    """
    found: list[AudioFile] = []
    for name in named:
        path = Path(name).expanduser()
        if path.is_dir():
            found += _in_folder(path)
        elif glob.has_magic(name) and not os.path.lexists(path):
            found += _matching(str(path))
        else:
            found.append(_alone(path))
    return list({os.path.realpath(file.path): file for file in reversed(found)}.values())[::-1]


def check_names(files: Sequence[AudioFile]) -> None:
    """Raises:
    ConfigError: two files whose transcripts would have the same name.
    """
    taken: dict[PurePath, Path] = {}
    for file in files:
        other = taken.setdefault(file.name, file.path)
        if other != file.path:
            raise ConfigError(
                f"the transcripts of {other} and {file.path} would both be called {file.name}; give the folder that "
                "both are in, or call the command for each"
            )


def _alone(path: Path) -> AudioFile:
    return AudioFile(path, PurePath(path.stem))


def _in_folder(folder: Path) -> list[AudioFile]:
    paths = [path for path in visible(folder, "**/*") if path.suffix.lower() in AUDIO_SUFFIXES and path.is_file()]
    if not paths:
        raise ConfigError(
            f"{folder} holds no recording ({', '.join(sorted(AUDIO_SUFFIXES))}); name files of other kinds themselves"
        )
    return [AudioFile(path, path.relative_to(folder).with_suffix("")) for path in paths]


def _matching(pattern: str) -> list[AudioFile]:
    paths = [Path(path) for path in sorted(glob.glob(pattern, recursive=True))]
    if not paths:
        raise ConfigError(f"nothing matches {pattern}")
    return [file for path in paths for file in (_in_folder(path) if path.is_dir() else [_alone(path)])]
