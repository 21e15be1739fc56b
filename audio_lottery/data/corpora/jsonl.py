"""JSON lines with NeMo's names: one object per line with ``audio_filepath``, ``text`` and, optionally, more."""

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tqdm import tqdm

from audio_lottery.data.audio import probe
from audio_lottery.data.corpora._files import absolute, listed, numbered_lines
from audio_lottery.data.manifest import Utterance
from audio_lottery.errors import CorpusError


def read(root: Path, split: str) -> Iterator[Utterance]:
    """The utterances of a JSON-lines manifest, in its order; none is held in memory.

    Keys: ``audio_filepath`` (absolute, or relative to the manifest), ``text``; optionally ``duration`` and ``offset``
    in seconds (without a duration: up to the end of the file), ``id`` (else the audio file's stem, and the offset in
    milliseconds where there is one) and ``speaker`` (else the id). Other keys are ignored. A given duration is taken
    as it is, so that large manifests need no audio file opened; decoding checks it against the file.

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
        found = sorted(file.name for file in root.glob("*.json*"))
        raise CorpusError(f"{corpus}: no file {root / split}.jsonl; manifests there: {listed(found)}")
    for number, line in tqdm(numbered_lines(manifest), desc=corpus, unit="line", disable=None, leave=False):
        yield _parse(line, f"{manifest}:{number}", manifest.parent, corpus)


def _parse(line: str, where: str, folder: Path, corpus: str) -> Utterance:
    try:
        row = json.loads(line)
    except ValueError as error:
        raise CorpusError(f"{where}: not valid JSON ({error})") from error
    if not isinstance(row, dict):
        raise CorpusError(f"{where}: expected a JSON object, got {type(row).__name__}")
    text = _string(row, "text", where)
    audio = absolute(folder / _string(row, "audio_filepath", where))
    if not audio.is_file():
        raise CorpusError(f"{where}: missing audio file {audio}")
    offset = _seconds(row, "offset", where)
    start = offset or 0.0
    if start < 0:
        raise CorpusError(f"{where}: 'offset' is {start:g} s; it must not be negative")
    duration = _seconds(row, "duration", where)
    if duration is None:
        duration = probe(audio).duration - start
    if duration <= 0:
        raise CorpusError(f"{where}: 'duration' is {duration:g} s; it must be longer than zero")
    identity = row.get("id")
    if identity is None:
        identity = audio.stem if offset is None else f"{audio.stem}-{round(start * 1000):08d}"
    speaker = row.get("speaker")
    speaker = str(identity) if speaker is None else str(speaker)
    return Utterance(str(identity), str(audio), start, start + duration, text, speaker, duration, corpus)


def _string(row: dict[str, Any], key: str, where: str) -> str:
    if key not in row:
        raise CorpusError(f"{where}: missing key '{key}'; keys there: {listed(sorted(row))}")
    value = row[key]
    if not isinstance(value, str):
        raise CorpusError(f"{where}: '{key}' must be a string, got {value!r}")
    return value


def _seconds(row: dict[str, Any], key: str, where: str) -> float | None:
    value = row.get(key)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise CorpusError(f"{where}: '{key}' must be a number of seconds, got {value!r}")
    return float(value)
