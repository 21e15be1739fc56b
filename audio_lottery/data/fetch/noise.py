"""Noise and room impulse responses: checked, and divided into parts for training and for testing.

``noise/train`` and ``noise/test`` share no recording; likewise ``rirs/train`` and ``rirs/test`` no room. The side of a
recording depends on its name alone (`audio_lottery.data.noise.folders.part_of`, one in five for testing), so that every
preparation, on every machine, divides alike.
"""

import os
import re
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from audio_lottery.data.audio import AudioInfo, probe
from audio_lottery.data.corpora._files import listed
from audio_lottery.data.corpora.catalogue import DEMAND, DEMAND_TEST, MUSAN, RIRS, Archive
from audio_lottery.data.corpora.record import Downloads, named_archives
from audio_lottery.data.fetch.sources import Keep, Source, everything
from audio_lottery.data.noise.folders import part_of
from audio_lottery.data.walk import visible
from audio_lottery.errors import CorpusError, RunError, storage_error
from audio_lottery.storage import read_json, write_json

_Plan = Iterator[tuple[Path, Path]]


@dataclass(frozen=True)
class NoiseKind:
    """One corpus of noise or room impulse responses.

    Attributes:
        summary: for the help of ``audio-lottery prepare``.
        tops: where its recordings go, each in a folder of the corpus's name.
        plan: extracted folder → (recording, its place below the output folder), for those that are taken.
        archives: (splits, release) → what to download.
        keep: the members of an archive that are extracted.
        named: whether single archives can be asked for.
    """

    summary: str
    tops: tuple[str, ...]
    plan: Callable[[Path], _Plan]
    archives: Downloads
    keep: Keep = everything
    named: bool = False


def place(corpus: str, sources: Iterable[Source], out: Path, force: bool) -> list[dict[str, Any]]:
    """Check the recordings of a corpus of `NOISES` and put each on its side.

    What was extracted here is moved, one rename a file, so that a kill loses nothing and the next call goes on; what
    lies in a folder of the user is linked (or copied, to another file system) and stays.

    Returns:
        One summary per part: ``corpus, split, files, seconds, hours, sample_rates, channels, folder``.

    Raises:
        CorpusError: a folder does not hold this corpus, or files that were placed before are missing.
        AudioError: a recording cannot be read.
        StorageError: a file cannot be written.
    """
    sources = list(sources)
    origins = [source.origin for source in sources]
    marker = out / f".{corpus}.completed"
    before = _read(marker)
    parts = [out / top / corpus for top in NOISES[corpus].tops]
    same = before.get("sources") == origins and before.get("root") == str(out)
    if same and not force and sum(1 for part in parts for _ in _audio(part)) == before["files"]:
        return list(before["parts"])
    try:
        for source in sources:
            _place_source(corpus, source, out)
        summaries = [_summary(corpus, part, out) for part in parts]
        files = sum(summary["files"] for summary in summaries)
        # What was moved away once cannot be placed again.
        if files == 0 or (before.get("sources") == origins and files < before["files"]):
            owned = listed([str(source.path) for source in sources if source.owned])
            raise CorpusError(
                f"{corpus}: {files} recordings in {out} where {before.get('files', 'some')} should be; remove {owned} "
                "and run the command again to extract them anew"
            )
        write_json(marker, {"root": str(out), "sources": origins, "files": files, "parts": summaries})
    except OSError as error:
        raise storage_error(error.filename or out, error) from error
    return summaries


def _place_source(corpus: str, source: Source, out: Path) -> None:
    plan = list(NOISES[corpus].plan(source.path))
    if not plan and not source.owned:
        raise CorpusError(f"{source.path}: no {corpus} recordings in it; name the folder that the archive unpacks to")
    for file, name in tqdm(plan, desc=f"checking {corpus}", unit="file", disable=None, leave=False):
        probe(file)
        target = out / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.owned:
            os.replace(file, target)
        elif not (target.exists() and os.path.samefile(file, target)):
            _link(file, target)


def _link(file: Path, target: Path) -> None:
    temporary = target.with_name(f".{target.name}.tmp")
    temporary.unlink(missing_ok=True)
    try:
        os.link(file.resolve(), temporary)
    except OSError:  # another file system, or one without links
        shutil.copyfile(file, temporary)
    os.replace(temporary, target)


