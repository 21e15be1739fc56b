"""Common Voice: read by header name and without quoting, from releases whose columns and paths differ."""

from pathlib import Path

import numpy as np
import pytest
import soundfile as sf

from audio_lottery.data.audio import read_audio
from audio_lottery.data.corpora import read_corpus
from audio_lottery.errors import AudioError, CorpusError

RATE = 48_000
SENTENCES = {
    "common_voice_en_30": '"Unpaired, he said.',
    "common_voice_en_4": "Don’t — naïve café!",
    "common_voice_en_21": 'She said "no" twice.',
}
HEADER = ["client_id", "path", "sentence", "up_votes", "locale"]


def write_tsv(path: Path, rows: list[list[str]], header: list[str] = HEADER) -> None:
    path.write_text("".join("\t".join(row) + "\n" for row in [header, *rows]), encoding="utf-8")


def rows() -> list[list[str]]:
    return [[f"client{len(name)}", f"{name}.mp3", text, "2", "en"] for name, text in SENTENCES.items()]


@pytest.fixture
def locale(tmp_path: Path) -> Path:
    folder = tmp_path / "cv-corpus" / "en"
    (folder / "clips").mkdir(parents=True)
    generator = np.random.default_rng(0)
    for name in [*SENTENCES, "common_voice_en_of_another_split"]:
        samples = generator.normal(scale=0.1, size=RATE // 2).astype(np.float32)
        sf.write(folder / "clips" / f"{name}.mp3", samples, RATE)
    write_tsv(folder / "test.tsv", rows())
    return folder


def test_round_trip(locale: Path) -> None:
    corpus = read_corpus("common_voice", locale, "test")
    assert corpus["id"][:] == list(SENTENCES), "in the order of the table"
    assert {row["id"]: row["text"] for row in corpus} == SENTENCES
    assert corpus["speaker"][:] == [f"client{len(name)}" for name in SENTENCES]
    assert set(corpus["corpus"]) == {"common_voice/test"}
    for row in corpus:
        assert Path(row["audio"]) == locale / "clips" / f"{row['id']}.mp3"
        assert row["duration"] == row["end"] == 0.5
        assert len(read_audio(row["audio"], row["start"], row["end"])) == 8_000


def test_parent_folder_with_one_locale_or_more(locale: Path) -> None:
    assert (
        read_corpus("common_voice", locale.parent, "test").to_list()
        == read_corpus("common_voice", locale, "test").to_list()
    )
    (locale.parent / "cy" / "clips").mkdir(parents=True)
    with pytest.raises(CorpusError, match="holds several locales; name the folder of one of them: cy, en"):
        read_corpus("common_voice", locale.parent, "test")
    with pytest.raises(CorpusError, match="is no Common Voice folder"):
        read_corpus("common_voice", locale / "clips", "test")


def test_other_columns_in_other_order_and_paths_without_ending(locale: Path) -> None:
    header = ["sentence_domain", "sentence", "path"]
    write_tsv(locale / "test.tsv", [["", text, name] for name, text in SENTENCES.items()], header)
    corpus = read_corpus("common_voice", locale, "test")
    assert {row["id"]: row["text"] for row in corpus} == SENTENCES
    assert corpus["speaker"][:] == corpus["id"][:]


@pytest.mark.parametrize(
    ("path", "file", "identity"),
    [
        ("c1.wav", "c1.wav", "c1"),
        ("c1.FLAC", "c1.FLAC", "c1"),
        ("c1.mp3", "c1.mp3", "c1"),
        ("c1", "c1.mp3", "c1"),
        ("c1.5", "c1.5.mp3", "c1.5"),
        ("c1.wave", "c1.wave", "c1.wave"),  # no ending that is known, but a file that is there
    ],
)
def test_the_file_that_a_row_names(locale: Path, path: str, file: str, identity: str) -> None:
    sf.write(locale / "clips" / file, np.zeros(RATE, np.float32), RATE, format="WAV")
    write_tsv(locale / "test.tsv", [["c", path, "a", "2", "en"]])
    [row] = read_corpus("common_voice", locale, "test")
    assert (row["audio"], row["id"]) == (str(locale / "clips" / file), identity)


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("c1.wav", r"missing clip .*/clips/c1\.wav$"),
        ("c1", r"missing clip .*/clips/c1\.mp3$"),
        ("", r"missing clip .*/clips/\.mp3$"),
        ("a\0b.mp3", "missing clip "),
        ("a" * 5000, r"clip .*\.mp3 cannot be read \(File name too long\)"),
    ],
)
def test_a_clip_that_is_not_there(locale: Path, path: str, message: str) -> None:
    write_tsv(locale / "test.tsv", [*rows(), ["c", path, "a", "2", "en"]])
    with pytest.raises(CorpusError, match=rf"test\.tsv:5: {message}"):
        read_corpus("common_voice", locale, "test")


