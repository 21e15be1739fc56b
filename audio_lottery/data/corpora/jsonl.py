"""JSON lines with NeMo's names: one object per line with ``audio_filepath``, ``text`` and, optionally, more."""

import json
import os
import tempfile
from collections import Counter
from collections.abc import Iterator
from itertools import islice
from pathlib import Path, PurePath
from typing import Any, NamedTuple

from tqdm import tqdm

from audio_lottery.data.audio import probe
from audio_lottery.data.corpora._files import absolute, listed, numbered_lines, require_file
from audio_lottery.data.corpora.record import CorpusKind
from audio_lottery.data.manifest import HashFile, Utterance
from audio_lottery.data.text.characters import show
from audio_lottery.data.walk import visible
from audio_lottery.errors import CorpusError

# A year of sound is 3e7 seconds.
_LONGEST = 1e9


class _Object(dict[str, Any]):
    """A JSON object, which knows a key that was given twice."""

    def __init__(self, pairs: list[tuple[str, Any]]) -> None:
        super().__init__(pairs)
        counts = Counter(key for key, _ in pairs) if len(self) < len(pairs) else {}
        self.repeated = next((key for key, count in counts.items() if count > 1), None)


_DECODER = json.JSONDecoder(object_pairs_hook=_Object)


class _Row(NamedTuple):
    """A line of a manifest, its values checked; no file was looked at."""

    where: str
    audio: str
    text: str
    id: str | None
    speaker: str | None
    offset: float | None
    duration: float | None


def read(root: Path, split: str) -> Iterator[Utterance]:
    """The utterances of a JSON-lines manifest, in its order; none is held in memory.

    Keys: ``audio_filepath`` (absolute, or relative to the manifest), ``text``; optionally ``duration`` and ``offset``
    in seconds (without a duration: up to the end of the file), ``id`` and ``speaker`` (else the id). Other keys are
    ignored. A given duration is taken as it is, so that large manifests need no audio file opened; decoding checks it
    against the file.

    An id that is not given is the audio file's stem, and the offset in milliseconds where there is one. Where files of
    a manifest share a stem (``a/001.wav`` and ``b/001.wav``), it is the file's path relative to the manifest without
    its ending instead (``a/001``), for all of them.

    Args:
        root: the folder of the manifest.
        split: the manifest's file name, with or without ``.jsonl`` or ``.json``.

    Raises:
        CorpusError: no such manifest, or a line that is not as above, or names a missing file.
        AudioError: an audio file without a given duration that cannot be read.
    """
    corpus = f"jsonl/{split}"
    root = absolute(root)
    manifest = next((file for end in ("", ".jsonl", ".json") if (file := root / f"{split}{end}").is_file()), None)
    if manifest is None:
        found = [file.name for file in visible(root, "*.json*")]
        raise CorpusError(f"{corpus}: no file {root / split}.jsonl; manifests there: {listed(found)}")
    folder = None if _stems_differ(manifest) else manifest.parent
    for row in tqdm(_rows(manifest), desc=corpus, unit="line", disable=None, leave=False):
        yield _utterance(row, row.id or _made_up_id(row, folder), corpus)


def _rows(manifest: Path) -> Iterator[_Row]:
    for number, line in numbered_lines(manifest):
        yield _parse(line, f"{manifest}:{number}", manifest.parent)


def _stems_differ(manifest: Path) -> bool:
    """Whether no two audio files get one id when ids are made of their stems; memory does not grow with the rows."""
    names = ((_made_up_id(row, None), row.audio) for row in _rows(manifest) if not row.id)
    scratch = Path(tempfile.gettempdir())
    with HashFile(scratch) as ids, HashFile(scratch) as files:
        while block := list(islice(names, 10_000)):
            ids.extend(identity for identity, _ in block)
            files.extend(f"{identity}\0{audio}" for identity, audio in block)
        return ids.distinct() == files.distinct()


