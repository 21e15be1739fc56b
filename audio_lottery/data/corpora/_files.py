"""What the readers share: text files line by line, and folders in a fixed order."""

import os
from collections.abc import Iterator
from pathlib import Path

from audio_lottery.errors import CorpusError


def absolute(path: Path) -> Path:
    """The absolute path, without following links: messages and manifests show the path the user knows."""
    return Path(os.path.abspath(path))


def numbered_lines(path: Path) -> Iterator[tuple[int, str]]:
    """The lines of a UTF-8 text file that hold more than white space, each with its number, counted from 1.

    Only a newline ends a line: transcripts may hold the other characters that Unicode takes for line ends.

    Raises:
        CorpusError: the file cannot be opened, or is not UTF-8.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="\n") as file:
            for number, line in enumerate(file, start=1):
                if line.strip():
                    yield number, line.rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        raise CorpusError(f"{path}: cannot be read as UTF-8 text ({error})") from error


def folders(path: Path) -> list[Path]:
    """The folders inside ``path``, by name."""
    return sorted(entry for entry in path.iterdir() if entry.is_dir())


def listed(names: list[str]) -> str:
    """``a, b, c``, or ``none``."""
    return ", ".join(names) or "none"
