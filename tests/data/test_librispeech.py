"""LibriSpeech: what was written in the official layout comes back, and every hole in it is named."""

from pathlib import Path

import numpy as np
import pytest
import soundfile as sf

from audio_lottery.data.audio import read_audio
from audio_lottery.data.corpora import CORPORA, read_corpus
from audio_lottery.data.manifest import FEATURES
from audio_lottery.errors import AudioError, CorpusError

RATE = 16_000
SPLIT = "train-clean-5"
TRANSCRIPTS = {
    ("84", "121123"): {"84-121123-0000": "GO DO YOU HEAR", "84-121123-0001": "BUT IN LESS THAN FIVE MINUTES"},
    ("1272", "128104"): {"1272-128104-0000": "MISTER QUILTER'S MANUSCRIPT", "1272-128104-0001": ""},
}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for (speaker, chapter), texts in TRANSCRIPTS.items():
        folder = tmp_path / "LibriSpeech" / SPLIT / speaker / chapter
        folder.mkdir(parents=True)
        lines = [f"{name} {text}".rstrip() for name, text in texts.items()]
        (folder / f"{speaker}-{chapter}.trans.txt").write_text("\n".join(lines) + "\n")
        for count, name in enumerate(texts, start=1):
            sf.write(folder / f"{name}.flac", np.full(count * 800, 0.1, np.float32), RATE)
    return tmp_path


@pytest.fixture
def chapter(root: Path) -> Path:
    return root / "LibriSpeech" / SPLIT / "84" / "121123"


def append(path: Path, line: str) -> None:
    with path.open("a") as file:
        file.write(f"{line}\n")


def test_round_trip(root: Path) -> None:
    corpus = read_corpus("librispeech", root / "LibriSpeech", SPLIT)
    assert corpus.features == FEATURES
    assert corpus["id"][:] == ["1272-128104-0000", "1272-128104-0001", "84-121123-0000", "84-121123-0001"]
    assert {row["id"]: row["text"] for row in corpus} == {
        k: v for texts in TRANSCRIPTS.values() for k, v in texts.items()
    }
    assert set(corpus["corpus"]) == {"librispeech/train-clean-5"}
    for row in corpus:
        assert row["speaker"] == row["id"].split("-")[0]
        assert Path(row["audio"]).is_absolute()
        assert (row["start"], row["end"], row["duration"]) == (0.0, row["duration"], (int(row["id"][-1]) + 1) * 0.05)
        assert len(read_audio(row["audio"], row["start"], row["end"])) == round(row["duration"] * RATE)


def test_parent_folder_and_relative_paths(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    inside = read_corpus("librispeech", root / "LibriSpeech", SPLIT)
    monkeypatch.chdir(root)
    assert read_corpus("librispeech", ".", SPLIT).to_list() == inside.to_list()


def test_unknown_split_lists_those_there(root: Path) -> None:
    with pytest.raises(CorpusError, match=r"librispeech/dev-clean: no folder .*; folders there: train-clean-5"):
        read_corpus("librispeech", root, "dev-clean")


def test_transcript_without_audio(root: Path, chapter: Path) -> None:
    append(chapter / "84-121123.trans.txt", "84-121123-0002 NOBODY SAID THIS")
    with pytest.raises(CorpusError, match=r"84-121123\.trans\.txt:3: transcript without audio.*84-121123-0002\.flac"):
        read_corpus("librispeech", root, SPLIT)


def test_audio_without_transcript(root: Path, chapter: Path) -> None:
    sf.write(chapter / "84-121123-0009.flac", np.zeros(800, np.float32), RATE)
    with pytest.raises(CorpusError, match=r"84-121123-0009\.flac: FLAC file without a transcript in 84-121123\.trans"):
        read_corpus("librispeech", root, SPLIT)
    (chapter / "84-121123.trans.txt").unlink()
    with pytest.raises(
        CorpusError, match=r"84-121123-0000\.flac: FLAC file without a transcript: there is no 84-121123"
    ):
        read_corpus("librispeech", root, SPLIT)


@pytest.mark.parametrize("line", ["GO DO YOU HEAR", "84-99-0002 WRONG CHAPTER"])
def test_malformed_line(root: Path, chapter: Path, line: str) -> None:
    append(chapter / "84-121123.trans.txt", line)
    with pytest.raises(
        CorpusError, match=r"84-121123\.trans\.txt:3: malformed line: expected '84-121123-<number> TEXT'"
    ):
        read_corpus("librispeech", root, SPLIT)


def test_second_transcript(root: Path, chapter: Path) -> None:
    append(chapter / "84-121123.trans.txt", "84-121123-0001 AGAIN")
    with pytest.raises(CorpusError, match=r"84-121123\.trans\.txt:3: second transcript for '84-121123-0001'"):
        read_corpus("librispeech", root, SPLIT)


def test_transcript_that_is_not_utf8(root: Path, chapter: Path) -> None:
    (chapter / "84-121123.trans.txt").write_bytes(b"84-121123-0000 CAF\xc9\n")
    with pytest.raises(CorpusError, match=r"84-121123\.trans\.txt: cannot be read as UTF-8 text \(line 1: "):
        read_corpus("librispeech", root, SPLIT)


def test_files_of_macos_are_no_part_of_the_corpus(root: Path, chapter: Path) -> None:
    before = read_corpus("librispeech", root, SPLIT).to_list()
    for name in ("._84-121123-0000.flac", "._84-121123.trans.txt", ".DS_Store"):
        (chapter / name).write_bytes(b"\0\5\x16\7")
    for folder in (chapter.parents[1] / "__MACOSX" / "121123", chapter.parent / ".Trashes", root / "__MACOSX"):
        folder.mkdir(parents=True)
        (folder / "x.flac").write_bytes(b"")
    assert read_corpus("librispeech", root, SPLIT).to_list() == before
    with pytest.raises(CorpusError, match=r"folders there: train-clean-5$"):
        read_corpus("librispeech", root, "dev")


def test_audio_that_is_none(root: Path, chapter: Path) -> None:
    (chapter / "84-121123-0000.flac").write_bytes(b"garbage" * 100)
    with pytest.raises(AudioError, match=r"84-121123-0000\.flac: cannot be decoded"):
        read_corpus("librispeech", root, SPLIT)


def test_empty_split(root: Path) -> None:
    (root / "LibriSpeech" / "dev-clean").mkdir()
    with pytest.raises(CorpusError, match="librispeech/dev-clean: no utterances found"):
        read_corpus("librispeech", root, "dev-clean")


def test_unknown_corpus_and_missing_folder(tmp_path: Path) -> None:
    assert set(CORPORA) == {"librispeech", "common_voice", "tedlium", "jsonl"}
    with pytest.raises(CorpusError, match="unknown corpus 'timit'; known: common_voice, jsonl, librispeech, tedlium"):
        read_corpus("timit", tmp_path, "train")
    for corpus in CORPORA:
        with pytest.raises(CorpusError, match=f"{corpus}/train: missing corpus folder .*nowhere"):
            read_corpus(corpus, tmp_path / "nowhere", "train")
