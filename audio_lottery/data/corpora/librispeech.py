"""LibriSpeech as OpenSLR 12 unpacks it: FLAC in ``<split>/<speaker>/<chapter>``, beside one ``.trans.txt`` file."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from tqdm import tqdm

from audio_lottery.data.audio import probe
from audio_lottery.data.corpora._files import absolute, folders, listed, numbered_lines
from audio_lottery.data.corpora.catalogue import LIBRISPEECH, Archive
from audio_lottery.data.corpora.record import CorpusKind, Layout, inside, named_archives
from audio_lottery.data.manifest import Utterance
from audio_lottery.data.walk import is_hidden, visible
from audio_lottery.errors import CorpusError


def read(root: Path, split: str) -> Iterator[Utterance]:
    """The utterances of a split, by speaker, chapter and id; text in upper case, as in the corpus.

    Args:
        root: the folder ``LibriSpeech`` that holds the splits, or the folder around it.
        split: e.g. ``train-clean-100``.

    Raises:
        CorpusError: no such split, a transcript line that is malformed or has no FLAC file, or a FLAC file that has
            no transcript.
        AudioError: a FLAC file that cannot be read.
    """
    root = absolute(root)
    base = root if (root / split).is_dir() or not (root / "LibriSpeech").is_dir() else root / "LibriSpeech"
    if not (base / split).is_dir():
        found = [folder.name for folder in folders(base)]
        raise CorpusError(f"librispeech/{split}: no folder {base / split}; folders there: {listed(found)}")
    chapters = [chapter for speaker in folders(base / split) for chapter in folders(speaker)]
    for chapter in tqdm(chapters, desc=f"librispeech/{split}", unit="chapter", disable=None, leave=False):
        yield from _read_chapter(chapter, f"librispeech/{split}")


def _read_chapter(chapter: Path, corpus: str) -> Iterator[Utterance]:
    speaker = chapter.parent.name
    prefix = f"{speaker}-{chapter.name}"
    transcript = chapter / f"{prefix}.trans.txt"
    audio = {file.stem: file for file in visible(chapter, "*.flac")}
    if not transcript.is_file():
        if audio:
            raise CorpusError(f"{min(audio.values())}: FLAC file without a transcript: there is no {transcript.name}")
        return
    texts: dict[str, str] = {}
    for number, line in numbered_lines(transcript):
        name, *text = line.split(None, 1)
        if not name.startswith(f"{prefix}-"):
            raise CorpusError(f"{transcript}:{number}: malformed line: expected '{prefix}-<number> TEXT', got '{name}'")
        if name in texts:
            raise CorpusError(f"{transcript}:{number}: second transcript for '{name}'")
        if name not in audio:
            raise CorpusError(f"{transcript}:{number}: transcript without audio: there is no {name}.flac")
        texts[name] = text[0].strip() if text else ""
    for name, file in audio.items():
        if name not in texts:
            raise CorpusError(f"{file}: FLAC file without a transcript in {transcript.name}")
        duration = probe(file).duration
        yield Utterance(name, str(file), 0.0, duration, texts[name], speaker, duration, corpus)


def find(folder: Path) -> Layout:
    """The folder of the splits, and those that have transcripts."""
    for root in inside(folder):
        found = [split.name for split in folders(root) if _has_transcripts(split)]
        if found:
            return Layout(root, found, found)
    raise CorpusError(f"{folder}: no LibriSpeech splits in it (<split>/<speaker>/<chapter>/*.trans.txt)")


def _has_transcripts(split: Path) -> bool:
    return any(not is_hidden(file.relative_to(split)) for file in split.glob("*/*/*.trans.txt"))


def _archives(splits: Sequence[str], release: int) -> list[Archive]:
    if not splits:
        sizes = listed([f"{split} ({archive.gigabytes:g} GB)" for split, archive in LIBRISPEECH.items()])
        raise CorpusError(f"librispeech: say which splits to download with --split: {sizes}")
    return named_archives(LIBRISPEECH, splits, "librispeech")


CORPUS = CorpusKind("LibriSpeech (OpenSLR 12) and mini LibriSpeech (OpenSLR 31)", read, find, _archives)
