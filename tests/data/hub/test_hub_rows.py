"""Rows of parquet speech sets: every form of audio, wrong rows and places, memory."""

import gc
import io
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import soundfile as sf

from audio_lottery.data.corpora.hub import StreamedUtterance, source, stream_rows
from audio_lottery.data.corpora.hub.rows import stream_split
from audio_lottery.errors import CorpusError
from tests.data.hub.sets import ESB, LIBRISPEECH, RATE, encoded, librispeech_row, write


def test_librispeech_shape(parquet: Path) -> None:
    rows = list(stream_rows(str(parquet), "test"))
    assert [row.id for row in rows] == [f"84-121-{number:04d}" for number in range(10)]
    assert [row.row for row in rows] == list(range(10))
    assert rows[3] == StreamedUtterance(3, "84-121-0003", "WORD 3", "85", librispeech_row(3)["audio"]["bytes"])


def test_esb_shape(tmp_path: Path) -> None:
    audio = {"bytes": encoded(ending="WAV"), "path": None}
    row = {"audio": audio, "dataset": "ami", "text": "yeah", "id": "AMI_1", "audio_length_s": 0.2}
    file = write(tmp_path / "esb.parquet", [row], ESB)
    (only,) = stream_rows(str(file), "test")
    assert (only.id, only.text, only.speaker, only.audio) == ("AMI_1", "yeah", "AMI_1", audio["bytes"])


@pytest.mark.parametrize("kind", ["struct", "binary", "array", "path"])
def test_audio_in_other_forms(tmp_path: Path, kind: str) -> None:
    samples = np.linspace(-0.5, 0.5, 1600, dtype=np.float32)
    file = io.BytesIO()
    sf.write(file, samples, RATE, format="WAV", subtype="FLOAT")
    (tmp_path / "there.wav").write_bytes(file.getvalue())
    cell = {
        "struct": {"bytes": file.getvalue(), "path": "x.wav"},
        "binary": file.getvalue(),
        "array": {"array": samples.tolist(), "sampling_rate": RATE},
        "path": {"bytes": None, "path": "there.wav"},
    }[kind]
    (row,) = stream_rows(str(write(tmp_path / "t.parquet", [{"audio": cell, "sentence": "x"}])), "t")
    decoded, rate = sf.read(io.BytesIO(row.audio), dtype="float32")
    assert rate == RATE
    assert np.array_equal(decoded, samples)


def test_only_parquet(tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "a.flac").write_bytes(encoded())
    (tmp_path / "set" / "metadata.csv").write_text("file_name,transcription\na.flac,hello\n")
    with pytest.raises(CorpusError, match=r"set/a\.flac is not a parquet file, and only those can be streamed"):
        stream_rows(str(tmp_path / "set"), "train")


def test_several_files_in_their_order(tmp_path: Path) -> None:
    for part in range(3):
        rows = [librispeech_row(10 * part + number) for number in range(3 - part)]
        write(tmp_path / "set" / f"test-0000{part}-of-00003.parquet", rows, LIBRISPEECH)
    assert [row.text for row in stream_rows(str(tmp_path / "set"), "test")] == [
        f"WORD {number}" for number in (0, 1, 2, 10, 11, 20)
    ]


def test_rows_from_any_row_on(parquet: Path) -> None:
    everything = list(stream_rows(str(parquet), "test"))
    for skip in range(12):
        rest = list(stream_split(source.HubSplit.make(str(parquet), "test"), skip=skip))
        assert rest == everything[skip:]


def test_missing_ids_and_speakers_are_made(tmp_path: Path) -> None:
    rows = [
        {"audio": encoded(), "transcription": "x", "id": None, "client_id": "c"},
        {"audio": encoded(), "transcription": "", "id": "b", "client_id": None},
    ]
    file = str(write(tmp_path / "t.parquet", rows))
    assert [(r.id, r.speaker) for r in stream_rows(file, "dev")] == [("dev-00000000", "c"), ("b", "b")]
    numbered = stream_rows(file, "dev", columns={"id": "", "speaker": ""})
    assert [(r.id, r.speaker) for r in numbered] == [(f"dev-0000000{n}",) * 2 for n in (0, 1)]


