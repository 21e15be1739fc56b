"""Parquet speech sets in the shapes of the Hub: rows, folders, windows; and a Hub on this machine's loopback."""

import errno
import gc
import io
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import soundfile as sf
from datasets import Audio, Dataset, Features, Value

from audio_lottery.config import CorpusConfig
from audio_lottery.data.audio import read_audio
from audio_lottery.data.corpora import read_corpus
from audio_lottery.data.corpora.hub import StreamedUtterance, load_hub, prepare_hub, source, store, stream_rows
from audio_lottery.data.corpora.hub import rows as rows_module
from audio_lottery.data.corpora.hub import stream_windows as windows
from audio_lottery.data.corpora.hub.rows import stream_split
from audio_lottery.errors import AudioError, CorpusError, RunError, StorageError
from audio_lottery.storage import is_sealed
from tests.data.loopback import REPOSITORY, dataset_server

RATE = 16_000


def encoded(seconds: float = 0.2, seed: int = 0, ending: str = "FLAC", rate: int = RATE) -> bytes:
    file = io.BytesIO()
    sf.write(file, np.random.default_rng(seed).normal(scale=0.1, size=round(seconds * rate)), rate, format=ending)
    return file.getvalue()


def librispeech_row(number: int, **other: Any) -> dict[str, Any]:
    name = f"84-121-{number:04d}"
    audio = {"bytes": encoded(0.1 * (1 + number % 5), number), "path": f"{name}.flac"}
    row = {"file": f"{name}.flac", "audio": audio, "text": f"WORD {number}", "speaker_id": 84 + number % 2}
    return row | {"chapter_id": 121, "id": name} | other


LIBRISPEECH = Features(
    file=Value("string"),
    audio=Audio(RATE),
    text=Value("string"),
    speaker_id=Value("int64"),
    chapter_id=Value("int64"),
    id=Value("string"),
)
ESB = Features(
    audio=Audio(RATE),
    dataset=Value("string"),
    text=Value("string"),
    id=Value("string"),
    audio_length_s=Value("float64"),
)


def write(path: Path, rows: list[dict[str, Any]], features: Features | None = None, **options: Any) -> Path:
    """A parquet file as ``Dataset.push_to_hub`` writes one: with ``features``, in its schema's metadata."""
    path.parent.mkdir(parents=True, exist_ok=True)
    table = pa.Table.from_pylist(rows, schema=features.arrow_schema if features else None)
    pq.write_table(table, path, **options)
    return path


@pytest.fixture
def parquet(tmp_path: Path) -> Path:
    """``data/test-00000-of-00001.parquet`` with ten rows in four row groups."""
    rows = [librispeech_row(number) for number in range(10)]
    write(tmp_path / "set" / "data" / "test-00000-of-00001.parquet", rows, LIBRISPEECH, row_group_size=3)
    return tmp_path / "set"


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("AUDIO_LOTTERY_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def hub(path: Path | str, split: str = "test", **other: Any) -> CorpusConfig:
    return CorpusConfig(corpus="hub", path=str(path), split=split, **other)


# --- rows ---------------------------------------------------------------------------------------------------------


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


# --- kept on disk -------------------------------------------------------------------------------------------------


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


# --- windows ------------------------------------------------------------------------------------------------------


@pytest.fixture
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "scratch").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "scratch"))
    return tmp_path / "scratch"


def audio_files(scratch: Path) -> int:
    return sum(file.suffix == ".flac" for file in scratch.rglob("*"))


def test_windows_hold_one_window(parquet: Path, scratch: Path) -> None:
    sizes, rows = [], []
    for window in windows(hub("set"), parquet.parent, size=4):
        assert isinstance(window, Dataset)
        assert audio_files(scratch) == len(window)
        sizes.append(len(window))
        rows += [{k: row[k] for k in ("id", "text", "speaker", "duration", "corpus")} for row in window]
        assert all(len(read_audio(row["audio"], row["start"], row["end"])) for row in window)
    assert sizes == [4, 4, 2]
    assert list(scratch.iterdir()) == []
    kept = load_hub(hub("set"), parquet.parent)
    assert rows == [{k: row[k] for k in ("id", "text", "speaker", "duration", "corpus")} for row in kept]


def test_windows_are_removed_when_left(parquet: Path, scratch: Path) -> None:
    stream: Iterator[Dataset] = windows(hub("set", text="lower"), parquet.parent, size=4)
    assert next(stream)["text"][0] == "word 0"
    assert audio_files(scratch) == 4
    stream.close()  # type: ignore[attr-defined]
    assert list(scratch.iterdir()) == []


def test_windows_of_nothing_and_repeated_ids(parquet: Path, tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match="a window of 0 utterances is none"):
        windows(hub("set"), parquet.parent, size=0)
    file = write(tmp_path / "t.parquet", [librispeech_row(n % 3) for n in range(6)], LIBRISPEECH)
    stream = windows(hub(file), tmp_path, size=3)
    assert len(next(stream)) == 3
    with pytest.raises(CorpusError, match=r"row 3: utterance id '84-121-0000' occurs twice; .* \{id: ''\}"):
        next(stream)


# --- the Hub ------------------------------------------------------------------------------------------------------

