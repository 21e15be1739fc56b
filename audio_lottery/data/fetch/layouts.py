"""Where, in a folder, a corpus is, and which of its splits are there."""

from collections.abc import Iterator
from pathlib import Path

from audio_lottery.data.corpora._files import folders, listed
from audio_lottery.data.corpora.tedlium import split_folder
from audio_lottery.data.walk import is_hidden, visible
from audio_lottery.errors import CorpusError

# The tables of a Common Voice release that are no split to train or test on unless they are named.
_CV_DEFAULT = ("train", "dev", "test")
_CV_OTHER_TABLES = {"clip_durations", "reported", "validated_sentences", "unvalidated_sentences"}
TED_SPLITS = ("train", "dev", "test", "legacy-train")


def find_splits(corpus: str, folder: Path) -> tuple[Path, list[str], list[str]]:
    """The root that the corpus's reader takes, the splits there, and those of them to prepare when none is named.

    Args:
        corpus: librispeech, common_voice or tedlium.
        folder: what was extracted, or what the user has; the corpus may lie up to two folders further down.

    Raises:
        CorpusError: the folder does not hold this corpus, or several of its locales.
    """
    return {"librispeech": _librispeech, "common_voice": _common_voice, "tedlium": _tedlium}[corpus](folder)


def _inside(folder: Path, depth: int = 2) -> Iterator[Path]:
    """The folder and those in it, the upper ones first."""
    level = [folder]
    for _ in range(depth + 1):
        yield from level
        level = [inner for outer in level for inner in folders(outer)]


def _librispeech(folder: Path) -> tuple[Path, list[str], list[str]]:
    for root in _inside(folder):
        found = [split.name for split in folders(root) if _has_transcripts(split)]
        if found:
            return root, found, found
    raise CorpusError(f"{folder}: no LibriSpeech splits in it (<split>/<speaker>/<chapter>/*.trans.txt)")


def _has_transcripts(split: Path) -> bool:
    return any(not is_hidden(file.relative_to(split)) for file in split.glob("*/*/*.trans.txt"))


def _common_voice(folder: Path) -> tuple[Path, list[str], list[str]]:
    locales = [root for root in _inside(folder) if (root / "clips").is_dir()]
    if not locales:
        raise CorpusError(f"{folder}: no Common Voice locale in it (a folder 'clips' beside .tsv files)")
    if len(locales) > 1:
        names = listed([str(locale.relative_to(folder)) for locale in locales])
        raise CorpusError(
            f"{folder}: holds several Common Voice locales; name the folder of one with --source: {names}"
        )
    found = sorted({table.stem for table in visible(locales[0], "*.tsv")} - _CV_OTHER_TABLES)
    usual = [split for split in _CV_DEFAULT if split in found]
    return locales[0], found, usual or [split for split in found if split == "validated"] or found


def _tedlium(folder: Path) -> tuple[Path, list[str], list[str]]:
    for root in _inside(folder, depth=1):
        found = [split for split in TED_SPLITS if _has_ted_split(root, split)]
        if found:
            return root, found, [split for split in found if split != "legacy-train"]
    raise CorpusError(
        f"{folder}: no TED-LIUM release in it (folders sph and stm under data, train, dev, test or legacy)"
    )


def _has_ted_split(root: Path, split: str) -> bool:
    try:
        split_folder(root, split, "tedlium")
    except CorpusError:
        return False
    return True
