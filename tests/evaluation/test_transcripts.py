"""Transcripts read from files: what is taken, and the line that is refused."""

from pathlib import Path

import pytest

from audio_lottery.errors import TextError
from audio_lottery.evaluation.transcripts import read_texts, read_transcripts


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "file.tsv"


def test_texts(path: Path) -> None:
    path.write_bytes("\ufeffu1\thello  world\r\nu2\t\n\nu3\ta\u2028b\n".encode())
    assert read_texts(path) == {"u1": "hello  world", "u2": "", "u3": "a\u2028b"}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"u1\ta\nu2 b\n", r"file.tsv:2: no tab where id<TAB>text is expected"),
        (b"u1\ta\tb\n", r"file.tsv:1: 3 columns where id<TAB>text is expected"),
        (b"\ta\n", r"file.tsv:1: the utterance id before the tab is empty"),
        (b"u1\ta\nu1\tb\n", r"file.tsv: 1 utterance id is there more than once \(u1\)"),
        (b"", r"file.tsv holds no utterance"),
        (b"u1\t\xff\n", r"file.tsv is not UTF-8 \(byte 3\)"),
    ],
)
def test_bad_texts(path: Path, content: bytes, message: str) -> None:
    path.write_bytes(content)
    with pytest.raises(TextError, match=message):
        read_texts(path)


def test_repeated_ids_are_counted_and_five_shown(path: Path) -> None:
    path.write_text("".join(f"u{i}\ta\n" * 2 for i in range(7)))
    with pytest.raises(TextError, match=r"7 utterance ids are there more than once \(u0, u1, u2, u3, u4, …\)"):
        read_texts(path)


def test_missing_file(path: Path) -> None:
    with pytest.raises(TextError, match=r"file.tsv cannot be read \(No such file or directory\)"):
        read_texts(path)


def test_table_with_and_without_speakers(path: Path) -> None:
    path.write_text("id\treference\thypothesis\nu1\ta b\t\n")
    table = read_transcripts(path)
    assert (table.ids, table.references, table.hypotheses, table.speakers) == (["u1"], ["a b"], [""], None)
    path.write_text("id\treference\thypothesis\tspeaker\nu1\ta b\ta\ts1\n")
    assert read_transcripts(path).speakers == ["s1"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "is empty"),
        ("id\ttext\nu1\ta\n", "file.tsv:1: no column reference, hypothesis; the header has id, text"),
        ("id\treference\thypothesis\nu1\ta\n", "file.tsv:2: 2 columns where the header has 3"),
        ("id\treference\thypothesis\nu1\ta\tb\nu1\ta\tb\n", "1 utterance id is there more than once"),
    ],
)
def test_bad_tables(path: Path, content: str, message: str) -> None:
    path.write_text(content)
    with pytest.raises(TextError, match=message):
        read_transcripts(path)
