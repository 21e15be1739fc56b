"""What the readers share: text files line by line, and folders in a fixed order."""

import os
from collections.abc import Iterator
from pathlib import Path

from audio_lottery.data.walk import is_hidden
from audio_lottery.errors import CorpusError


def absolute(path: Path) -> Path:
    """The absolute path, without following links: messages and manifests show the path the user knows."""
    return Path(os.path.abspath(path))


def numbered_lines(path: Path) -> Iterator[tuple[int, str]]:
    """The lines of a UTF-8 text file that hold more than white space, each with its number, counted from 1.

    Only a newline ends a line: transcripts may hold the other characters that Unicode takes for line ends.

    Raises:
        CorpusError: the file cannot be opened, or a line is not UTF-8.
    """
    number = 0
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                text = line.decode("utf-8-sig" if number == 1 else "utf-8")
                if text.strip():
                    yield number, text.rstrip("\r\n")
    except OSError as error:
        raise CorpusError(f"{path}: cannot be read ({error.strerror or error})") from error
    except UnicodeDecodeError as error:
        raise CorpusError(f"{path}: cannot be read as UTF-8 text (line {number}: {error})") from error


def require_file(path: Path, where: str, what: str) -> None:
    """Refuse a row that names a file which is not there.

    Args:
        path: the file.
        where: file and line of the row.
        what: what the file should be, e.g. ``clip``.

    Raises:
        CorpusError: no such file, or it cannot be looked for (a name that is too long, a closed folder).
    """
    try:
        there = path.is_file()
    except OSError as error:
        raise CorpusError(f"{where}: {what} {path} cannot be read ({error.strerror or error})") from error
    if not there:
        raise CorpusError(f"{where}: missing {what} {path}")


def folders(path: Path) -> list[Path]:
    """The folders inside ``path``, by name, hidden ones left out."""
    return sorted(entry for entry in path.iterdir() if not is_hidden(entry.name) and entry.is_dir())


def listed(names: list[str]) -> str:
    """``a, b, c``, or ``none``."""
    return ", ".join(names) or "none"
