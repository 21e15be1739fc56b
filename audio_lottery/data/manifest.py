"""The contract between corpora and everything else: one row, one utterance.

Every corpus reader yields `Utterance` objects; `build_manifest` turns them into a `datasets.Dataset` with the columns
of `FEATURES`. Nothing behind this file knows which corpus a row came from.

Rows go to an Arrow file as they are read, and the dataset is a memory map of that file: the memory that a manifest
needs does not grow with it. Ids are compared by 64-bit hashes, which are kept in a file too.
"""

import atexit
import hashlib
import math
import os
import shutil
import tempfile
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import islice
from operator import attrgetter
from pathlib import Path

import numpy as np
from datasets import Dataset, Features, Value
from datasets.arrow_writer import ArrowWriter

from audio_lottery.errors import CorpusError, storage_error

FEATURES = Features(
    {
        "id": Value("string"),
        "audio": Value("string"),
        "start": Value("float64"),
        "end": Value("float64"),
        "text": Value("string"),
        "speaker": Value("string"),
        "duration": Value("float64"),
        "corpus": Value("string"),
    }
)
_COLUMNS = tuple(FEATURES)
_VALUES = attrgetter(*_COLUMNS)

# Rows of one Arrow record batch: every batch costs some kilobytes of memory for good, and its rows while it is written.
_BATCH = 10_000

# Hashes sorted or compared at a time; suspected repeats that are looked up at a time.
_BLOCK = 1 << 20
_SUSPECTS = 1000


@dataclass(frozen=True, slots=True)
class Utterance:
    """One row of a manifest.

    Attributes:
        id: unique within the manifest; stable between runs (it seeds the noise of the utterance).
        audio: absolute path of the audio file.
        start: where the utterance starts in the file, in seconds.
        end: where it ends in the file, in seconds; a whole file is ``start=0, end=its duration``.
        text: the transcript in the corpus's own spelling and case, its markup removed.
        speaker: speaker id (talk id where the corpus has no speakers).
        duration: ``end - start`` in seconds.
        corpus: which corpus and split, e.g. ``librispeech/train-clean-100``.
    """

    id: str
    audio: str
    start: float
    end: float
    text: str
    speaker: str
    duration: float
    corpus: str


def build_manifest(rows: Iterable[Utterance], where: str, path: Path | None = None) -> Dataset:
    """A manifest from the utterances of a reader, in the reader's order, memory-mapped from a file.

    Args:
        rows: what a reader yields; taken one by one.
        where: the corpus and split, for messages.
        path: the Arrow file to write, whole or not at all; None for a file that lives as long as this process.

    Raises:
        CorpusError: no rows, a repeated id, or a segment of zero or negative length.
        StorageError: the file cannot be written.
    """
    if path is None:
        path = _scratch() / f"{uuid.uuid4().hex}.arrow"
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with HashFile(path.parent) as ids:
                count = _write(_reading(rows, where), where, temporary, ids)
                if count == 0:
                    raise CorpusError(f"{where}: no utterances found; check the folder and the split name")
                _refuse_repeats(Dataset.from_file(str(temporary)), ids, _repeated(where))
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise storage_error(path, error) from error
    return Dataset.from_file(str(path))


def check_unique_ids(manifest: Dataset, message: Callable[[str], str]) -> None:
    """Refuse a manifest in which an id occurs twice; memory does not grow with the manifest.

    Args:
        manifest: any dataset with a column ``id``.
        message: the repeated id → the error's line.

    Raises:
        CorpusError: an id occurs twice.
        StorageError: no room for the temporary file of hashes.
    """
    try:
        with HashFile(_scratch()) as ids:
            for block in _id_blocks(manifest):
                ids.extend(block)
            _refuse_repeats(manifest, ids, message)
    except OSError as error:
        raise storage_error(_scratch(), error) from error


def iterate(manifest: Dataset, block: int = 1000) -> Iterator[Utterance]:
    """The rows of a manifest in order, read in blocks, so that memory does not grow with it."""
    for columns in manifest.select_columns(list(_COLUMNS)).iter(batch_size=block):
        yield from map(Utterance, *(columns[name] for name in _COLUMNS))


def total_seconds(manifest: Dataset) -> float:
    """The duration of all rows, in seconds; read in blocks, thirty times faster than ``sum(manifest["duration"])``."""
    blocks = manifest.select_columns(["duration"]).iter(batch_size=_BATCH)
    return math.fsum(seconds for block in blocks for seconds in block["duration"])


