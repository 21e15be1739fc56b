"""Streamed utterances on disk: kept as a corpus of their own, or for as long as a window of them is evaluated.

A kept split is a folder of audio files, as the dataset has them, and ``manifest.jsonl`` with NeMo's names, which the
reader of JSON lines, NeMo and lhotse all read. The manifest is also the journal of an interrupted run.
"""

import hashlib
import io
import json
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import soundfile as sf
from datasets import Dataset
from tqdm import tqdm

from audio_lottery.config import CorpusConfig
from audio_lottery.data.audio import probe
from audio_lottery.data.corpora import jsonl
from audio_lottery.data.corpora._files import absolute
from audio_lottery.data.corpora.hub.rows import StreamedUtterance, stream_split
from audio_lottery.data.corpora.hub.source import HubSplit, find_commit
from audio_lottery.data.corpora.mini import default_root
from audio_lottery.data.manifest import Utterance, build_manifest
from audio_lottery.data.text import get_normalizer
from audio_lottery.errors import AudioError, CorpusError, storage_error
from audio_lottery.storage import SEAL, file_lock, file_sha256, is_sealed, read_json, verify_sealed, write_json

MANIFEST = "manifest.jsonl"
ORIGIN = "source.json"

_SHARD = 1000  # audio files in a folder
_NAME = 80  # characters of an id that a file name keeps
_ENDINGS = {"WAVEX": "wav", "RF64": "wav", "NIST": "sph", "MPEG": "mp3"}


def prepare_hub(
    source: str,
    split: str,
    out: Path,
    *,
    subset: str | None = None,
    revision: str | None = None,
    columns: Mapping[str, str] | None = None,
    limit: int | None = None,
) -> Path:
    """Fetch a split into a folder, once: audio files as the dataset has them, and ``manifest.jsonl`` beside them.

    A run that was killed goes on where it stopped, with the commit it began with: row groups that are on disk are
    not fetched again. Memory does not grow with the split. The manifest holds
    the SHA-256 of every audio file, and the seal of the folder that of the manifest.

    Args:
        source: see `stream_rows`, as all others.
        split: the split's name.
        out: a folder for this split alone.
        subset: the dataset's configuration.
        revision: branch, tag or commit; which commit it was is written to ``source.json``.
        columns: manifest column → column of the dataset.
        limit: only the first rows of the split.

    Returns:
        The manifest's path.

    Raises:
        CorpusError: the dataset cannot be read or has no rows, or ``out`` holds another split or other files.
        AudioError: the audio of a row cannot be decoded.
        RunError: ``out`` was finished and damaged since.
        StorageError: a file cannot be written.
    """
    return _keep(HubSplit.make(source, split, subset=subset, revision=revision, columns=columns, limit=limit), out)


def load_hub(corpus: CorpusConfig, root: Path) -> Dataset:
    """The manifest of a split, whose audio is fetched on the first call and found on every later one.

    It is kept in ``~/.cache/audio_lottery/hub``; AUDIO_LOTTERY_CACHE in the environment replaces all but the last part.
    A later call does not ask the Hub whether a branch has moved: remove the folder, or name a commit.

    Args:
        corpus: ``path`` is a repository id, or a folder or parquet file relative to ``root``; ``limit`` takes the first
            rows, because spreading them would mean fetching all.
        root: folder that relative paths start from.

    Raises:
        CorpusError, AudioError, RunError, StorageError: as `prepare_hub`; a repeated utterance id.
    """
    split = HubSplit.from_config(corpus, root)
    digest = hashlib.sha256(json.dumps(split.origin(), sort_keys=True).encode()).hexdigest()[:8]
    names = [split.source, split.subset or "", split.split]
    readable = "--".join(_safe(name.replace("/", "--"), _NAME) for name in names if name)
    folder = default_root().parent / "hub" / f"{readable}-{digest}"
    _keep(split, folder)
    rows = (replace(row, corpus=split.name) for row in jsonl.read(folder, MANIFEST))
    return build_manifest(rows, split.name)


def stream_windows(corpus: CorpusConfig, root: Path, size: int = 512) -> Iterator[Dataset]:
    """Manifests of at most ``size`` utterances each, in the dataset's order, for evaluating a split of any size.

    The audio of a window lies in a temporary folder, which is removed when the next window is asked for or the
    generator is closed: disk and memory are those of one window, and of all ids.

    Args:
        corpus: as for `load_hub`; its ``text`` steps are applied.
        root: folder that relative paths start from.
        size: utterances in a window.

    Raises:
        CorpusError: the dataset cannot be read, has no rows, or repeats an id.
        AudioError: the audio of a row cannot be decoded.
        StorageError: a file cannot be written.
    """
    if size < 1:
        raise CorpusError(f"a window of {size} utterances is none; size must be 1 or more")
    split = HubSplit.from_config(corpus, root)
    normalize = get_normalizer(corpus.text) if corpus.text is not None else str
    return _windows(split, normalize, size)


def _windows(split: HubSplit, normalize: Callable[[str], str], size: int) -> Iterator[Dataset]:
    rows = stream_split(split)
    seen: set[str] = set()
    while True:
        with _temporary_folder() as folder:
            utterances = []
            for row in islice(rows, size):
                if row.id in seen:
                    raise CorpusError(_repeated(split, row))
                seen.add(row.id)
                kept = _write_audio(row, split, folder)
                audio, duration = str(folder / kept.path), kept.duration
                text = normalize(row.text)
                utterances.append(Utterance(row.id, audio, 0.0, duration, text, row.speaker, duration, split.name))
            if not utterances:
                break
            yield build_manifest(utterances, split.name, folder / "manifest.arrow")
    if not seen:
        raise CorpusError(f"{split.name}: has no rows; correct the split or the files")


