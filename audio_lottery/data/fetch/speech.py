"""Prepared manifests of speech corpora: read once, counted, sealed."""

from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

import soundfile as sf

from audio_lottery.data.audio import END_TOLERANCE, SAMPLE_RATE, AudioInfo, probe
from audio_lottery.data.corpora.prepared import ARROW, MANIFESTS, SUMMARY, prepared_splits
from audio_lottery.data.manifest import HashFile, Utterance, build_manifest
from audio_lottery.errors import CorpusError
from audio_lottery.storage import SEAL, read_json, recover_retired, sealed_folder, write_json

SCHEMA = 1
_BATCH = 10_000


def prepare_split(
    corpus: str, split: str, read: Callable[[], Iterator[Utterance]], origin: dict[str, Any], out: Path, force: bool
) -> dict[str, Any]:
    """Make ``out/manifests/<corpus>-<split>``, unless it is there from the same source.

    Args:
        corpus: name of the reader.
        split: name of the split.
        read: yields its utterances.
        origin: the source; a manifest from another one is made again.
        out: the folder of the prepared corpora.
        force: make it again in any case.

    Returns:
        Its summary, see `Tally.summary`.

    Raises:
        CorpusError: the reader's, or a segment that ends after its file.
        AudioError: an audio file that cannot be read.
        StorageError: a file cannot be written.
    """
    folder = out / MANIFESTS / f"{corpus}-{split}"
    recover_retired(folder)
    key = {"schema": SCHEMA, "corpus": corpus, "split": split, "root": str(out), "source": origin}
    if not force and _is_there(folder, key):
        return dict(read_json(folder / SUMMARY))
    with sealed_folder(folder) as temporary, Tally(temporary, check=corpus == "jsonl") as tally:
        build_manifest(tally.count(read()), f"{corpus}/{split}", temporary / ARROW)
        summary = key | tally.summary()
        write_json(temporary / SUMMARY, summary)
    return summary


def _is_there(folder: Path, key: dict[str, Any]) -> bool:
    summary = prepared_splits(folder.parent.parent).get(folder, {})
    same = {name: summary.get(name) for name in key} == key
    try:
        done = read_json(folder / SEAL)["files"] if same else {}
        # The reader compares every byte; here sizes do, so that a second call costs nothing.
        return same and all((folder / name).stat().st_size == entry["bytes"] for name, entry in done.items())
    except OSError:
        return False


class Tally:
    """Counts utterances on their way into a manifest, in memory that does not grow with them."""

    def __init__(self, folder: Path, check: bool) -> None:
        """Use ``folder`` for a temporary file; ``check`` audio files where the reader takes the given durations."""
        self._check = check
        self._speakers = HashFile(folder)
        self._pending: list[str] = []
        self._last: tuple[str, AudioInfo] | None = None
        self._utterances, self._seconds, self._empty, self._converted = 0, 0.0, 0, 0
        self._shortest, self._longest = float("inf"), 0.0
        self._rates: Counter[int] = Counter()
        self._channels: Counter[int] = Counter()

    def __enter__(self) -> "Tally":
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._speakers.__exit__()

    def count(self, rows: Iterator[Utterance]) -> Iterator[Utterance]:
        """The same rows, each counted.

        Raises:
            CorpusError: a row ends after its file.
            AudioError: an audio file cannot be read.
        """
        for row in rows:
            info = self._format(row.audio)
            if self._check and row.end > info.duration + END_TOLERANCE:
                raise CorpusError(
                    f"{row.corpus}: utterance '{row.id}' ends at {row.end:g} s, but {row.audio} ends at "
                    f"{info.duration:.3f} s; correct its duration or fetch the file again"
                )
            self._utterances += 1
            self._seconds += row.duration
            self._shortest, self._longest = min(self._shortest, row.duration), max(self._longest, row.duration)
            self._empty += not row.text.strip()
            self._rates[info.sample_rate] += 1
            self._channels[info.channels] += 1
            self._converted += info.sample_rate != SAMPLE_RATE or info.channels != 1
            self._pending.append(row.speaker)
            if len(self._pending) >= _BATCH:
                self._flush()
            yield row

    def summary(self) -> dict[str, Any]:
        """What was counted.

        ``utterances``, ``seconds``, ``hours``, ``shortest_seconds``, ``longest_seconds``, ``speakers``,
        ``empty_transcripts``; ``sample_rates`` (Hz) and ``channels`` of the source files → utterances; ``converted``:
        utterances that decoding resamples to 16 kHz or mixes down to mono.
        """
        self._flush()
        return {
            "utterances": self._utterances,
            "seconds": round(self._seconds, 3),
            "hours": round(self._seconds / 3600, 4),
            "shortest_seconds": round(self._shortest, 3),
            "longest_seconds": round(self._longest, 3),
            "speakers": self._speakers.distinct(),
            "empty_transcripts": self._empty,
            "sample_rates": {str(rate): number for rate, number in sorted(self._rates.items())},
            "channels": {str(channels): number for channels, number in sorted(self._channels.items())},
            "converted": self._converted,
        }

    def _flush(self) -> None:
        self._speakers.extend(self._pending)
        self._pending.clear()

    def _format(self, path: str) -> AudioInfo:
        # The segments of a talk follow each other.
        if self._last is None or self._last[0] != path:
            self._last = (path, probe(path) if self._check else _header(path))
        return self._last[1]


def _header(path: str) -> AudioInfo:
    try:
        info = sf.info(path)
    except sf.SoundFileError:
        return probe(path)  # which says why it fails, in our words
    return AudioInfo(info.frames, info.samplerate, info.channels)
