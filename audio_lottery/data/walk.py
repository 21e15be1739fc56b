"""Which files of a folder count: the one rule for every walk through a corpus or a folder of recordings."""

from pathlib import Path, PurePath

AUDIO_SUFFIXES = frozenset({".wav", ".flac", ".mp3", ".ogg", ".opus", ".sph"})


def is_hidden(name: str | PurePath) -> bool:
    """Whether a path, relative to the folder that is walked through, is no part of what the folder holds.

    macOS leaves ``._name.wav`` and ``.DS_Store`` beside ``name.wav``, and a folder ``__MACOSX`` in archives.
    """
    return any(part.startswith(".") or part == "__MACOSX" for part in PurePath(name).parts)


def visible(folder: Path, pattern: str) -> list[Path]:
    """What matches a glob pattern in ``folder`` and is not hidden, sorted by path."""
    return sorted(path for path in folder.glob(pattern) if not is_hidden(path.relative_to(folder)))
