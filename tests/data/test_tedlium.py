"""TED-LIUM: three layouts, one reader; markup goes, short segments stay, and a wrong line is named."""

import logging
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
from hypothesis import example, given
from hypothesis import strategies as st

from audio_lottery.data.audio import read_audio
from audio_lottery.data.corpora import read_corpus
from audio_lottery.data.corpora.tedlium import clean_text
from audio_lottery.errors import AudioError, CorpusError

RATE = 16_000
SECONDS = 10
STM = """\
;; a comment
Talk_2009 1 Talk_2009 4.00 5.50 <o,f0,male> and it 's{BREATH} read(2) <sil> we don 't <unk> stop
Talk_2009 1 inter_segment_gap 5.50 6.00 <o,,unknown>

Talk_2009 1 Talk_2009 6.00 6.08 <F0_M> oh
Talk_2009 1 Talk_2009 1.00 4.00 <o,f0,male> first comes {NOISE} first
Talk_2009 1 Talk_2009 7.00 8.00 <o,f3,male> ignore_time_segment_in_scoring
Talk_2009 1 other 8.00 9.00 no label here
Talk_2009 1 Talk_2009 9.00 10.30 <NA>
"""
SEGMENTS = [
    ("Talk_2009-00001000-00004000", 1.0, 4.0, "Talk_2009", "first comes first"),
    ("Talk_2009-00004000-00005500", 4.0, 5.5, "Talk_2009", "and it's read we don't stop"),
    ("Talk_2009-00006000-00006080", 6.0, 6.08, "Talk_2009", "oh"),
    ("Talk_2009-00008000-00009000", 8.0, 9.0, "other", "no label here"),
    ("Talk_2009-00009000-00010300", 9.0, 10.0, "Talk_2009", ""),
]


def add_talk(folder: Path, name: str = "Talk_2009", stm: str | None = STM) -> None:
    for kind in ("sph", "stm"):
        (folder / kind).mkdir(parents=True, exist_ok=True)
    samples = np.random.default_rng(0).normal(scale=0.1, size=SECONDS * RATE).astype(np.float32)
    sf.write(folder / "sph" / f"{name}.sph", samples, RATE, format="NIST", subtype="PCM_16")
    if stm is not None:
        (folder / "stm" / f"{name}.stm").write_text(stm)


def ids(root: Path, split: str) -> list[str]:
    return [name.split("-")[0] for name in read_corpus("tedlium", root, split)["id"]]


@pytest.mark.parametrize("folder", ["test", "legacy/test"])
def test_round_trip(tmp_path: Path, folder: str, caplog: pytest.LogCaptureFixture) -> None:
    add_talk(tmp_path / folder)
    with caplog.at_level(logging.INFO, "audio_lottery"):
        corpus = read_corpus("tedlium", tmp_path, "test")
    assert [(r["id"], r["start"], r["end"], r["speaker"], r["text"]) for r in corpus] == SEGMENTS
    assert set(corpus["corpus"]) == {"tedlium/test"}
    assert "tedlium/test: 2 segments skipped" in caplog.text
    whole = read_audio(tmp_path / folder / "sph" / "Talk_2009.sph")
    for row in corpus:
        assert Path(row["audio"]).is_absolute()
        assert row["duration"] == row["end"] - row["start"]
        piece = read_audio(row["audio"], row["start"], row["end"])
        np.testing.assert_array_equal(piece, whole[round(row["start"] * RATE) : round(row["end"] * RATE)])


def stm(talk: str) -> str:
    return f"{talk} 1 {talk} 0.5 1.5 <o,f0,female> hello\n"


def test_release_3_train_is_data_without_dev_and_test(tmp_path: Path) -> None:
    for folder, talks in {"data": "ABCD", "legacy/train": "A", "legacy/dev": "C", "legacy/test": "D"}.items():
        for talk in talks:
            add_talk(tmp_path / folder, talk, stm(talk))
    assert ids(tmp_path, "train") == ["A", "B"]
    assert ids(tmp_path, "legacy-train") == ["A"]
    assert ids(tmp_path, "dev") == ["C"]
    assert ids(tmp_path, "test") == ["D"]


def test_train_without_data(tmp_path: Path) -> None:
    add_talk(tmp_path / "legacy" / "train", "A", stm("A"))
    (tmp_path / "data" / "sph").mkdir(parents=True)  # no stm: an unfinished copy
    assert ids(tmp_path, "train") == ["A"]


