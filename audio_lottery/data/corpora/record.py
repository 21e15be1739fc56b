"""What the package knows of a corpus: how it is read, found in a folder, and downloaded."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from audio_lottery.data.corpora._files import folders, listed
from audio_lottery.data.corpora.catalogue import Archive
from audio_lottery.data.manifest import Utterance
from audio_lottery.errors import CorpusError

Reader = Callable[[Path, str], Iterator[Utterance]]
Downloads = Callable[[Sequence[str], int], list[Archive]]


class Layout(NamedTuple):
    """Where, in a folder, a corpus is, and which of its splits are there.

    Attributes:
        root: what the reader takes.
        splits: all that are there.
        usual: those to prepare when none is named.
    """

    root: Path
    splits: list[str]
    usual: list[str]


@dataclass(frozen=True)
class CorpusKind:
    """One corpus.

    Attributes:
        summary: for the help of ``audio-lottery prepare``.
        read: official layout on disk in, manifest rows out; see `audio_lottery.data.corpora`.
        find: the corpus in a folder that was extracted, or that the user has; it may lie some folders further down.
            Raises `CorpusError` where the folder does not hold it. None for a corpus that is manifests and no folder.
        archives: (splits, release) → what to download. Raises `CorpusError` for a split or release that there is not,
            or where there is nothing to download: with what to do instead.
    """

    summary: str
    read: Reader
    find: Callable[[Path], Layout] | None = None
    archives: Downloads | None = None


def inside(folder: Path, depth: int = 2) -> Iterator[Path]:
    """The folder and those in it, the upper ones first."""
    level = [folder]
    for _ in range(depth + 1):
        yield from level
        level = [inner for outer in level for inner in folders(outer)]


def check_splits(there: Iterable[str], splits: Sequence[str], corpus: str) -> None:
    """Refuse splits that a corpus does not have.

    Raises:
        CorpusError: names the first of them, and those that there are.
    """
    there = list(there)
    for split in splits:
        if split not in there:
            raise CorpusError(f"{corpus}: unknown split '{split}'; splits there: {listed(there)}")


def named_archives(table: Mapping[str, Archive], splits: Sequence[str], corpus: str) -> list[Archive]:
    """The archives of the splits.

    Raises:
        CorpusError: a split that the table does not have.
    """
    check_splits(table, splits, corpus)
    return [table[split] for split in splits]
