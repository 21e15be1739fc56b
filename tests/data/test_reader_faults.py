"""Real inputs that readers met: each is read as its author meant it, or refused in one line with file and line."""

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from audio_lottery.config import CorpusConfig
from audio_lottery.data.audio import read_audio
from audio_lottery.data.corpora.load import load_manifest
from audio_lottery.errors import AudioLotteryError, CorpusError


def sound(path: Path, seconds: float = 1.0, **options) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, np.random.default_rng(0).normal(0, 0.1, int(16_000 * seconds)), 16_000, **options)
    return path


def ids(root: Path, corpus: str, split: str, path: str = "") -> list[str]:
    return load_manifest((CorpusConfig(corpus, split, path),), root)["id"][:]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('"text": "hi \\ud83d", "duration": 1.0', r"m\.jsonl:1: 'text' holds U\+D83D, half of a surrogate pair"),
        (f'"text": "hi", "duration": {"9" * 400}', r"m\.jsonl:1: 'duration' must be a number of seconds, got 99"),
        ('"text": "hi", "duration": NaN', r"m\.jsonl:1: 'duration' must be a number of seconds, got nan"),
        ('"text": "hi", "duration": true', r"m\.jsonl:1: 'duration' must be a number of seconds, got True"),
        ('"text": "hi", "offset": -1', r"m\.jsonl:1: 'offset' is -1 s; it must not be negative"),
        ('"text": "hi", "text": "ho", "duration": 1.0', r"m\.jsonl:1: key 'text' occurs twice"),
        ('"text": 3, "duration": 1.0', r"m\.jsonl:1: 'text' must be a string, got 3"),
        (f'"text": "hi", "x": {"[" * 100_000}', r"m\.jsonl:1: not valid JSON"),
    ],
)
def test_values_that_are_none_name_file_and_line(tmp_path, line, message):
    sound(tmp_path / "a.wav")
    (tmp_path / "m.jsonl").write_text(f'{{"audio_filepath": "a.wav", {line}}}\n')
    with pytest.raises(CorpusError, match=message):
        ids(tmp_path, "jsonl", "m.jsonl")


@given(content=st.binary(max_size=200))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_bytes_are_read_or_refused(tmp_path, content):
    (tmp_path / "m.jsonl").write_bytes(content)
    with pytest.raises(AudioLotteryError, match=r"m\.jsonl"):
        ids(tmp_path, "jsonl", "m.jsonl")


def test_rows_without_ids_are_told_apart_by_their_path(tmp_path):
    for folder in ("a", "b"):
        sound(tmp_path / folder / "001.wav")
    rows = [{"audio_filepath": f"{folder}/001.wav", "text": "x", "duration": 1.0} for folder in ("a", "b")]
    (tmp_path / "m.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert ids(tmp_path, "jsonl", "m.jsonl") == ["a/001", "b/001"]


def test_hidden_files_of_macos_are_no_speech(tmp_path):
    chapter = tmp_path / "LibriSpeech" / "dev-clean" / "1" / "2"
    sound(chapter / "1-2-0001.flac")
    (chapter / "1-2.trans.txt").write_text("1-2-0001 HELLO\n")
    for name in ("._1-2-0001.flac", "._1-2.trans.txt", ".DS_Store"):
        (chapter / name).write_bytes(b"\x00\x05\x16\x07")
    assert ids(tmp_path, "librispeech", "dev-clean", "LibriSpeech") == ["1-2-0001"]


def test_segments_of_two_speakers_at_one_time_have_two_ids(tmp_path):
    split = tmp_path / "ted" / "legacy" / "dev"
    sound(split / "sph" / "t.sph", 3.0, format="NIST")
    (split / "stm").mkdir()
    lines = ["t 1 anna 0.0 1.0 <o> hello there", "t 1 ben 0.0 1.0 <o> other words", "t 1 ben 1.0 2.0 <o> alone"]
    (split / "stm" / "t.stm").write_text("\n".join(lines) + "\n")
    (split / "stm" / "._t.stm").write_bytes(b"\x00\x05\x16\x07")
    assert ids(tmp_path, "tedlium", "dev", "ted") == [
        "t-00000000-00001000-1-anna",
        "t-00000000-00001000-1-ben",
        "t-00001000-00002000",
    ]


def test_common_voice_rows_may_name_other_formats(tmp_path):
    sound(tmp_path / "cv" / "clips" / "c1.wav")
    (tmp_path / "cv" / "dev.tsv").write_text("client_id\tpath\tsentence\nx\tc1.wav\thello\n")
    manifest = load_manifest((CorpusConfig("common_voice", "dev", "cv"),), tmp_path)
    assert Path(manifest["audio"][0]).name == "c1.wav"


@pytest.mark.parametrize("blocks", [24, 25])  # of 320 samples; libsndfile takes an odd number for a cut
def test_gsm_is_decoded_and_cut(tmp_path, blocks):
    path = tmp_path / "g.wav"
    soundfile.write(path, np.random.default_rng(0).normal(0, 0.1, 320 * blocks), 16_000, subtype="GSM610")
    whole = read_audio(path, 0.0, 0.4)
    part = read_audio(path, 0.1, 0.3)
    np.testing.assert_allclose(part, whole[1600:4800], atol=1e-6)