@contextmanager
def _temporary_folder() -> Iterator[Path]:
    try:
        temporary = tempfile.TemporaryDirectory(prefix="audio-lottery-")
    except OSError as error:
        raise storage_error(tempfile.gettempdir(), error) from error
    with temporary as folder:
        yield Path(folder)


def _keep(split: HubSplit, out: Path) -> Path:
    out = absolute(out)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with file_lock(out.with_name(f".{out.name}.lock")):
            if is_sealed(out):
                verify_sealed(out, f"remove {out} and run the command again")
                _check_origin(split, out)
            else:
                _fetch(split, out)
    except OSError as error:
        raise storage_error(error.filename or out, error) from error
    return out / MANIFEST


def _check_origin(split: HubSplit, out: Path) -> None:
    held, asked = read_json(out / ORIGIN)["request"], split.origin()
    differing = [key for key in asked if asked[key] != held.get(key)]
    if differing:
        raise CorpusError(
            f"{split.name}: {out} was prepared with another {' and another '.join(differing)}; choose another folder, "
            "or remove this one"
        )


def _fetch(split: HubSplit, out: Path) -> None:
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        raise CorpusError(f"{split.name}: {out} holds other files; choose a new or empty folder")
    work = out.with_name(f".{out.name}.partial")
    commit = _begin(split, work)
    rows = _journalled(work)
    with (work / MANIFEST).open("a", encoding="utf-8") as journal:
        bar = tqdm(desc=split.name, total=split.limit, initial=rows, unit="row", disable=None, leave=False)
        with bar:
            for row in stream_split(split, commit=commit, skip=rows):
                kept = _write_audio(row, split, work)
                journal.write(json.dumps(kept.line(row), ensure_ascii=False) + "\n")
                journal.flush()
                bar.update()
                rows += 1
    if rows == 0:
        raise CorpusError(f"{split.name}: has no rows; correct the split or the files")
    os.sync()  # one call: a sync of each of 100,000 files would take longer than fetching them
    sealed = {name: work / name for name in (MANIFEST, ORIGIN)}
    write_json(
        work / SEAL,
        {"files": {name: {"bytes": p.stat().st_size, "sha256": file_sha256(p)} for name, p in sealed.items()}},
    )
    os.replace(work, out)


def _begin(split: HubSplit, work: Path) -> str | None:
    """Start a folder, or find the one to go on with; the commit to read."""
    request = split.origin()
    if (work / ORIGIN).is_file():
        begun = read_json(work / ORIGIN)
        if begun.get("request") == request:
            commit: str | None = begun["commit"]
            return commit
    shutil.rmtree(work, ignore_errors=True)
    commit = find_commit(split)
    work.mkdir()
    write_json(work / ORIGIN, {"request": request, "commit": commit})
    return commit


def _journalled(work: Path) -> int:
    """How many rows are whole on disk; the journal is cut after the last of them."""
    journal = work / MANIFEST
    journal.touch()
    rows = end = 0
    with journal.open("rb+") as file:
        for line in file:
            if not line.endswith(b"\n") or not _is_there(work, json.loads(line)):
                break
            rows, end = rows + 1, end + len(line)
        file.truncate(end)
    return rows


def _is_there(work: Path, line: dict[str, Any]) -> bool:
    audio = work / line["audio_filepath"]
    return audio.is_file() and audio.stat().st_size == line["bytes"]


@dataclass(frozen=True, slots=True)
class _Kept:
    """An audio file that was written: ``path`` relative to its folder, ``duration`` in seconds."""

    path: str
    duration: float
    bytes: int
    sha256: str

    def line(self, row: StreamedUtterance) -> dict[str, Any]:
        return {
            "audio_filepath": self.path,
            "duration": self.duration,
            "text": row.text,
            "id": row.id,
            "speaker": row.speaker,
            "bytes": self.bytes,
            "sha256": self.sha256,
        }


def _write_audio(row: StreamedUtterance, split: HubSplit, folder: Path) -> _Kept:
    # The row's number makes the name unique, whatever cleaning leaves of the id.
    name = f"{row.row:08d}_{_safe(row.id, _NAME)}.{_ending(row.audio)}"
    path = f"audio/{row.row // _SHARD:05d}/{name}"
    file = folder / path
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(row.audio)
    except OSError as error:
        raise storage_error(file, error) from error
    try:
        duration = probe(file).duration
    except AudioError as error:
        reason = str(error).removeprefix(f"{file}: ")
        raise AudioError(f"{split.name}: row {row.row} ('{row.id}'): its audio is damaged: {reason}") from error
    return _Kept(path, duration, len(row.audio), hashlib.sha256(row.audio).hexdigest())


def _ending(audio: bytes) -> str:
    """The ending of a file name, by what the bytes are; datasets have wrong ones."""
    try:
        with sf.SoundFile(io.BytesIO(audio)) as file:
            return _ENDINGS.get(file.format, file.format.lower())
    except sf.SoundFileError:
        return "bin"


def _safe(name: str, length: int) -> str:
    """Part of a file name that any file system takes: ASCII letters, digits, ``. - _``, no dot in front."""
    return re.sub(r"[^A-Za-z0-9._-]+", "_", name[: 4 * length]).lstrip(".")[:length] or "_"


def _repeated(split: HubSplit, row: StreamedUtterance) -> str:
    return (
        f"{split.name}: row {row.row}: utterance id '{row.id}' occurs twice; name another column with columns: "
        "{id: NAME}, or number the rows with {id: ''}"
    )
