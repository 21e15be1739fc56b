"""``audio-lottery transcribe``: what is written where, and every mistake in one line."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
import srt
import webvtt

from audio_lottery import cli
from audio_lottery.models.load import load_backbone
from tests.e2e.conftest import environment
from tests.lottery.test_backbones import TINY
from tests.models.test_transducer import STREAMED, WHOLE, bursts
from tests.models.test_words import FRAMES

EVERY = {"text": "txt", "json": "json", "srt": "srt", "vtt": "vtt", "tsv": "tsv"}


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> Path:
    """A folder with models that stream, that do not, and one without its processor."""
    folder = tmp_path_factory.mktemp("models")
    STREAMED.save(folder / "streams")
    load_backbone(FRAMES["w2v2"][0], 3).save(folder / "ctc")
    load_backbone(TINY["transducer"], 3).save(folder / "both_ways")
    load_backbone(FRAMES["w2v2"][0], 3).module.save_pretrained(folder / "bare")
    return folder


@pytest.fixture
def talks(tmp_path, monkeypatch) -> Path:
    """Recordings in the folder one is in."""
    monkeypatch.chdir(tmp_path)
    for name, samples, rate, channels in (
        ("a.wav", 30_000, 16_000, 1),
        ("b.flac", 40_000, 44_100, 2),
        ("more/c.ogg", 20_000, 16_000, 1),
        ("more/a.wav", 16_000, 8_000, 1),
        ("eight.wav", 96_000, 192_000, 8),
    ):
        Path(name).parent.mkdir(exist_ok=True)
        soundfile.write(name, np.stack([0.3 * np.clip(bursts(samples), -1, 1)] * channels, axis=1), rate)
    soundfile.write("silent.wav", np.zeros(60 * 16_000), 16_000)
    Path("empty.wav").touch()
    Path("text.wav").write_text("no audio")
    Path("nothing").mkdir()
    return tmp_path


def call(*arguments: object) -> int:
    return cli.main(["transcribe", *map(str, arguments)])


@pytest.mark.parametrize("form", EVERY)
def test_a_file_for_every_recording(models, talks, form, capsys, caplog):
    caplog.set_level("INFO")
    assert call(models / "streams", ".", "--format", form, "--out", "out") == 2, "two files hold no audio"
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.endswith("error: 2 of 8 files could not be transcribed: they are named above\n")
    assert "empty.wav: cannot be decoded (the file is empty: zero bytes)" in caplog.text
    assert "text.wav: cannot be decoded" in caplog.text
    assert "6 of 8 files, " in caplog.text
    assert " x real time (float32, dense)" in caplog.text
    written = {
        path.relative_to("out").as_posix(): path.read_text() for path in Path("out").rglob("*") if path.is_file()
    }
    names = ["a", "b", "eight", "silent", "more/a", "more/c"]
    assert written.keys() == {f"{name}.{EVERY[form]}" for name in names}
    if form == "json":
        assert json.loads(written["silent.json"])["text"] == ""
        assert json.loads(written["eight.json"])["duration"] == 0.5
        assert json.loads(written["b.json"])["chunks"][0]["timestamp"][0] >= 0
    if form == "srt":
        assert list(srt.parse(written["a.srt"]))
    if form == "vtt":
        assert list(webvtt.from_string(written["a.vtt"]))


def test_on_the_screen(models, talks, capsys):
    assert call(models / "streams", "a.wav") == 0
    alone = capsys.readouterr().out
    assert call(models / "streams", "a.wav", "more/*", "--threads", "1") == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("\t")[0] for line in lines] == ["a.wav", "more/a.wav", "more/c.ogg"]
    assert lines[0] == f"a.wav\t{alone.strip()}"
    assert call(models / "streams", "a.wav", "b.flac", "--format", "json") == 0
    assert [json.loads(line)["file"] for line in capsys.readouterr().out.splitlines()] == ["a.wav", "b.flac"]


@pytest.mark.parametrize(
    ("model", "arguments", "line"),
    [
        ("ctc", [], "name a file, folder or pattern behind the model, or give --stream"),
        ("ctc", ["nothing"], "nothing holds no recording (.flac, .mp3, "),
        ("ctc", ["*.aiff"], "nothing matches *.aiff"),
        ("ctc", ["gone.wav"], "1 of 1 files could not be transcribed"),
        (
            "ctc",
            ["a.wav", "more/a.wav", "--out", "out"],
            "a.wav and more/a.wav would both be called a; give the folder",
        ),
        (
            "ctc",
            ["a.wav", "b.flac", "--format", "srt"],
            "--format srt of 2 files needs a folder for them: --out FOLDER",
        ),
        ("ctc", ["a.wav", "--out", "text.wav"], "cannot write text.wav/a.txt: "),
        ("ctc", ["a.wav", "--window", "0"], "windows of 0 to 0 s cannot be cut with an overlap of 0 s"),
        ("ctc", ["a.wav", "--threads", "0"], "threads is 0; it must be 1 or more"),
        ("ctc", ["a.wav", "--lm", "lm.arpa"], "--lm: greedy search takes none; add --decoder beam"),
        (
            "ctc",
            ["a.wav", "--decoder", "best"],
            "--decoder best is neither greedy, beam nor a .yaml file of tune-decoder",
        ),
        ("ctc", ["a.wav", "--decoder", "gone.yaml"], "gone.yaml"),
        (
            "ctc",
            ["a.wav", "--decoder", "beam", "--lm", "gone.arpa"],
            "evaluation.decoder.lm: there is no file gone.arpa",
        ),
        ("ctc", ["a.wav", "--stream"], "--stream reads standard input and writes standard output: name no FILE"),
        ("ctc", ["--stream", "--format", "vtt"], "--stream writes text or json and no vtt"),
        ("ctc", ["--stream", "--decoder", "beam"], "--stream searches greedily: leave --decoder out"),
        (
            "ctc",
            ["--stream"],
            "Wav2Vec2ForCTC reads whole utterances and cannot stream; transducers of one direction can",
        ),
        (
            "both_ways",
            ["--stream"],
            "this transducer reads utterances from both ends and cannot stream; train one with",
        ),
        ("bare", ["a.wav"], "preprocessor_config.json"),
        ("gone", ["a.wav"], "gone"),
        ("", ["a.wav"], "config.json"),
    ],
)
def test_mistakes_are_one_line(models, talks, model, arguments, line, capsys, monkeypatch):
    with Path("a.wav").open("rb") as source:
        monkeypatch.setattr(sys, "stdin", source)
        assert call(models / model, *arguments) == 2
    *_, told = capsys.readouterr().err.splitlines()
    assert told.startswith("audio-lottery: error: ")
    assert line in told
    assert not Path("out").exists()


def test_beam_search_with_the_settings_of_a_file(models, talks, capsys):
    Path("words.txt").write_text("one\to n e |\ntwo\tt w o |\n")
    Path("decoder.yaml").write_text("evaluation: {decoder: {kind: beam, lexicon: words.txt, beam_size: 5}}\n")
    assert call(models / "ctc", "a.wav", "--decoder", "decoder.yaml", "--threads", "1") == 0
    said = capsys.readouterr().out
    assert set(said.split()) <= {"one", "two"}
    options = ["--decoder", "beam", "--lexicon", "words.txt", "--beam-size", "5", "--threads", "1"]
    assert call(models / "ctc", "a.wav", *options) == 0
    assert capsys.readouterr().out == said


def test_a_stream_of_another_process(models, tmp_path):
    """Lines come while the audio does: the first before the last sample is written."""
    pcm = (np.clip(WHOLE, -1, 1) * 32767).astype("<i2").tobytes()
    command = [sys.executable, "-m", "audio_lottery.cli", "transcribe", str(models / "streams"), "--stream"]
    process = subprocess.Popen(
        [*command, "--format", "json"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment()
    )
    process.stdin.write(pcm[:40_000])
    process.stdin.flush()
    first = json.loads(process.stdout.readline())
    rest, _ = process.communicate(pcm[40_000:], timeout=120)
    assert process.returncode == 0
    lines = [first, *map(json.loads, rest.decode().splitlines())]
    assert first["final"] is False
    assert lines[-1]["final"] is True
    *_, whole = STREAMED.stream([np.frombuffer(pcm, "<i2").astype(np.float32) / 32768])
    final = [line["text"] for line in lines if line["final"]]
    assert "".join(final).replace(" ", "") == whole.text.replace(" ", "")


def test_a_stream_on_the_screen(models, talks, capsys, monkeypatch):
    read, write = os.pipe()
    os.write(write, (np.clip(WHOLE, -1, 1) * 32767).astype("<i2").tobytes()[:60_000])
    os.close(write)
    with open(read, "rb") as source:
        monkeypatch.setattr(sys, "stdin", source)
        assert call(models / "streams", "--stream") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("partial: ")
    assert lines[-1].startswith("final: ")
