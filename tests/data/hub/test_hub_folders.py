"""Parquet speech sets kept on disk as JSON lines: prepared, resumed, refused, loaded."""

import errno
import shutil
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from audio_lottery.data.audio import read_audio
from audio_lottery.data.corpora import read_corpus
from audio_lottery.data.corpora.hub import StreamedUtterance, load_hub, prepare_hub, store
from audio_lottery.data.corpora.hub import stream_windows as windows
from audio_lottery.errors import AudioError, CorpusError, RunError, StorageError
from audio_lottery.storage import is_sealed
from tests.data.hub.sets import LIBRISPEECH, encoded, hub, librispeech_row, write


def test_prepare_writes_what_the_jsonl_reader_reads(parquet: Path, tmp_path: Path) -> None:
    manifest = prepare_hub(str(parquet), "test", tmp_path / "out")
    assert manifest == tmp_path / "out" / "manifest.jsonl"
    assert is_sealed(tmp_path / "out")
    corpus = read_corpus("jsonl", tmp_path / "out", "manifest")
    assert list(corpus["id"]) == [f"84-121-{number:04d}" for number in range(10)]
    for number, row in enumerate(corpus):
        original = librispeech_row(number)
        assert Path(row["audio"]).read_bytes() == original["audio"]["bytes"]
        assert Path(row["audio"]).suffix == ".flac"
        assert row["duration"] == pytest.approx(0.1 * (1 + number % 5))
        assert (row["text"], row["speaker"]) == (original["text"], str(original["speaker_id"]))
    moved = shutil.move(tmp_path / "out", tmp_path / "moved")
    assert len(read_corpus("jsonl", moved, "manifest")) == 10


def test_wild_ids_stay_inside_the_folder(tmp_path: Path) -> None:
    ids = ["../../up", "/etc/passwd", "a\0b", "x" * 5000, "a/b", "a b", "a?b", "..", "", "é/中", "con.", "-rf"]
    rows = [{"audio": encoded(seed=n), "text": name, "id": name} for n, name in enumerate(ids)]
    out = tmp_path / "deep" / "out"
    prepare_hub(str(write(tmp_path / "t.parquet", rows)), "t", out)
    corpus = read_corpus("jsonl", out, "manifest")
    assert sorted(corpus["id"]) == sorted(name or "t-00000008" for name in ids)
    assert len(set(corpus["audio"])) == len(ids)
    for row in corpus:
        assert Path(row["audio"]).resolve().is_relative_to(out.resolve() / "audio")
        assert Path(row["audio"]).read_bytes() == encoded(seed=ids.index(row["text"]))


def test_formats_are_named_by_what_they_are(tmp_path: Path) -> None:
    endings = ["FLAC", "WAV", "MP3", "OGG", "NIST"]
    rows = [
        {"audio": {"bytes": encoded(1.0, ending=ending), "path": "lie.mp4"}, "text": ending, "id": ending}
        for ending in endings
    ]
    prepare_hub(str(write(tmp_path / "t.parquet", rows)), "t", tmp_path / "out")
    corpus = read_corpus("jsonl", tmp_path / "out", "manifest")
    suffixes = {row["text"]: Path(row["audio"]).suffix for row in corpus}
    assert suffixes == {"FLAC": ".flac", "WAV": ".wav", "MP3": ".mp3", "OGG": ".ogg", "NIST": ".sph"}
    assert all(len(read_audio(row["audio"], row["start"], row["end"])) for row in corpus)


