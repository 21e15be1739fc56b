"""Common Voice as Mozilla packs it: one folder per locale with ``<split>.tsv`` files and the folder ``clips``."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from tqdm import tqdm

from audio_lottery.data.audio import probe
from audio_lottery.data.corpora._files import absolute, folders, listed, numbered_lines, require_file
from audio_lottery.data.corpora.catalogue import Archive
from audio_lottery.data.corpora.record import CorpusKind, Layout, inside
from audio_lottery.data.manifest import Utterance
from audio_lottery.data.walk import AUDIO_SUFFIXES, visible
from audio_lottery.errors import CorpusError

# The splits that are prepared unless others are named, and the tables of a release that are no split.
_USUAL = ("train", "dev", "test")
_OTHER_TABLES = {"clip_durations", "reported", "validated_sentences", "unvalidated_sentences"}


class _Row(NamedTuple):
    name: str
    clip: Path
    sentence: str
    client: str


def read(root: Path, split: str) -> Iterator[Utterance]:
    """The utterances of a split in the order of its table; none is held in memory.

    The id is the clip's name without ``.mp3``, or without the ending of the audio format that the clips were converted
    to.

    Durations are read from the clips, at about 1 ms each. ``clip_durations.tsv``, which some releases add, is not
    used: it is rounded, was measured with another decoder, and would let a damaged clip pass until it is trained on.

    Args:
        root: the folder of a locale (``.../en``), or the folder around it when that holds one locale only.
        split: e.g. ``train``, ``dev``, ``test``, ``validated``.

    Raises:
        CorpusError: no such split, several locales, a missing column, a malformed line, or a missing clip.
        AudioError: a clip that cannot be read.
    """
    corpus = f"common_voice/{split}"
    tsv = _locale(absolute(root), corpus) / f"{split}.tsv"
    if not tsv.is_file():
        found = [file.stem for file in visible(tsv.parent, "*.tsv")]
        raise CorpusError(f"{corpus}: no file {tsv}; splits there: {listed(found)}")
    for row in tqdm(_rows(tsv), desc=corpus, unit="clip", disable=None, leave=False):
        duration = probe(row.clip).duration
        yield Utterance(row.name, str(row.clip), 0.0, duration, row.sentence, row.client, duration, corpus)


def _locale(root: Path, corpus: str) -> Path:
    if (root / "clips").is_dir():
        return root
    locales = [folder for folder in folders(root) if (folder / "clips").is_dir()]
    if not locales:
        raise CorpusError(f"{corpus}: {root} is no Common Voice folder: it holds no 'clips', and no locale that does")
    if len(locales) > 1:
        names = [folder.name for folder in locales]
        raise CorpusError(f"{corpus}: {root} holds several locales; name the folder of one of them: {listed(names)}")
    return locales[0]


def _rows(tsv: Path) -> Iterator[_Row]:
    header: list[str] = []
    for number, line in numbered_lines(tsv):
        # These files have no quoting: sentences hold unpaired quotation marks, which would swallow lines.
        cells = line.split("\t")
        if not header:
            header = cells
            missing = [name for name in ("path", "sentence") if name not in header]
            if missing:
                raise CorpusError(f"{tsv}:{number}: no column '{missing[0]}'; columns there: {listed(header)}")
            continue
        if len(cells) != len(header):
            raise CorpusError(f"{tsv}:{number}: {len(cells)} cells where the header has {len(header)} columns")
        row = dict(zip(header, cells, strict=True))
        clip = tsv.parent / "clips" / row["path"]
        if not _is_audio(clip) and not os.path.isfile(clip):  # old releases leave the ending out
            clip = tsv.parent / "clips" / f"{row['path']}.mp3"
        require_file(clip, f"{tsv}:{number}", "clip")
        name = clip.stem if _is_audio(clip) else clip.name
        yield _Row(name, clip, row["sentence"], row.get("client_id") or name)


def _is_audio(clip: Path) -> bool:
    return clip.suffix.lower() in AUDIO_SUFFIXES


def find(folder: Path) -> Layout:
    """The folder of the one locale, and its tables."""
    locales = [root for root in inside(folder) if (root / "clips").is_dir()]
    if not locales:
        raise CorpusError(f"{folder}: no Common Voice locale in it (a folder 'clips' beside .tsv files)")
    if len(locales) > 1:
        names = listed([str(locale.relative_to(folder)) for locale in locales])
        raise CorpusError(
            f"{folder}: holds several Common Voice locales; name the folder of one with --source: {names}"
        )
    found = sorted({table.stem for table in visible(locales[0], "*.tsv")} - _OTHER_TABLES)
    usual = [split for split in _USUAL if split in found]
    return Layout(locales[0], found, usual or [split for split in found if split == "validated"] or found)


def _archives(splits: Sequence[str], release: int) -> list[Archive]:
    raise CorpusError(
        "common-voice: Mozilla gives no link to download from; get cv-corpus-...-LOCALE.tar.gz with your own account "
        "from https://datacollective.mozillafoundation.org and run `audio-lottery prepare common-voice --source "
        "THAT_FILE`"
    )


CORPUS = CorpusKind("Common Voice, from your own download (Mozilla Data Collective)", read, find, _archives)