def test_missing_folders_and_unknown_split(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match=r"tedlium/train: no folders sph and stm .*: data, train, legacy/train"):
        read_corpus("tedlium", tmp_path, "train")
    with pytest.raises(CorpusError, match=r"unknown split 'eval'; known: dev, legacy-train, test, train"):
        read_corpus("tedlium", tmp_path, "eval")


def test_talk_without_transcript_and_the_other_way(tmp_path: Path) -> None:
    add_talk(tmp_path / "dev")
    add_talk(tmp_path / "dev", "Mute_2010", stm=None)
    with pytest.raises(CorpusError, match=r"Mute_2010\.sph: talk without a transcript: there is no .*Mute_2010\.stm"):
        read_corpus("tedlium", tmp_path, "dev")
    (tmp_path / "dev" / "sph" / "Mute_2010.sph").unlink()
    (tmp_path / "dev" / "sph" / "Talk_2009.sph").unlink()
    with pytest.raises(CorpusError, match=r"Talk_2009\.stm: transcript without a talk: there is no .*Talk_2009\.sph"):
        read_corpus("tedlium", tmp_path, "dev")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("Talk_2009 1 Talk_2009 1.0", "malformed line: 4 fields"),
        ("Talk_2009 1 Talk_2009 one 2.0 <o> x", "malformed line: start and end must be seconds, got one 2.0"),
        ("Talk_2009 1 Talk_2009 2.0 2.0 <o> x", r"segment runs from 2.0 s to 2.0 s"),
        ("Talk_2009 1 Talk_2009 3.0 2.0 <o> x", r"segment runs from 3.0 s to 2.0 s"),
        ("Talk_2009 1 Talk_2009 -1.0 2.0 <o> x", r"segment runs from -1.0 s to 2.0 s"),
        ("Talk_2009 1 Talk_2009 nan 2.0 <o> x", r"segment runs from nan s to 2.0 s"),
        ("Talk_2009 1 Talk_2009 1.0 inf <o> x", r"segment runs from 1.0 s to inf s"),
        ("Talk_2009 1 Talk_2009 9.0 10.6 <o> x", r"segment ends at 10.6 s, but Talk_2009\.sph ends at 10.000 s"),
        ("Talk_2009 1 Talk_2009 10.1 10.4 <o> x", r"segment ends at 10.4 s, but Talk_2009\.sph ends at 10.000 s"),
        ("Else_2011 1 Else_2011 1.0 2.0 <o> x", "segment of talk 'Else_2011' in the transcript of 'Talk_2009'"),
    ],
)
def test_wrong_line(tmp_path: Path, line: str, message: str) -> None:
    add_talk(tmp_path / "dev", stm=f";; comment\n{stm('Talk_2009')}{line}\n")
    with pytest.raises(CorpusError, match=rf"Talk_2009\.stm:3: {message}"):
        read_corpus("tedlium", tmp_path, "dev")


def line(channel: str = "1", speaker: str = "A", times: str = "0.5 1.5", text: str = "hello") -> str:
    return f"Talk_2009 {channel} {speaker} {times} <o,f0,female> {text}\n"


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ([line(speaker="B"), line(speaker="A")], ["00000500-00001500-1-A", "00000500-00001500-1-B"]),
        ([line(channel="2"), line(channel="1")], ["00000500-00001500-1-A", "00000500-00001500-2-A"]),
        (
            [line(speaker="B"), line(times="2 3"), line(speaker="A"), line(times="2 3.5", speaker="B")],
            ["00000500-00001500-1-A", "00000500-00001500-1-B", "00002000-00003000", "00002000-00003500"],
        ),
        ([line(), line(speaker="inter_segment_gap")], ["00000500-00001500"]),
        ([line(), line(speaker="B", text="ignore_time_segment_in_scoring")], ["00000500-00001500"]),
    ],
)
def test_equal_times(tmp_path: Path, lines: list[str], expected: list[str]) -> None:
    add_talk(tmp_path / "dev", stm="".join(lines))
    assert read_corpus("tedlium", tmp_path, "dev")["id"][:] == [f"Talk_2009-{end}" for end in expected]


def test_one_of_two_equal_segments_twice(tmp_path: Path) -> None:
    add_talk(tmp_path / "dev", stm=line() + line(speaker="B") + line(text="again"))
    with pytest.raises(CorpusError, match="utterance id 'Talk_2009-00000500-00001500-1-A' occurs twice"):
        read_corpus("tedlium", tmp_path, "dev")