def test_a_line_that_is_not_utf8(locale: Path) -> None:
    with (locale / "test.tsv").open("ab") as file:
        file.write("c\tx.mp3\tcafé\t2\ten\n".encode("latin-1"))
    with pytest.raises(CorpusError, match=r"test\.tsv: cannot be read as UTF-8 text \(line 5: .* byte 0xe9"):
        read_corpus("common_voice", locale, "test")


def test_files_of_macos_are_no_part_of_the_corpus(locale: Path) -> None:
    (locale / "._test.tsv").write_bytes(b"\0\5\x16\7")
    (locale.parent / "__MACOSX" / "clips").mkdir(parents=True)
    assert read_corpus("common_voice", locale.parent, "test")["id"][:] == list(SENTENCES)
    with pytest.raises(CorpusError, match=r"splits there: test$"):
        read_corpus("common_voice", locale, "train")


def test_byte_order_mark_and_windows_line_ends(locale: Path) -> None:
    tsv = locale / "test.tsv"
    tsv.write_bytes(b"\xef\xbb\xbf" + tsv.read_bytes().replace(b"\n", b"\r\n"))
    assert {row["id"]: row["text"] for row in read_corpus("common_voice", locale, "test")} == SENTENCES


def test_unknown_split_lists_those_there(locale: Path) -> None:
    with pytest.raises(CorpusError, match=r"common_voice/train: no file .*train\.tsv; splits there: test"):
        read_corpus("common_voice", locale, "train")


@pytest.mark.parametrize("column", ["path", "sentence"])
def test_missing_column(locale: Path, column: str) -> None:
    header = [f"old_{name}" if name == column else name for name in HEADER]
    write_tsv(locale / "test.tsv", rows(), header)
    with pytest.raises(
        CorpusError, match=rf"test\.tsv:1: no column '{column}'; columns there: client_id, .*old_{column}"
    ):
        read_corpus("common_voice", locale, "test")


def test_missing_clip(locale: Path) -> None:
    (locale / "clips" / "common_voice_en_4.mp3").unlink()
    with pytest.raises(CorpusError, match=r"test\.tsv:3: missing clip .*common_voice_en_4\.mp3"):
        read_corpus("common_voice", locale, "test")


@pytest.mark.parametrize("cells", [2, 6])
def test_line_with_other_columns_than_the_header(locale: Path, cells: int) -> None:
    write_tsv(locale / "test.tsv", [*rows(), ["x"] * cells])
    with pytest.raises(CorpusError, match=rf"test\.tsv:5: {cells} cells where the header has 5 columns"):
        read_corpus("common_voice", locale, "test")


def test_clip_twice(locale: Path) -> None:
    write_tsv(locale / "test.tsv", [*rows(), rows()[0]])
    with pytest.raises(CorpusError, match="utterance id 'common_voice_en_30' occurs twice"):
        read_corpus("common_voice", locale, "test")


def test_truncated_clip(locale: Path) -> None:
    clip = locale / "clips" / "common_voice_en_4.mp3"
    clip.write_bytes(clip.read_bytes()[:-300])
    with pytest.raises(AudioError, match=r"common_voice_en_4\.mp3: truncated"):
        read_corpus("common_voice", locale, "test")


def test_only_the_header(locale: Path) -> None:
    write_tsv(locale / "test.tsv", [])
    with pytest.raises(CorpusError, match="common_voice/test: no utterances found"):
        read_corpus("common_voice", locale, "test")
