"""TED-LIUM releases 1 to 3 as OpenSLR 7, 19 and 51 unpack them: talks in ``sph``, their segments in ``stm``."""

import logging
import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from tqdm import tqdm

from audio_lottery.data.audio import AudioInfo, probe
from audio_lottery.data.corpora._files import absolute, listed, numbered_lines
from audio_lottery.data.corpora.catalogue import TEDLIUM, Archive
from audio_lottery.data.corpora.record import CorpusKind, Layout, check_splits, inside
from audio_lottery.data.manifest import Utterance
from audio_lottery.data.text.steps import drop_markup, join_contractions
from audio_lottery.data.walk import visible
from audio_lottery.errors import CorpusError

logger = logging.getLogger(__name__)

# Segments are known to end up to this many seconds after their talk; they are cut there. More is a wrong talk.
END_SLACK = 0.5

SPLITS = ("train", "dev", "test", "legacy-train")

_IGNORED = "ignore_time_segment_in_scoring"
_GAP = "inter_segment_gap"


class _Segment(NamedTuple):
    channel: str
    utterance: Utterance


def clean_text(text: str) -> str:
    """Transcript text without its markup and with contractions joined, in single spaces.

    ``it 's {BREATH} read(2) <sil> don 't`` becomes ``it's read don't``.
    """
    return join_contractions(drop_markup(text))


def read(root: Path, split: str) -> Iterator[Utterance]:
    """The scored segments of a split, by talk and time; the id is ``<talk>-<start ms>-<end ms>``.

    Where two speakers or channels of a talk have segments of the same times, their ids end in ``-<channel>-<speaker>``.
    Segments marked to be ignored in scoring and the gaps between segments are skipped, and counted in the log. All
    others are kept, however short, and also those whose text is empty once its markup is removed.

    Args:
        root: the folder of the release.
        split: ``train``, ``dev`` or ``test``. For release 3, ``train`` is all of ``data`` without the talks of
            ``dev`` and ``test``, and ``legacy-train`` is its smaller ``legacy/train``.

    Raises:
        CorpusError: no such split, a talk without segments or segments without a talk, a talk of several channels, a
            malformed line, or a segment that is empty or ends more than ``END_SLACK`` seconds after its talk.
        AudioError: a talk that cannot be read.
    """
    corpus = f"tedlium/{split}"
    root = absolute(root)
    folder = split_folder(root, split, corpus)
    talks = _talks(folder / "sph")
    transcripts = {file.stem: file for file in visible(folder / "stm", "*.stm")}
    for name in sorted(talks.keys() ^ transcripts.keys()):
        if name in talks:
            raise CorpusError(f"{talks[name]}: talk without a transcript: there is no {folder / 'stm' / name}.stm")
        raise CorpusError(f"{transcripts[name]}: transcript without a talk: there is no {folder / 'sph' / name}.sph")
    if folder == root / "data":
        held_out = {file.stem for part in ("dev", "test") for file in visible(root / "legacy" / part / "stm", "*.stm")}
        logger.info("%s: %d talks left out that are in dev or test", corpus, len(held_out & transcripts.keys()))
        transcripts = {name: file for name, file in transcripts.items() if name not in held_out}
    skipped = 0
    for name, stm in tqdm(transcripts.items(), desc=corpus, unit="talk", disable=None, leave=False):
        info = probe(talks[name])
        segments: list[_Segment] = []
        for number, line in numbered_lines(stm):
            if line.lstrip().startswith(";;"):
                continue
            segment = _parse(line, f"{stm}:{number}", talks[name], info, corpus)
            if segment is None:
                skipped += 1
            else:
                segments.append(segment)
        yield from sorted(_told_apart(segments), key=lambda segment: segment.id)
    logger.info("%s: %d segments skipped that are gaps or not to be scored", corpus, skipped)