def _made_up_id(row: _Row, folder: Path | None) -> str:
    """An id from the file's stem, or from its path relative to ``folder``."""
    name = os.path.basename(row.audio) if folder is None else PurePath(os.path.relpath(row.audio, folder)).as_posix()
    name = os.path.splitext(name)[0]
    return name if row.offset is None else f"{name}-{round(row.offset * 1000):08d}"


def _parse(line: str, where: str, folder: Path) -> _Row:
    row = _object(line, where)
    text = _string(row, "text", where)
    name = _string(row, "audio_filepath", where)
    if "\0" in name:
        raise CorpusError(f"{where}: 'audio_filepath' holds {show(chr(0))}, which no path can; correct it")
    audio = os.path.normpath(os.path.join(folder, name))
    offset = _seconds(row, "offset", where)
    if offset is not None and offset < 0:
        raise CorpusError(f"{where}: 'offset' is {offset:g} s; it must not be negative")
    duration = _seconds(row, "duration", where)
    if duration is not None:
        _check_duration(offset or 0.0, duration, where)
    return _Row(where, audio, text, _label(row, "id", where), _label(row, "speaker", where), offset, duration)


def _utterance(row: _Row, identity: str, corpus: str) -> Utterance:
    require_file(Path(row.audio), row.where, "audio file")
    start, duration = row.offset or 0.0, row.duration
    if duration is None:
        duration = probe(row.audio).duration - start
        _check_duration(start, duration, row.where)
    speaker = identity if row.speaker is None else row.speaker
    return Utterance(identity, row.audio, start, start + duration, row.text, speaker, duration, corpus)


def _check_duration(start: float, duration: float, where: str) -> None:
    if start + duration <= start:
        raise CorpusError(f"{where}: 'duration' is {duration:g} s; it must be longer than zero")


def _object(line: str, where: str) -> dict[str, Any]:
    """The object that a line holds, in which every key may occur once."""
    try:
        row = _DECODER.decode(line)
    except (ValueError, RecursionError) as error:
        reason = "nested too deeply" if isinstance(error, RecursionError) else error
        raise CorpusError(f"{where}: not valid JSON ({reason})") from error
    if not isinstance(row, _Object):
        raise CorpusError(f"{where}: expected a JSON object, got {type(row).__name__}")
    if row.repeated is not None:
        raise CorpusError(f"{where}: key {row.repeated!r:.80} occurs twice; keep one of them")
    return row


def _string(row: dict[str, Any], key: str, where: str) -> str:
    if key not in row:
        raise CorpusError(f"{where}: missing key '{key}'; keys there: {listed(sorted(row))}")
    value = row[key]
    if not isinstance(value, str):
        raise CorpusError(f"{where}: '{key}' must be a string, got {value!r:.80}")
    return _encodable(value, key, where)


def _label(row: dict[str, Any], key: str, where: str) -> str | None:
    """A string or number as text; None where there is none."""
    value = row.get(key)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise CorpusError(f"{where}: '{key}' must be a string or a number, got {value!r:.80}")
    return _encodable(str(value), key, where)


def _encodable(text: str, key: str, where: str) -> str:
    """The text, if it can be written as UTF-8: JSON may name one half of a surrogate pair alone."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise CorpusError(
            f"{where}: '{key}' holds {show(text[error.start])}, half of a surrogate pair and no character; correct it"
        ) from error
    return text


def _seconds(row: dict[str, Any], key: str, where: str) -> float | None:
    value = row.get(key)
    if value is None:
        return None
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if number and -_LONGEST <= value <= _LONGEST:
        return float(value)
    hint = f"; at most {_LONGEST:g}" if number and value > _LONGEST else ""
    raise CorpusError(f"{where}: '{key}' must be a number of seconds, got {value!r:.80}{hint}")


CORPUS = CorpusKind("check JSON-lines manifests with NeMo's field names", read)
