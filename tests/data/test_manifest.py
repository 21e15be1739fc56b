"""The manifest: rows in order, ids unique, on disk whole or absent, and memory that does not grow with it."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from datasets import concatenate_datasets
from hypothesis import given, settings
from hypothesis import strategies as st

from audio_lottery.data import manifest as module
from audio_lottery.data.manifest import (
    FEATURES,
    HashFile,
    Utterance,
    build_manifest,
    check_unique_ids,
    iterate,
    total_seconds,
)
from audio_lottery.errors import CorpusError, StorageError


def row(identity: str, start: float = 0.0, end: float = 1.5) -> Utterance:
    return Utterance(identity, "/a.flac", start, end, "TEXT", "s", end - start, "x/y")


def test_rows_come_back_in_order(tmp_path: Path) -> None:
    rows = [row("b"), row("a", 0.25), row("é\u2028", 1.0)]
    manifest = build_manifest(iter(rows), "x/y", tmp_path / "deep" / "m.arrow")
    assert manifest.features == FEATURES
    assert list(iterate(manifest, block=2)) == rows
    assert total_seconds(manifest) == 1.5 + 1.25 + 0.5
    assert [file.name for file in (tmp_path / "deep").iterdir()] == ["m.arrow"]
    assert manifest.cache_files == [{"filename": str(tmp_path / "deep" / "m.arrow")}]


def test_record_batches_are_large() -> None:
    """Every one costs kilobytes of memory in each process that maps the file."""
    manifest = build_manifest((row(f"u{number}") for number in range(25_000)), "x/y")
    assert [len(batch) for batch in manifest.data.to_batches()] == [10_000, 10_000, 5_000]


def test_more_rows_than_one_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_BATCH", 3)
    rows = [row(f"u{number}") for number in range(10)]
    manifest = build_manifest(rows, "x/y")
    assert list(iterate(manifest)) == rows
    assert list(iterate(manifest.select([7, 2]))) == [rows[7], rows[2]]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], "x/y: no utterances found"),
        ([row("a"), row("b"), row("a")], "x/y: utterance id 'a' occurs twice"),
        ([row("a", 1.0, 1.0)], r"x/y: utterance 'a' runs from 1\.0 s to 1\.0 s of /a\.flac"),
        ([row("a", -0.5)], r"utterance 'a' runs from -0\.5 s"),
    ],
)
def test_refused_rows_leave_nothing(tmp_path: Path, rows: list[Utterance], message: str) -> None:
    with pytest.raises(CorpusError, match=message):
        build_manifest(rows, "x/y", tmp_path / "m.arrow")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("column", ["id", "audio", "text", "speaker"])
def test_a_value_that_is_no_text(tmp_path: Path, column: str) -> None:
    rows = [row("a"), replace(row("b"), **{column: "x\udcff"})]
    with pytest.raises(CorpusError, match=rf"x/y: utterance '.*': its {column} 'x\?' cannot be written as UTF-8"):
        build_manifest(rows, "x/y", tmp_path / "m.arrow")
    assert list(tmp_path.iterdir()) == []


def test_errors_of_the_reader_and_of_the_disk_are_told_apart(tmp_path: Path) -> None:
    def unreadable() -> Iterator[Utterance]:
        yield row("a")
        raise PermissionError(13, "Permission denied", "/corpus/secret")

    with pytest.raises(CorpusError, match=r"x/y: /corpus/secret cannot be read \(Permission denied\)"):
        build_manifest(unreadable(), "x/y", tmp_path / "m.arrow")
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="cannot write"):
        build_manifest([row("a")], "x/y", tmp_path / "file" / "m.arrow")


def test_ids_of_joined_manifests() -> None:
    first, second = build_manifest([row("a"), row("b")], "1"), build_manifest([row("c"), row("b")], "2")
    check_unique_ids(first, str)
    with pytest.raises(CorpusError, match="again: b"):
        check_unique_ids(concatenate_datasets([first, second]), lambda identity: f"again: {identity}")


def test_equal_hashes_are_only_a_suspicion(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_hash", lambda text: len(text).to_bytes(8, "little"))
    monkeypatch.setattr(module, "_SUSPECTS", 1)
    rows = [row(name) for name in ("a", "b", "c", "aa", "bb", "aaa", "bbb")]
    assert list(iterate(build_manifest(rows, "x/y"))) == rows
    with pytest.raises(CorpusError, match="'bbb' occurs twice"):
        build_manifest([*rows, row("bbb")], "x/y")


@given(st.lists(st.text(max_size=2)), st.integers(1, 5))
@settings(max_examples=60)
def test_hash_file_counts_like_a_set(texts: list[str], block: int) -> None:
    with pytest.MonkeyPatch.context() as patch, HashFile(Path(os.sep, "tmp")) as hashes:
        patch.setattr(module, "_BLOCK", block)
        hashes.extend(texts[:3])
        assert hashes.distinct() == len(set(texts[:3]))
        hashes.extend(texts[3:])
        assert hashes.distinct() == len(set(texts))
        assert len(list(hashes.repeated())) == len(texts) - len(set(texts))


@pytest.mark.slow
def test_scratch_files_end_with_their_process(tmp_path: Path) -> None:
    script = """
import os
from audio_lottery.data.manifest import Utterance, build_manifest
manifest = build_manifest([Utterance("a", "/a", 0.0, 1.0, "", "s", 1.0, "x")], "x")
if (child := os.fork()) == 0:
    raise SystemExit  # the parent's files must survive this
os.waitpid(child, 0)
assert manifest[0]["id"] == "a" and os.path.exists(manifest.cache_files[0]["filename"])
"""
    environment = os.environ | {"TMPDIR": str(tmp_path)}
    subprocess.run([sys.executable, "-c", script], check=True, env=environment)
    assert not [path for path in tmp_path.iterdir() if path.name.startswith("audio-lottery")]


_MEASURE = """
import json, re, sys
from pathlib import Path
from audio_lottery.data.manifest import Utterance, build_manifest, check_unique_ids, total_seconds

def anonymous():
    return int(re.search(r"RssAnon:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) / 1024

count, peak = int(sys.argv[1]), 0.0

def rows():
    global peak
    for number in range(count):
        if number % 20_000 == 0:
            peak = max(peak, anonymous())
        yield Utterance(f"u{number}", "/a.flac", 0.0, 2.0, "SOME WORDS OF A TRANSCRIPT", f"s{number}", 2.0, "x/y")

manifest = build_manifest(rows(), "x/y", Path(sys.argv[2]))
built = anonymous()
check_unique_ids(manifest, str)
seconds = total_seconds(manifest)
print(json.dumps({"rows": len(manifest), "seconds": seconds, "peak": max(peak, built, anonymous())}))
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux's accounting of anonymous memory")
def test_memory_does_not_grow_with_the_manifest(tmp_path: Path) -> None:
    def measure(rows: int) -> float:
        command = [sys.executable, "-c", _MEASURE, str(rows), str(tmp_path / f"{rows}.arrow")]
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        result = json.loads(subprocess.run(command, check=True, capture_output=True, env=environment).stdout)
        assert (result["rows"], result["seconds"]) == (rows, 2.0 * rows)
        return result["peak"]

    assert measure(1_000_000) - measure(10_000) <= 30  # MiB; a list of a million rows takes over 500