class HashFile:
    """A multiset of strings, of which only 64-bit hashes are kept, in a file: eight bytes of disk a string.

    Two different strings have one hash with probability 2⁻⁶⁴; among ten million strings any two do with 3 in a million.
    """

    def __init__(self, folder: Path) -> None:
        """Open a nameless temporary file in ``folder``.

        Raises:
            OSError: the file cannot be made.
        """
        self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 - closed by __exit__
        self._sorted: np.ndarray | None = None

    def __enter__(self) -> "HashFile":
        return self

    def __exit__(self, *_: object) -> None:
        self._sorted = None
        self._file.close()

    def extend(self, texts: Iterable[str]) -> None:
        """Add strings."""
        self._sorted = None
        self._file.seek(0, os.SEEK_END)
        self._file.write(b"".join(map(_hash, texts)))

    def distinct(self) -> int:
        """How many different hashes there are."""
        hashes = self._sort()
        # One number overlaps from block to block, so that every neighbour is compared once.
        steps = (np.count_nonzero(np.diff(block)) for block in _overlapping(hashes))
        return int(sum(steps)) + (1 if len(hashes) else 0)

    def repeated(self) -> Iterator[int]:
        """The hashes that occur more than once, ascending; those that occur n times come n - 1 times."""
        for block in _overlapping(self._sort()):
            yield from block[1:][block[1:] == block[:-1]].tolist()

    def _sort(self) -> np.ndarray:
        if self._sorted is None:
            self._file.flush()
            size = os.fstat(self._file.fileno()).st_size // 8
            # Sorting a memory map in place: the pages belong to the file, and the system may write them back.
            self._sorted = np.memmap(self._file, np.uint64, "r+", shape=(size,)) if size else np.empty(0, np.uint64)
            self._sorted.sort()
        return self._sorted


def _overlapping(hashes: np.ndarray) -> Iterator[np.ndarray]:
    for begin in range(0, max(0, len(hashes) - 1), _BLOCK):
        yield np.asarray(hashes[begin : begin + _BLOCK + 1])


def _hash(text: str) -> bytes:
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest()


def _reading(rows: Iterable[Utterance], where: str) -> Iterator[Utterance]:
    try:
        yield from rows
    except OSError as error:  # of reading; what fails in writing has another remedy
        raise CorpusError(
            f"{where}: {error.filename or 'a file'} cannot be read ({error.strerror or error})"
        ) from error


def _write(rows: Iterator[Utterance], where: str, path: Path, ids: HashFile) -> int:
    count = 0
    with path.open("wb") as file:
        writer = ArrowWriter(features=FEATURES, stream=file, writer_batch_size=_BATCH)
        while batch := list(islice(rows, _BATCH)):
            for utterance in batch:
                if utterance.end <= utterance.start or utterance.start < 0:
                    raise CorpusError(
                        f"{where}: utterance '{utterance.id}' runs from {utterance.start} s to {utterance.end} s of "
                        f"{utterance.audio}: a segment must start at 0 or later and be longer than zero; correct or "
                        "remove it"
                    )
            try:
                writer.write_batch(dict(zip(_COLUMNS, zip(*map(_VALUES, batch), strict=True), strict=True)))
            except UnicodeEncodeError as error:
                raise CorpusError(f"{where}: {_not_text(batch)}") from error
            ids.extend(u.id for u in batch)
            count += len(batch)
        writer.finalize(close_stream=False)
        file.flush()
        os.fsync(file.fileno())
    return count


def _not_text(batch: list[Utterance]) -> str:
    """Which value of which utterance cannot be written as UTF-8: it holds half of a surrogate pair.

    Python has one for each byte of a file name that is not UTF-8.
    """
    for utterance in batch:
        for name, value in zip(_COLUMNS, _VALUES(utterance), strict=True):
            written = str(value).encode("utf-8", "replace").decode()
            if isinstance(value, str) and written != value:
                return f"utterance '{utterance.id}': its {name} '{written:.200}' cannot be written as UTF-8; correct it"
    return "a value cannot be written as UTF-8"


def _repeated(where: str) -> Callable[[str], str]:
    return lambda identity: f"{where}: utterance id '{identity}' occurs twice; ids must be unique"


def _refuse_repeats(manifest: Dataset, ids: HashFile, message: Callable[[str], str]) -> None:
    """Equal hashes only raise a suspicion; the ids themselves decide."""
    repeats = ids.repeated()
    while suspects := set(islice(repeats, _SUSPECTS)):
        seen: set[str] = set()
        for block in _id_blocks(manifest):
            for identity in block:
                if int.from_bytes(_hash(identity), "little") in suspects:
                    if identity in seen:
                        raise CorpusError(message(identity))
                    seen.add(identity)


def _id_blocks(manifest: Dataset) -> Iterator[Sequence[str]]:
    for block in manifest.select_columns(["id"]).iter(batch_size=1000):
        yield block["id"]


@cache
def _scratch() -> Path:
    """A folder for manifests that nobody gave a place; removed when this process ends.

    Not when the dataset is let go of: datasets that were derived from it, and other processes that a dataset is sent
    to, still map the file.
    """
    try:
        folder = Path(tempfile.mkdtemp(prefix="audio-lottery-"))
    except OSError as error:
        raise storage_error(tempfile.gettempdir(), error) from error
    owner = os.getpid()

    def remove() -> None:
        if os.getpid() == owner:  # a forked process ends before its parent does
            shutil.rmtree(folder, ignore_errors=True)

    atexit.register(remove)
    return folder