def _musan(root: Path) -> _Plan:
    """``musan/{music,noise,speech}/<collection>/*.wav``; music and noise by recording, speech apart: it is babble."""
    for file in _audio(root):
        kinds = [part for part in file.relative_to(root).parts[:-1] if part in ("music", "noise", "speech")]
        if kinds:
            kind = kinds[0]
            name = Path(kind, file.parent.name, file.name) if file.parent.name != kind else Path(kind, file.name)
            top = Path("speech") if kind == "speech" else Path("noise", part_of(file.name))
            yield file, top / "musan" / (name.relative_to(kind) if kind == "speech" else name)


def _keep_demand(name: str) -> bool:
    """Channel 1 only: the sixteen microphones stand 5 to 22 cm apart and hear the same noise sixteen times."""
    return name.rsplit("/", 1)[-1] == "ch01.wav"


def _demand(root: Path) -> _Plan:
    """``<ENVIRONMENT>/ch01.wav``, by environment."""
    for file in _audio(root):
        environment = file.parent.name
        if _keep_demand(file.name) and re.fullmatch(r"[A-Z]{4,}", environment):
            part = "test" if environment in DEMAND_TEST else "train"
            yield file, Path("noise", part, "demand", environment, file.name)


def _rirs(root: Path) -> _Plan:
    """``RIRS_NOISES``: simulated and real responses by room; point-source noises by recording.

    The isotropic noises lie among the real responses, and ``rir_list`` tells them apart; they stay where they are.
    """
    rooms = _real_rooms(root)
    for file in _audio(root):
        parts = file.relative_to(root).parts
        if "pointsource_noises" in parts:  # recordings of MUSAN, under their names there: the side is the same
            yield file, Path("noise", part_of(file.name), "rirs", "pointsource", file.name)
        elif "simulated_rirs" in parts:  # simulated_rirs/smallroom/Room001/Room001-00001.wav
            size, room = parts[-3:-1]
            yield file, Path("rirs", part_of(f"{size}/{room}"), "rirs", "simulated", size, room, file.name)
        elif file.name in rooms:
            yield file, Path("rirs", part_of(rooms[file.name]), "rirs", "real", file.name)


def _real_rooms(root: Path) -> dict[str, str]:
    """File name → room, from ``real_rirs_isotropic_noises/rir_list``: ``--rir-id ID --room-id ROOM PATH`` a line."""
    rooms: dict[str, str] = {}
    for table in visible(root, "**/real_rirs_isotropic_noises/rir_list"):
        for line in table.read_text(encoding="utf-8").splitlines():
            fields = line.split()
            if "--room-id" in fields[:-1]:
                rooms[fields[-1].rsplit("/", 1)[-1]] = fields[fields.index("--room-id") + 1]
    return rooms


def _demand_archives(splits: Sequence[str], release: int) -> list[Archive]:
    return named_archives(DEMAND, splits or list(DEMAND), "demand")


NOISES: dict[str, NoiseKind] = {
    "musan": NoiseKind(
        "MUSAN noise, music and speech (OpenSLR 17)",
        ("noise/train", "noise/test", "speech"),
        _musan,
        lambda splits, release: [MUSAN],
    ),
    "demand": NoiseKind(
        "DEMAND noise at 16 kHz (Zenodo 1227121)",
        ("noise/train", "noise/test"),
        _demand,
        _demand_archives,
        keep=_keep_demand,
        named=True,
    ),
    "rirs": NoiseKind(
        "room impulse responses and noises (OpenSLR 28)",
        ("rirs/train", "rirs/test", "noise/train", "noise/test"),
        _rirs,
        lambda splits, release: [RIRS],
    ),
}


def _audio(folder: Path) -> Iterator[Path]:
    if folder.is_dir():
        yield from visible(folder, "**/*.wav")


def _summary(corpus: str, part: Path, out: Path) -> dict[str, Any]:
    rates: dict[str, int] = {}
    channels: dict[str, int] = {}
    files, seconds = 0, 0.0
    for file in _audio(part):
        info: AudioInfo = probe(file)
        files, seconds = files + 1, seconds + info.duration
        rates[str(info.sample_rate)] = rates.get(str(info.sample_rate), 0) + 1
        channels[str(info.channels)] = channels.get(str(info.channels), 0) + 1
    split = part.parent.relative_to(out).as_posix()
    return {
        "corpus": corpus,
        "split": split,
        "files": files,
        "seconds": round(seconds, 3),
        "hours": round(seconds / 3600, 4),
        "sample_rates": rates,
        "channels": channels,
        "folder": str(part),
    }


def _read(marker: Path) -> dict[str, Any]:
    if not marker.is_file():
        return {}
    try:
        return dict(read_json(marker))
    except (RunError, TypeError, ValueError):
        return {}
