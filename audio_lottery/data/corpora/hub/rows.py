"""From rows with whatever columns a dataset has to utterances with audio bytes."""

import io
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import fsspec  # type: ignore[import-untyped]
import numpy as np
import soundfile as sf

from audio_lottery.data.corpora._files import listed
from audio_lottery.data.corpora.hub.parquet import iterate_rows, read_columns
from audio_lottery.data.corpora.hub.source import MANIFEST_COLUMNS, HubSplit, find_files
from audio_lottery.errors import CorpusError

# The names that datasets use, the likelier first.
_USUAL = {
    "audio": ("audio", "speech", "wav", "flac", "mp3"),
    "text": ("text", "sentence", "transcription", "transcript", "normalized_text"),
    "id": ("id", "utt_id", "utterance_id", "utt", "segment_id", "audio_id", "file", "path"),
    "speaker": ("speaker_id", "client_id", "speaker"),
}
_OPTIONAL = ("id", "speaker")


@dataclass(frozen=True, slots=True)
class StreamedUtterance:
    """One row of a streamed dataset.

    Attributes:
        row: its number in the split, from 0.
        id: as the dataset has it, or ``<split>-<row, 8 digits>``.
        text: the transcript, as the dataset has it.
        speaker: as the dataset has it, else the id.
        audio: an encoded audio file, as the dataset has it (samples given as numbers become a float WAV file).
    """

    row: int
    id: str
    text: str
    speaker: str
    audio: bytes


def stream_rows(
    source: str,
    split: str,
    *,
    subset: str | None = None,
    revision: str | None = None,
    columns: Mapping[str, str] | None = None,
    limit: int | None = None,
) -> Iterator[StreamedUtterance]:
    """The utterances of a dataset in its own order, fetched as they are asked for; audio is not decoded.

    Args:
        source: a dataset repository on the Hub, a folder of parquet files, or one parquet file. What is on
            disk comes first.
        split: the split's name; not used for one file.
        subset: the dataset's configuration, such as ``clean``.
        revision: branch, tag or commit.
        columns: ``audio``, ``text``, ``id``, ``speaker`` → column of the dataset, where the usual names do not fit; an
            empty name says that there is none (ids are then made from row numbers).
        limit: stop after this many rows.

    Raises:
        CorpusError: the dataset cannot be reached or read, lacks a column, or a row has no audio or no text.
    """
    wanted = HubSplit.make(source, split, subset=subset, revision=revision, columns=columns, limit=limit)
    return stream_split(wanted)


def stream_split(split: HubSplit, *, commit: str | None = None, skip: int = 0) -> Iterator[StreamedUtterance]:
    """The utterances of a split from row ``skip`` on; see `stream_rows`."""
    files = find_files(split, commit)
    columns = find_columns(read_columns(split, files[0]), split)
    rows = iterate_rows(split, files, sorted(set(columns.values())), skip)
    return _utterances(split, islice(rows, None if split.limit is None else split.limit - skip), columns, skip)


def find_columns(there: list[str], split: HubSplit) -> dict[str, str]:
    """Manifest column → column of the dataset, by the usual names unless the split says otherwise.

    Raises:
        CorpusError: a column that was named is not there, or audio or text cannot be found.
    """
    found = {}
    for role in MANIFEST_COLUMNS:
        if role in split.columns:
            name = split.columns[role]
            if name and name not in there:
                raise CorpusError(f"{split.name}: no column '{name}' for {role}; columns there: {listed(there)}")
        else:
            name = next((name for name in _USUAL[role] if name in there), "")
        if name:
            found[role] = name
        elif role not in _OPTIONAL:
            raise CorpusError(
                f"{split.name}: no column for {role}; columns there: {listed(there)}; name one with columns: "
                f"{{{role}: NAME}}"
            )
    return found


def _utterances(
    split: HubSplit, rows: Iterable[dict[str, Any]], columns: Mapping[str, str], first: int
) -> Iterator[StreamedUtterance]:
    for number, row in enumerate(rows, start=first):
        cells = {role: row[name] for role, name in columns.items()}
        made_up = f"{split.split}-{number:08d}"
        identity = _label(cells.get("id"), made_up)
        where = f"{split.name}: row {number} ('{identity}')"
        if not isinstance(cells["text"], str):
            raise CorpusError(f"{where}: column '{columns['text']}' holds {cells['text']!r:.80} and no text")
        audio = _audio(cells["audio"], split, f"{where}: column '{columns['audio']}'")
        yield StreamedUtterance(number, identity, cells["text"], _label(cells.get("speaker"), identity), audio)


def _label(cell: object, otherwise: str) -> str:
    return otherwise if cell is None or cell == "" else str(cell)


def _audio(cell: object, split: HubSplit, where: str) -> bytes:
    path = cell
    if isinstance(cell, Mapping):
        if cell.get("bytes"):
            return bytes(cell["bytes"])
        if cell.get("array") is not None and cell.get("sampling_rate"):
            return _encode(cell["array"], cell["sampling_rate"], where)
        path = cell.get("path")
    elif isinstance(cell, bytes | bytearray | memoryview):
        if len(cell):
            return bytes(cell)
        path = None
    if isinstance(path, str) and path:
        return _read(path, split, where)
    raise CorpusError(
        f"{where} holds no audio: expected the bytes of a file, its path, or an array with its sampling_rate"
    )


def _encode(array: Any, rate: Any, where: str) -> bytes:
    """A float32 WAV file: the samples are kept as they are."""
    try:
        samples = np.asarray(array, dtype=np.float32)
    except (TypeError, ValueError) as error:
        raise CorpusError(f"{where}: the array does not hold samples ({error})") from error
    if samples.ndim != 1 or not len(samples):
        raise CorpusError(f"{where}: the array has shape {list(samples.shape)}; expected [samples], one channel")
    file = io.BytesIO()
    sf.write(file, samples, int(rate), format="WAV", subtype="FLOAT")
    return file.getvalue()


def _read(path: str, split: HubSplit, where: str) -> bytes:
    """The bytes behind a path that a row names; a dataset of the Hub may name files of the Hub only."""
    if split.path:
        base = Path(split.path)
        address = path if "://" in path else str((base if base.is_dir() else base.parent) / path)
    elif path.split("::")[-1].startswith("hf://"):
        address = path
    else:
        raise CorpusError(f"{where} holds no bytes, only the path {path!r:.120} on somebody's machine")
    try:
        with fsspec.open(address, "rb") as file:
            content: bytes = file.read()
    except Exception as error:  # every file system behind fsspec has exceptions of its own
        raise CorpusError(f"{where}: {path!r:.120} cannot be read ({type(error).__name__})") from error
    return content