def split_folder(root: Path, split: str, corpus: str) -> Path:
    """The folder of a release that holds the folders ``sph`` and ``stm`` of a split."""
    candidates = {
        "train": ["data", "train", "legacy/train"],
        "legacy-train": ["legacy/train"],
        "dev": ["dev", "legacy/dev"],
        "test": ["test", "legacy/test"],
    }
    if split not in candidates:
        raise CorpusError(f"{corpus}: unknown split '{split}'; known: {listed(sorted(candidates))}")
    for name in candidates[split]:
        if (root / name / "sph").is_dir() and (root / name / "stm").is_dir():
            return root / name
    raise CorpusError(f"{corpus}: no folders sph and stm in {root} under any of: {listed(candidates[split])}")


def _talks(folder: Path) -> dict[str, Path]:
    # Shorten-compressed talks have to be converted: what they became, beside them, comes before the original.
    files = [file for ending in ("sph", "flac", "wav") for file in visible(folder, f"*.{ending}")]
    return {file.stem: file for file in files}


def _told_apart(segments: list[_Segment]) -> Iterator[Utterance]:
    """The segments of a talk; ids that only channel or speaker tell apart name these."""
    sources = defaultdict(set)
    for channel, utterance in segments:
        sources[utterance.id].add((channel, utterance.speaker))
    for channel, utterance in segments:
        shared = len(sources[utterance.id]) > 1
        yield replace(utterance, id=f"{utterance.id}-{channel}-{utterance.speaker}") if shared else utterance


def _parse(line: str, where: str, talk: Path, info: AudioInfo, corpus: str) -> _Segment | None:
    """A segment from a line ``file channel speaker start end [<label>] text``; None for one that is to be skipped."""
    fields = line.split(None, 5)
    if len(fields) < 5:
        raise CorpusError(
            f"{where}: malformed line: {len(fields)} fields, expected file channel speaker start end text"
        )
    name, channel, speaker, *times = fields[:5]
    # The label needs no care of its own: it has the form of markup, and is removed with it.
    rest = fields[5] if len(fields) == 6 else ""
    if speaker == _GAP or _IGNORED in rest.lower():
        return None
    if name != talk.stem:
        raise CorpusError(f"{where}: segment of talk '{name}' in the transcript of '{talk.stem}'")
    try:
        start, end = (float(time) for time in times)
    except ValueError as error:
        raise CorpusError(f"{where}: malformed line: start and end must be seconds, got {' '.join(times)}") from error
    if not (math.isfinite(end) and 0 <= start < end):
        raise CorpusError(f"{where}: segment runs from {times[0]} s to {times[1]} s: it must be longer than zero")
    if info.channels > 1:
        # Decoding averages the channels: the speech of the others would be heard in every segment of this one.
        raise CorpusError(
            f"{where}: segment of channel '{channel}' of {talk}, which has {info.channels} channels; write it "
            "to a mono file of the talk's name, a talk for each channel that has a transcript"
        )
    if start >= info.duration or end > info.duration + END_SLACK:
        raise CorpusError(f"{where}: segment ends at {end:g} s, but {talk.name} ends at {info.duration:.3f} s")
    identity = f"{name}-{round(start * 1000):08d}-{round(end * 1000):08d}"
    end = min(end, info.duration)
    return _Segment(channel, Utterance(identity, str(talk), start, end, clean_text(rest), speaker, end - start, corpus))


def find(folder: Path) -> Layout:
    """The folder of a release, and its splits."""
    for root in inside(folder, depth=1):
        found = [split for split in SPLITS if _has_split(root, split)]
        if found:
            return Layout(root, found, [split for split in found if split != "legacy-train"])
    raise CorpusError(
        f"{folder}: no TED-LIUM release in it (folders sph and stm under data, train, dev, test or legacy)"
    )


def _has_split(root: Path, split: str) -> bool:
    try:
        split_folder(root, split, "tedlium")
    except CorpusError:
        return False
    return True


def _archives(splits: Sequence[str], release: int) -> list[Archive]:
    if release not in TEDLIUM:
        raise CorpusError(f"tedlium: there is no release {release}; there are {listed(list(map(str, TEDLIUM)))}")
    check_splits(SPLITS, splits, "tedlium")  # before the download, and not after
    return [TEDLIUM[release]]


CORPUS = CorpusKind("TED-LIUM releases 1 to 3 (OpenSLR 7, 19, 51)", read, find, _archives)
