"""JSON-lines manifests with NeMo's names: everything optional is made up for, everything wrong has a line number."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile as sf
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

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
        ({**GOOD, "offset": float("inf")}, "'offset' must be a number of seconds, got inf"),
        ({**GOOD, "duration": 1e300}, r"'duration' must be a number of seconds, got 1e\+300; at most 1e\+09"),
        ({**GOOD, "duration": 10**400}, r"'duration' must be a number of seconds, got 10{79}; at most 1e\+09"),
        ('{"audio_filepath": "audio/a.flac", "text": "x", "duration": 1' + "0" * 5000 + "}", "not valid JSON"),
        ({**GOOD, "duration": 1e-9, "offset": 1e9}, "'duration' is 1e-09 s; it must be longer than zero"),
        ({**GOOD, "duration": [1]}, r"'duration' must be a number of seconds, got \[1\]"),
        ('{"audio_filepath": "audio/a.flac", "text": "hi \\ud83d"}', r"'text' holds U\+D83D, half of a surrogate pair"),
        ('{"audio_filepath": "audio/\\udcff", "text": ""}', r"'audio_filepath' holds U\+DCFF, half of a surrogate"),
        ('{"audio_filepath": "audio/a.flac", "text": "", "id": "\\ud83d"}', r"'id' holds U\+D83D, half of"),
        ('{"audio_filepath": "audio/a.flac", "text": "", "speaker": "\\ud83d"}', r"'speaker' holds U\+D83D, half"),
        ({**GOOD, "audio_filepath": "audio/a.flac\0"}, r"'audio_filepath' holds U\+0000"),
        ({**GOOD, "audio_filepath": "a" * 5000}, r"audio file .* cannot be read \(File name too long\)"),
        ({**GOOD, "audio_filepath": "audio"}, "missing audio file .*/audio$"),
        ({**GOOD, "audio_filepath": ""}, "missing audio file "),
        ({**GOOD, "id": ["a"]}, r"'id' must be a string or a number, got \['a'\]"),
        ({**GOOD, "speaker": True}, "'speaker' must be a string or a number, got True"),
        ('{"text": "a", "audio_filepath": "audio/a.flac", "text": "b"}', "key 'text' occurs twice; keep one"),
        ("[" * 100_000, r"not valid JSON \(nested too deeply\)"),
        ('{"x": ' + '{"x": ' * 100_000, r"not valid JSON \(nested too deeply\)"),
        ("\ufeff{}", "not valid JSON"),
        ("\0" * 20, "not valid JSON"),
        ("NaN", "expected a JSON object, got float"),
    ],
)
def test_wrong_line(root: Path, row: dict[str, Any] | str, message: str) -> None:
    write(root, {**GOOD, "id": "first"}, "", row)
    with pytest.raises(CorpusError, match=rf"train\.jsonl:3: {message}"):
        read_corpus("jsonl", root, "train")


def test_a_line_that_is_not_utf8(root: Path) -> None:
    (root / "train.jsonl").write_bytes(json.dumps(GOOD).encode() + b'\n{"text": "caf\xe9"}\n')
    with pytest.raises(CorpusError, match=r"train\.jsonl: cannot be read as UTF-8 text \(line 2: .* byte 0xe9"):
        read_corpus("jsonl", root, "train")


def test_byte_order_mark_windows_line_ends_and_keys_that_are_not_read(root: Path) -> None:
    other = '"more": {"x": 1, "x": 2}, "\\ud83d": 1'
    line = f'{{"audio_filepath": "audio/a.flac", "text": "f\\u00fcr \\ud83d\\ude00", "id": 7, "speaker": "", {other}}}'
    (root / "train.jsonl").write_bytes(b"\xef\xbb\xbf" + line.encode() + b"\r\n\r\n")
    [row] = read_corpus("jsonl", root, "train")
    assert (row["id"], row["text"], row["speaker"], row["end"]) == ("7", "für 😀", "", 2.0)


# Rows as (file, offset, id), and the ids that they get.
IDS = [
    ([("audio/a.flac", None, None), ("audio/b.flac", None, None)], ["a", "b"]),
    ([("audio/a.flac", None, None), ("more/a.flac", None, None)], ["audio/a", "more/a"]),
    ([("audio/a.flac", 0, None), ("audio/a.flac", 1, None)], ["a-00000000", "a-00001000"]),
    ([("audio/a.flac", 0, None), ("more/a.flac", 0, None)], ["audio/a-00000000", "more/a-00000000"]),
    ([("audio/a.flac", 0, None), ("more/a.flac", 1, None)], ["a-00000000", "a-00001000"]),
    ([("audio/a.flac", None, None), ("more/a.flac", None, "x")], ["a", "x"]),
    ([("audio/a.flac", None, ""), ("more/a.flac", None, 5)], ["a", "5"]),
    (
        [("audio/a.flac", None, None), ("more/a.flac", None, None), ("audio/b.flac", 1, None)],
        ["audio/a", "more/a", "audio/b-00001000"],
    ),
    ([("audio/../audio/a.flac", 0, None), ("audio/a.flac", 1, None)], ["a-00000000", "a-00001000"]),
]


@pytest.mark.parametrize("absolute", [False, True])
@pytest.mark.parametrize(("rows", "expected"), IDS)
def test_ids_that_are_not_given(root: Path, rows: list[tuple[str, Any, Any]], expected: list[str], absolute: bool):
    (root / "more").mkdir()
    (root / "more" / "a.flac").write_bytes((root / "audio" / "a.flac").read_bytes())
    write(
        root,
        *(
            {"audio_filepath": str(root / name) if absolute else name, "text": "", "offset": offset, "id": identity}
            for name, offset, identity in rows
        ),
    )
    corpus = read_corpus("jsonl", root, "train")
    assert corpus["id"][:] == corpus["speaker"][:] == expected


def test_files_that_only_their_ending_tells_apart(root: Path) -> None:
    (root / "audio" / "a.wav").write_bytes((root / "audio" / "a.flac").read_bytes())
    write(root, GOOD, {**GOOD, "audio_filepath": "audio/a.wav"})
    with pytest.raises(CorpusError, match="utterance id 'audio/a' occurs twice"):
        read_corpus("jsonl", root, "train")


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.just("audio/a.flac"),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=4,
)
ROWS = st.fixed_dictionaries(
    {"audio_filepath": st.just("audio/a.flac") | VALUES, "text": st.just("x") | VALUES},
    optional=dict.fromkeys(("id", "speaker", "offset", "duration", "x"), VALUES),
)
LINES = st.one_of(st.binary(max_size=40), ROWS.map(lambda row: json.dumps(row).encode()))


@given(content=st.lists(LINES, max_size=4).map(b"\n".join), cut=st.integers(0, 400))
@settings(deadline=None, max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@example(content=b'{"audio_filepath": "audio/a.flac", "text": "\\ud83d"}', cut=400)
@example(content=b'{"audio_filepath": "audio/a.flac", "text": "", "duration": 1' + b"0" * 400 + b"}", cut=400)
def test_any_bytes_are_read_or_refused_in_one_line(root: Path, content: bytes, cut: int) -> None:
    (root / "train.jsonl").write_bytes(content[:cut])
    rows: list[dict[str, Any]] = []
    refusal = ""
    try:
        rows = read_corpus("jsonl", root, "train").to_list()
    except (CorpusError, AudioError) as error:
        refusal = str(error)
    assert bool(rows) != bool(refusal)
    assert all(row["end"] > row["start"] >= 0 for row in rows)
    assert not refusal or "train" in refusal or "a.flac" in refusal


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