def test_a_talk_of_two_channels_is_not_mixed(tmp_path: Path) -> None:
    add_talk(tmp_path / "dev", stm=f";; comment\n{line(channel='2')}")
    samples = np.random.default_rng(0).normal(scale=0.1, size=(SECONDS * RATE, 2)).astype(np.float32)
    sf.write(tmp_path / "dev" / "sph" / "Talk_2009.sph", samples, RATE, format="NIST", subtype="PCM_16")
    with pytest.raises(CorpusError, match=r"Talk_2009\.stm:2: segment of channel '2' of .* which has 2 channels; "):
        read_corpus("tedlium", tmp_path, "dev")


def test_files_of_macos_are_no_part_of_the_corpus(tmp_path: Path) -> None:
    for part in ("data", "legacy/dev"):
        add_talk(tmp_path / part)
        (tmp_path / part / "stm" / "._x.stm").write_bytes(b"\0\5\x16\7")
        (tmp_path / part / "sph" / "._Talk_2009.sph").write_bytes(b"\0\5\x16\7")
        (tmp_path / part / "sph" / ".DS_Store").write_bytes(b"")
    assert len(read_corpus("tedlium", tmp_path, "dev")) == len(SEGMENTS)


def test_a_line_that_is_not_utf8(tmp_path: Path) -> None:
    add_talk(tmp_path / "dev")
    (tmp_path / "dev" / "stm" / "Talk_2009.stm").write_bytes(line().encode() + line(text="café").encode("latin-1"))
    with pytest.raises(CorpusError, match=r"Talk_2009\.stm: cannot be read as UTF-8 text \(line 2: .* byte 0xe9"):
        read_corpus("tedlium", tmp_path, "dev")


def test_same_segment_twice(tmp_path: Path) -> None:
    add_talk(tmp_path / "dev", stm=stm("Talk_2009") * 2)
    with pytest.raises(CorpusError, match="utterance id 'Talk_2009-00000500-00001500' occurs twice"):
        read_corpus("tedlium", tmp_path, "dev")


def test_shorten_compressed_talk_and_its_conversion(tmp_path: Path) -> None:
    add_talk(tmp_path / "dev", stm=stm("Talk_2009"))
    talk = tmp_path / "dev" / "sph" / "Talk_2009.sph"
    samples, _ = sf.read(talk)
    header = b"NIST_1A\n   1024\nsample_coding -s26 pcm,embedded-shorten-v2.00\nend_head\n"
    talk.write_bytes(header.ljust(1024) + bytes(100))
    with pytest.raises(AudioError, match=r"Talk_2009\.sph: shorten-compressed.*sph2pipe"):
        read_corpus("tedlium", tmp_path, "dev")
    sf.write(talk.with_suffix(".wav"), samples, RATE)
    assert read_corpus("tedlium", tmp_path, "dev")["audio"][:] == [str(talk.with_suffix(".wav"))]


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("it 's what we 're told they 'll do", "it's what we're told they'll do"),
        ("i don 't think IT 'S so", "i don't think IT'S so"),
        ("tell 'em 'cause rock 'n roll", "tell 'em 'cause rock 'n roll"),
        ("at seven o 'clock", "at seven o'clock"),
        ("read(2) the(3) lead", "read the lead"),
        ("who(2) 's there", "who's there"),
        ("{NOISE} a {SMACK} b{COUGH}c", "a b c"),
        ("<sil> a <unk> [MUSIC] b <o,f0,male>", "a b"),
        ("THE END (911Mothers_2010W-14.87-16.00-<F0_F>-1)", "THE END"),
        ("a {b {c} d} e", "a e"),
        ("broken } markup <here", "broken markup here"),
        ("  spaced\t out  ", "spaced out"),
        ("", ""),
    ],
)
def test_clean_text(text: str, clean: str) -> None:
    assert clean_text(text) == clean


PIECES = st.sampled_from(
    [*"ab '<>{}[]()2", "it 's", "<sil>", "{NOISE}", "(2)", "[x]", "<unk>", " 't", "'em", "é", "\u00a0"]
)


@given(st.lists(PIECES, max_size=20).map("".join) | st.text(max_size=30))
@example("a{ <sil>'s")
@example("a <sil>' b 's")
def test_clean_text_leaves_no_markup_and_is_idempotent(text: str) -> None:
    clean = clean_text(text)
    assert not set(clean) & set("<>{}[]()")
    assert clean == " ".join(clean.split())
    assert clean_text(clean) == clean
