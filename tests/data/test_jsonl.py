"""JSON-lines manifests with NeMo's names: everything optional is made up for, everything wrong has a line number."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile as sf

from audio_lottery.data.audio import read_audio
from audio_lottery.data.corpora import read_corpus
from audio_lottery.errors import AudioError, CorpusError

RATE = 16_000
GOOD = {"audio_filepath": "audio/a.flac", "text": "fine"}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "audio").mkdir()
    samples = np.random.default_rng(0).normal(scale=0.1, size=2 * RATE).astype(np.float32)
    for name in "ab":
        sf.write(tmp_path / "audio" / f"{name}.flac", samples, RATE)
    return tmp_path


def write(root: Path, *rows: dict[str, Any] | str, name: str = "train.jsonl") -> None:
    lines = [row if isinstance(row, str) else json.dumps(row, ensure_ascii=False) for row in rows]
    (root / name).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def test_round_trip(root: Path) -> None:
    write(
        root,
        {
            "id": "z",
            "audio_filepath": "audio/a.flac",
            "text": "naïve\u2028lines",
            "duration": 2.0,
            "speaker": 7,
            "x": 1,
        },
        {"audio_filepath": str(root / "audio" / "b.flac"), "text": "whole file"},
        "",
        {"audio_filepath": "audio/b.flac", "text": "a piece", "offset": 0.5, "duration": 1.0},
        {"audio_filepath": "audio/b.flac", "text": "the rest", "offset": 1.5, "speaker": None},
        {"audio_filepath": "audio/a.flac", "text": "", "duration": None, "offset": None},
    )
    corpus = read_corpus("jsonl", root, "train")
    columns = ("id", "start", "end", "text", "speaker")
    assert [tuple(row[name] for name in columns) for row in corpus] == [
        ("z", 0.0, 2.0, "naïve\u2028lines", "7"),
        ("b", 0.0, 2.0, "whole file", "b"),
        ("b-00000500", 0.5, 1.5, "a piece", "b-00000500"),
        ("b-00001500", 1.5, 2.0, "the rest", "b-00001500"),
        ("a", 0.0, 2.0, "", "a"),
    ]
    assert set(corpus["corpus"]) == {"jsonl/train"}
    for row in corpus:
        assert Path(row["audio"]).parent == root / "audio"
        assert row["duration"] == row["end"] - row["start"]
        assert len(read_audio(row["audio"], row["start"], row["end"])) == round(row["duration"] * RATE)


def test_split_with_ending_and_in_a_subfolder(root: Path) -> None:
    write(root, GOOD)
    (root / "more").mkdir()
    write(root, {**GOOD, "audio_filepath": "../audio/a.flac"}, name="more/dev.json")
    assert read_corpus("jsonl", root, "train.jsonl")["corpus"][:] == ["jsonl/train.jsonl"]
    assert read_corpus("jsonl", root, "more/dev")["audio"][:] == [str(root / "audio" / "a.flac")]
    with pytest.raises(CorpusError, match=r"jsonl/test: no file .*test\.jsonl; manifests there: train\.jsonl"):
        read_corpus("jsonl", root, "test")


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ('{"audio_filepath": "audio/a.flac"', "not valid JSON"),
        ("[1]", "expected a JSON object, got list"),
        ({"audio_filepath": "audio/a.flac"}, "missing key 'text'; keys there: audio_filepath"),
        ({"text": "x"}, "missing key 'audio_filepath'; keys there: text"),
        ({**GOOD, "text": None}, "'text' must be a string, got None"),
        ({**GOOD, "audio_filepath": 3}, "'audio_filepath' must be a string, got 3"),
        ({**GOOD, "audio_filepath": "audio/none.flac"}, r"missing audio file .*audio/none\.flac"),
        ({**GOOD, "duration": 0}, "'duration' is 0 s; it must be longer than zero"),
        ({**GOOD, "duration": -1.5}, "'duration' is -1.5 s; it must be longer than zero"),
        ({**GOOD, "offset": 2.0}, "'duration' is 0 s; it must be longer than zero"),
        ({**GOOD, "duration": "2.0"}, "'duration' must be a number of seconds, got '2.0'"),
        ({**GOOD, "duration": float("nan")}, "'duration' must be a number of seconds, got nan"),
        ({**GOOD, "offset": True}, "'offset' must be a number of seconds, got True"),
        ({**GOOD, "offset": -0.1}, "'offset' is -0.1 s; it must not be negative"),
    ],
)
def test_wrong_line(root: Path, row: dict[str, Any] | str, message: str) -> None:
    write(root, {**GOOD, "id": "first"}, "", row)
    with pytest.raises(CorpusError, match=rf"train\.jsonl:3: {message}"):
        read_corpus("jsonl", root, "train")


def test_same_id_twice(root: Path) -> None:
    write(root, GOOD, GOOD)
    with pytest.raises(CorpusError, match="utterance id 'a' occurs twice"):
        read_corpus("jsonl", root, "train")


def test_duration_rounded_up_is_decoded_and_duration_made_up_is_not(root: Path) -> None:
    write(root, {**GOOD, "id": "rounded", "duration": 2.04}, {**GOOD, "id": "wrong", "duration": 2.4})
    rounded, wrong = read_corpus("jsonl", root, "train")
    assert len(read_audio(rounded["audio"], rounded["start"], rounded["end"])) == 2 * RATE
    with pytest.raises(
        AudioError, match=r"a\.flac \(utterance 'wrong'\): asked for 0 s to 2.4 s, but the file ends at"
    ):
        read_audio(wrong["audio"], wrong["start"], wrong["end"], utterance_id=wrong["id"])