def test_prepare_goes_on_after_a_kill(parquet: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = {p.name: p.read_bytes() for p in prepare_hub(str(parquet), "test", tmp_path / "w").parent.rglob("*.*")
             if p.is_file()}  # fmt: skip
    written: list[int] = []
    real = store._write_audio

    def dies(row: StreamedUtterance, *rest: Any) -> Any:
        if len(written) == 6:
            raise KeyboardInterrupt
        written.append(row.row)
        return real(row, *rest)

    monkeypatch.setattr(store, "_write_audio", dies)
    with pytest.raises(KeyboardInterrupt):
        prepare_hub(str(parquet), "test", tmp_path / "out")
    assert not (tmp_path / "out").exists()
    work = tmp_path / ".out.partial"
    with (work / "manifest.jsonl").open("a") as journal:
        journal.write('{"audio_filepath": "audio/00000/00000006')  # the line that was being written
    last = next(work.rglob("00000005_*"))
    last.write_bytes(last.read_bytes()[:100])  # what a power failure leaves
    written.clear()
    monkeypatch.setattr(store, "_write_audio", lambda row, *rest: (written.append(row.row), real(row, *rest))[1])
    prepare_hub(str(parquet), "test", tmp_path / "out")
    assert written == [5, 6, 7, 8, 9]
    assert {p.name: p.read_bytes() for p in (tmp_path / "out").rglob("*.*") if p.is_file()} == whole
    assert not work.exists()


def test_prepare_again_does_nothing_or_says_what_differs(parquet: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    prepare_hub(str(parquet), "test", out, limit=2)
    before = {file: file.stat().st_mtime_ns for file in out.rglob("*")}
    prepare_hub(str(parquet), "test", out, limit=2)
    assert {file: file.stat().st_mtime_ns for file in out.rglob("*")} == before
    with pytest.raises(CorpusError, match=r"out was prepared with another limit; choose another folder"):
        prepare_hub(str(parquet), "test", out, limit=3)
    with (out / "manifest.jsonl").open("a") as manifest:
        manifest.write("{}\n")
    with pytest.raises(RunError, match=r"manifest\.jsonl has \d+ bytes where .*remove .*out and run"):
        prepare_hub(str(parquet), "test", out, limit=2)


def test_prepare_leaves_other_folders_alone(parquet: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").touch()
    with pytest.raises(CorpusError, match="mine holds other files; choose a new or empty folder"):
        prepare_hub(str(parquet), "test", tmp_path / "mine")
    assert [file.name for file in (tmp_path / "mine").iterdir()] == ["thesis.tex"]


@pytest.mark.parametrize(
    ("audio", "message"),
    [
        (b"no audio at all", r"row 1 \('bad'\): its audio is damaged: cannot be decoded"),
        (
            encoded(1.0, ending="WAV")[:9000],
            r"row 1 \('bad'\): its audio is damaged: truncated: 8956 bytes of audio of",
        ),
        (encoded(0.0, ending="WAV"), r"row 1 \('bad'\): its audio is damaged: holds no audio"),
    ],
)
def test_damaged_audio_names_the_row(tmp_path: Path, audio: bytes, message: str) -> None:
    rows = [{"audio": encoded(), "text": "a", "id": "good"}, {"audio": audio, "text": "b", "id": "bad"}]
    file = write(tmp_path / "t.parquet", rows)
    with pytest.raises(AudioError, match=message):
        prepare_hub(str(file), "t", tmp_path / "out")
    assert not (tmp_path / "out").exists()
    with pytest.raises(AudioError, match=message):
        list(windows(hub(file), tmp_path))


def test_no_rows(tmp_path: Path) -> None:
    table = pa.table({"audio": pa.array([], pa.binary()), "text": pa.array([], pa.string())})
    pq.write_table(table, tmp_path / "t.parquet")
    for attempt in (
        lambda: prepare_hub(str(tmp_path / "t.parquet"), "t", tmp_path / "out"),
        lambda: list(windows(hub(tmp_path / "t.parquet"), tmp_path)),
    ):
        with pytest.raises(CorpusError, match="has no rows; correct the split or the files"):
            attempt()


def test_full_disk(parquet: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(StorageError, match="no space left"):
        prepare_hub(str(parquet), "test", tmp_path / "out")


def test_load_keeps_and_names(parquet: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = hub("set", limit=7)
    manifest = load_hub(config, parquet.parent)
    assert set(manifest["corpus"]) == {"hub:set/test"}
    assert len(manifest) == 7
    assert all(Path(audio).is_relative_to(cache / "hub") for audio in manifest["audio"])
    monkeypatch.setattr(store, "stream_split", None)  # the second time needs no source
    assert load_hub(config, parquet.parent).to_dict() == manifest.to_dict()


def test_load_notices_changed_files(parquet: Path) -> None:
    assert len(load_hub(hub("set"), parquet.parent)) == 10
    write(next(parquet.rglob("*.parquet")), [librispeech_row(3)], LIBRISPEECH)
    assert list(load_hub(hub("set"), parquet.parent)["id"]) == ["84-121-0003"]


def test_load_refuses_repeated_ids(tmp_path: Path) -> None:
    file = write(tmp_path / "t.parquet", [librispeech_row(1), librispeech_row(1)], LIBRISPEECH)
    with pytest.raises(CorpusError, match="'84-121-0001' occurs twice"):
        load_hub(hub(file), tmp_path)
    with pytest.raises(CorpusError, match="needs path"):
        load_hub(hub(""), tmp_path)
