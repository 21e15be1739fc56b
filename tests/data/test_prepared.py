"""Prepared corpora: named by split, memory-mapped, and refused when anything about them is wrong."""

import json
import os
from pathlib import Path

import pytest

from audio_lottery.config import CorpusConfig
from audio_lottery.data.corpora.load import load_manifest
from audio_lottery.data.corpora.prepared import load_prepared
from audio_lottery.data.fetch.speech import prepare_split
from audio_lottery.data.manifest import iterate
from audio_lottery.errors import CorpusError
from audio_lottery.storage import SEAL
from tests.data.fetch.corpora import rows, write_wav


@pytest.fixture
def out(tmp_path: Path) -> Path:
    folder = tmp_path / "out"
    folder.mkdir()
    make(folder, "librispeech", "dev-clean", 3)
    make(folder, "jsonl", "train", 2)
    return folder


def make(out: Path, corpus: str, split: str, count: int) -> None:
    files = [write_wav(out / "audio" / f"{corpus}-{split}-{number}.wav") for number in range(count)]
    prepare_split(corpus, split, lambda: rows(files, f"{corpus}/{split}"), {"folder": "here"}, out, False)


def damage(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def test_by_split_and_by_corpus_and_split(out: Path) -> None:
    manifest = load_prepared(out, "dev-clean")
    assert manifest["id"][:] == [f"librispeech-dev-clean-{number}" for number in range(3)]
    assert manifest.cache_files == [{"filename": str(out / "manifests" / "librispeech-dev-clean" / "manifest.arrow")}]
    assert next(iterate(load_prepared(out, "jsonl-train"))).corpus == "jsonl/train"


def test_from_a_configuration_with_text_and_limit(out: Path) -> None:
    corpora = [
        CorpusConfig("prepared", "dev-clean", "out", limit=2, text="lower"),
        CorpusConfig("prepared", "train", str(out)),
    ]
    manifest = load_manifest(corpora, out.parent)
    assert manifest["id"][:] == [f"librispeech-dev-clean-{n}" for n in (0, 2)] + [f"jsonl-train-{n}" for n in (0, 1)]
    assert manifest["text"][:] == ["some words", "some words", "SOME WORDS", "SOME WORDS"]
    with pytest.raises(CorpusError, match=r"share utterance ids \('jsonl-train-0'\); name each split once"):
        load_manifest([corpora[1], corpora[1]], out)


def test_unknown_split_and_folder(out: Path) -> None:
    with pytest.raises(CorpusError, match="no such split was prepared; there are: jsonl-train, librispeech-dev-clean"):
        load_prepared(out, "test-clean")
    with pytest.raises(CorpusError, match=r"no prepared manifests in .*audio; make them with `audio-lottery prep"):
        load_prepared(out / "audio", "test-clean")
    make(out, "tedlium", "train", 1)
    with pytest.raises(CorpusError, match="several corpora have this split; name one: jsonl-train, tedlium-train"):
        load_prepared(out, "train")


@pytest.mark.parametrize("name", ["manifest.arrow", "manifest.json"])
def test_damaged_manifest(out: Path, name: str) -> None:
    damage(out / "manifests" / "jsonl-train" / name)
    with pytest.raises(CorpusError, match=r"does not hold the bytes that were written; remove .*jsonl-train"):
        load_prepared(out, "jsonl-train")


def test_missing_file_and_missing_mark(out: Path) -> None:
    folder = out / "manifests" / "jsonl-train"
    (folder / "manifest.arrow").unlink()
    with pytest.raises(CorpusError, match=r"manifest\.arrow is missing; remove"):
        load_prepared(out, "train")
    (folder / SEAL).unlink()
    with pytest.raises(CorpusError, match="no such split was prepared; there are: librispeech-dev-clean"):
        load_prepared(out, "train")


def test_damaged_seal(out: Path) -> None:
    (out / "manifests" / "jsonl-train" / SEAL).write_text("{}")
    with pytest.raises(CorpusError, match=r"remove .*jsonl-train and run `audio-lottery prepare` again"):
        load_prepared(out, "jsonl-train")


def test_folder_that_was_moved(out: Path) -> None:
    moved = out.with_name("elsewhere")
    os.rename(out, moved)
    with pytest.raises(CorpusError, match=r"elsewhere was prepared as .*out, and its paths start there; run the same"):
        load_prepared(moved, "dev-clean")
    out.symlink_to(moved)
    assert len(load_prepared(moved, "dev-clean")) == 3  # the old name still leads there


def test_a_replacement_that_a_kill_interrupted_is_undone(out: Path) -> None:
    folder = out / "manifests" / "jsonl-train"
    os.rename(folder, folder.with_name(".jsonl-train.old"))
    assert len(load_prepared(out, "train")) == 2


def test_summary_says_what_is_there(out: Path) -> None:
    summary = json.loads((out / "manifests" / "librispeech-dev-clean" / "manifest.json").read_text())
    assert (summary["utterances"], summary["seconds"], summary["speakers"]) == (3, 1.5, 1)