CLIENT = """
import json, sys
from pathlib import Path
from audio_lottery.config import CorpusConfig
from audio_lottery.data.corpora.hub import load_hub, prepare_hub, stream_rows, stream_windows
from audio_lottery.errors import AudioLotteryError

def line(call):
    try:
        return repr(call())
    except AudioLotteryError as error:
        return f"{type(error).__name__} {error}"

repo, out = sys.argv[1], Path(sys.argv[2])
corpus = CorpusConfig(corpus="hub", path=repo, split="test", subset="clean", limit=3)
print(json.dumps({
    "rows": [(r.id, r.text, r.speaker, len(r.audio)) for r in stream_rows(repo, "test", subset="clean", limit=3)],
    "prepared": prepare_hub(repo, "test", out, subset="clean", limit=2, revision="main").read_text(),
    "origin": json.loads((out / "source.json").read_text())["commit"],
    "again": line(lambda: prepare_hub(repo, "test", out, subset="clean", limit=2, revision="main").name),
    "loaded": load_hub(corpus, out)["corpus"][:],
    "windows": [len(w) for w in stream_windows(corpus, out, size=2)],
    "split": line(lambda: stream_rows(repo, "dev", subset="clean")),
    "subset": line(lambda: stream_rows(repo, "test", subset="cleen")),
    "revision": line(lambda: stream_rows(repo, "test", subset="clean", revision="v9")),
    "missing": line(lambda: stream_rows("nobody/nothing", "test")),
    "gated": line(lambda: stream_rows("someone/gated", "test")),
}))
"""


@pytest.mark.slow
def test_a_hub_on_the_loopback(tmp_path: Path) -> None:
    audio = encoded(30.0, ending="WAV")  # about 1 MB
    served = tmp_path / "served"
    rows = [librispeech_row(n, audio={"bytes": audio, "path": f"{n}.wav"}) for n in range(60)]
    file = write(served / "clean" / "test" / "0000.parquet", rows, LIBRISPEECH, row_group_size=10, use_dictionary=False,
                 compression="none")  # fmt: skip
    (served / "README.md").write_text(
        "---\nconfigs:\n- config_name: clean\n  data_files:\n  - split: test\n    path: clean/test/*.parquet\n---\n"
    )
    assert file.stat().st_size > 50e6
    with dataset_server(served) as (address, log):
        done = subprocess.run(
            [sys.executable, "-c", CLIENT, REPOSITORY, str(tmp_path / "out")],
            env=os.environ
            | {"HF_ENDPOINT": address, "HF_HOME": str(tmp_path / "hf"), "HF_HUB_OFFLINE": "0", "OMP_NUM_THREADS": "1"}
            | {
                "HF_TOKEN": "hf_secretsecretsecret",
                "PYTHONPATH": str(Path(__file__).parents[2]),
                "CUDA_VISIBLE_DEVICES": "",
            },
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
    assert done.returncode == 0, done.stderr
    assert "hf_secret" not in done.stdout + done.stderr
    got = json.loads(done.stdout)
    assert got["rows"] == [[f"84-121-{n:04d}", f"WORD {n}", str(84 + n % 2), len(audio)] for n in range(3)]
    lines = [json.loads(line) for line in got["prepared"].splitlines()]
    assert [(line["id"], line["duration"]) for line in lines] == [("84-121-0000", 30.0), ("84-121-0001", 30.0)]
    assert got["origin"] == log.commit
    assert got["again"] == "'manifest.jsonl'"
    assert got["loaded"] == [f"hub:{REPOSITORY}/clean/test"] * 3
    assert got["windows"] == [2, 1]
    assert got["split"] == f"CorpusError hub:{REPOSITORY}/clean/dev: no split 'dev'; splits there: test"
    assert "BuilderConfig 'cleen' not found. Available: ['clean']" in got["subset"]
    assert got["revision"].endswith(f"{REPOSITORY} has no revision 'v9'; name a branch, tag or commit that it has")
    assert got["missing"].endswith(
        "the Hub has no dataset nobody/nothing; check the name; a private one needs `hf auth login`"
    )
    assert got["gated"].endswith("someone/gated is gated; accept its terms on the Hub, then `hf auth login`")
    assert all(
        "\n" not in got[key] and len(got[key]) < 500 for key in ("split", "subset", "revision", "missing", "gated")
    )
    # Four streams of at most three rows: each fetches a piece or two of about 9 MB, and none the file.
    assert log.parquet_bytes < 4 * 20e6


def test_unreachable_hub_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    class Api:
        def dataset_info(self, *_: Any, **__: Any) -> None:
            raise ConnectionError("no route to https://host/file?Signature=abc with hf_token1\nsecond line")

    monkeypatch.setattr(source.huggingface_hub, "HfApi", Api)
    with pytest.raises(CorpusError) as caught:
        stream_rows("someone/speech", "test")
    assert str(caught.value) == (
        "hub:someone/speech/test: no route to https://host/file with second line; check the network and HF_ENDPOINT, "
        "then run the command again"
    )


def test_a_dataset_of_the_hub_cannot_name_files_of_this_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = tmp_path / "secret.wav"
    secret.write_bytes(encoded())
    file = write(tmp_path / "t.parquet", [{"audio": {"bytes": None, "path": str(secret)}, "text": "x"}])
    monkeypatch.setattr(rows_module, "find_files", lambda *_: [str(file)])
    with pytest.raises(CorpusError, match="holds no bytes, only the path"):
        list(stream_rows("someone/speech", "test"))


def test_a_folder_of_the_same_name_is_not_taken_for_the_repository(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "someone" / "speech").mkdir(parents=True)
    (tmp_path / "root").mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CorpusError, match=r"not a folder in .*root, but one in the working directory"):
        load_hub(hub("someone/speech"), tmp_path / "root")