def test_columns_that_are_named(tmp_path: Path) -> None:
    row = {"sound": encoded(), "words": "right", "text": "wrong", "number": 7, "who": "s"}
    named = {"audio": "sound", "text": "words", "id": "number", "speaker": "who"}
    (only,) = stream_rows(str(write(tmp_path / "t.parquet", [row])), "t", columns=named)
    assert (only.id, only.text, only.speaker) == ("7", "right", "s")


def test_limit_stops_early(parquet: Path) -> None:
    assert len(list(stream_rows(str(parquet), "test", limit=4))) == 4
    assert len(list(stream_rows(str(parquet), "test", limit=40))) == 10


@pytest.mark.parametrize(
    ("row", "options", "message"),
    [
        (
            {"sound": b"x", "text": "a"},
            {},
            r"no column for audio; columns there: sound, text; name one with columns: {a",
        ),
        ({"audio": b"x", "say": "a"}, {}, "no column for text; columns there: audio, say"),
        (
            {"audio": b"x", "text": "a"},
            {"columns": {"text": "txt"}},
            "no column 'txt' for text; columns there: audio, te",
        ),
        (
            {"audio": b"x", "text": "a"},
            {"columns": {"txet": "text"}},
            "unknown key 'txet'; it maps audio, text, id, spe",
        ),
        ({"audio": b"x", "text": "a"}, {"limit": 0}, "limit is 0; it must be 1 or more"),
        ({"audio": b"x", "text": None, "id": "u7"}, {}, r"row 0 \('u7'\): column 'text' holds None and no text"),
        ({"audio": b"", "text": "a", "id": "u7"}, {}, r"row 0 \('u7'\): column 'audio' holds no audio"),
        ({"audio": 3, "text": "a"}, {}, r"row 0 \('t-00000000'\): column 'audio' holds no audio"),
        (
            {"audio": {"bytes": None, "path": "no.wav"}, "text": "a"},
            {},
            r"'no.wav' cannot be read \(FileNotFoundError\)",
        ),
        ({"audio": {"array": [[0.1], [0.2]], "sampling_rate": 8000}, "text": "a"}, {}, r"the array has shape \[2, 1\]"),
    ],
)
def test_wrong_rows(tmp_path: Path, row: dict[str, Any], options: dict[str, Any], message: str) -> None:
    file = write(tmp_path / "t.parquet", [row])
    with pytest.raises(CorpusError, match=message):
        list(stream_rows(str(file), "t", **options))


def test_wrong_places(parquet: Path, tmp_path: Path) -> None:
    with pytest.raises(
        CorpusError, match=r"no folder or parquet file .*no/such/place, and 'no/such/place' is not a repos"
    ):
        stream_rows("no/such/place", "test")
    with pytest.raises(CorpusError, match=r"hub:.*set/train: no split 'train'; splits there: test"):
        stream_rows(str(parquet), "train")
    with pytest.raises(CorpusError, match=r"hub:.*set/clean/test: BuilderConfig 'clean' not found"):
        stream_rows(str(parquet), "test", subset="clean")
    (tmp_path / "empty").mkdir()
    with pytest.raises(CorpusError, match=r"empty.*; correct path, subset or split"):
        stream_rows(str(tmp_path / "empty"), "test")
    file = next(parquet.rglob("*.parquet"))
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(CorpusError, match="Parquet"):
        list(stream_rows(str(parquet), "test"))


def count_alive() -> int:
    return sum(type(thing) is StreamedUtterance for thing in gc.get_objects())


def test_memory_does_not_grow_with_the_rows(tmp_path: Path) -> None:
    audio = encoded(1.0, ending="WAV")
    file = write(
        tmp_path / "t.parquet", [{"audio": audio, "text": "x"}] * 1000, row_group_size=20, use_dictionary=False
    )
    assert file.stat().st_size > 30e6
    base, peak, alive = pa.total_allocated_bytes(), 0, -count_alive()
    for row in stream_rows(str(file), "test"):
        peak = max(peak, pa.total_allocated_bytes() - base)
        if row.row == 900:
            alive += count_alive()
    assert row.row == 999
    assert peak < 4e6
    assert alive <= 2
