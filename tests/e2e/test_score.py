"""``audio-lottery score`` and ``select`` on files, as users run them."""

import json
from pathlib import Path

import pytest

from audio_lottery.cli import run
from audio_lottery.commands import score, select
from tests.lottery.test_select import DENSE, EQUAL, SIGNIFICANT, write_run

REFERENCES = {"spk1-a": "Hello, World!", "spk1-b": "the cat sat", "spk2-a": "one two three", "spk2-b": ""}
HYPOTHESES = {"spk2-b": "uh", "spk2-a": "one two three", "spk1-b": "the bat", "spk1-a": "hello world"}


def write(path: Path, texts: dict[str, str]) -> str:
    path.write_text("".join(f"{key}\t{text}\n" for key, text in texts.items()), encoding="utf-8")
    return str(path)


@pytest.fixture
def files(tmp_path: Path) -> list[str]:
    return ["--ref", write(tmp_path / "ref.txt", REFERENCES), "--hyp", write(tmp_path / "hyp.txt", HYPOTHESES)]


def error_line(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """Exit status 2 and the one line on stderr."""
    assert run(lambda: score.main(list(arguments))) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    return captured.err.strip()


def test_raw_and_normalised_side_by_side(files: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    score.main([*files, "--speaker-regex", "spk[0-9]", "--worst", "1"])
    out = capsys.readouterr().out
    lines = {line.split()[0]: line.split() for line in out.splitlines() if line}
    # Raw: two of two words, one substitution, one deletion, one insertion in 8 words. Basic: 3 of 8.
    assert lines["none"][2] == "62.50"
    assert lines["basic"][1] == "37.50"
    assert "4 utterances, 2 speakers; alignment jiwer" in out
    assert "1 empty references, kept: every word recognised there counts as an insertion" in out
    assert "only 2 speakers" in out
    assert "REF:  the cat sat\nHYP:  the bat ***\nEVAL:     S   D" in out


def test_json(files: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    speakers = write(tmp_path / "speakers.txt", {key: key[:4] for key in REFERENCES})
    other = write(tmp_path / "other.txt", REFERENCES)
    options = ["--json", "--alignment", "nist", "--speakers", speakers, "--compare", other, "--bootstrap", "200"]
    score.main([*files, *options])
    found = json.loads(capsys.readouterr().out)
    assert found["alignment"] == "nist"
    assert found["results"]["basic"]["wer"] == 3 / 8
    assert found["results"]["none"]["wer"] == 5 / 8
    assert found["results"]["basic"]["bootstrap"]["resamples"] == 200
    assert found["results"]["basic"]["bootstrap"]["speakers"] == 2
    assert found["compare"]["basic"]["difference"] == 3 / 8
    # Substitution and deletion in one segment (2), one insertion in another (1).
    assert found["compare"]["basic"]["mapsswe"]["segments"] == 2
    assert found["empty_reference_policy"].startswith("kept")


def test_comparison_as_text(files: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    score.main([*files, "--normalizer", "none", "--compare", write(tmp_path / "other.txt", HYPOTHESES)])
    out = capsys.readouterr().out
    assert "absolute +0.00 points, over utterances [+0.00, +0.00], over speakers -" in out
    assert "MAPSSWE: 3 segments, z 0, p 1: no difference" in out
    assert "basic" not in out


def test_another_system_needs_the_same_ids(
    files: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = write(tmp_path / "other.txt", {"spk1-a": "x"})
    assert "other.txt lacks 3 utterances (spk1-b, spk2-a, spk2-b)" in error_line(capsys, *files, "--compare", other)


def test_missing_and_extra_ids(files: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    hyp = write(tmp_path / "hyp.txt", {f"x{i}": "a" for i in range(6)} | {"spk1-a": "b"})
    line = error_line(capsys, *files)
    assert f"{hyp} lacks 3 utterances (spk1-b, spk2-a, spk2-b) of " in line
    assert f"{hyp} has 6 utterances (x0, x1, x2, x3, x4, …) that " in line


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("spk1-a hello\n", "hyp.txt:1: no tab where id<TAB>text is expected"),
        ("spk1-a\ta\nspk1-a\tb\n", "hyp.txt: 1 utterance id is there more than once (spk1-a)"),
        ("", "hyp.txt holds no utterance"),
    ],
)
def test_bad_hypotheses(
    files: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], content: str, message: str
) -> None:
    (tmp_path / "hyp.txt").write_text(content)
    assert message in error_line(capsys, *files)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--normalizer", "nonsense"], "unknown normalizer 'nonsense'"),
        (["--bootstrap", "10"], "10 bootstrap resamples are too few"),
        (["--worst", "-1"], "--worst -1"),
        (["--speaker-regex", "["], "--speaker-regex '[' is not a regular expression"),
        (["--speaker-regex", "x"], "finds no speaker in 4 of 4 ids, first in 'spk1-a'"),
        (["--hyp", "nowhere.txt"], "nowhere.txt cannot be read"),
    ],
)
def test_bad_options(files: list[str], capsys: pytest.CaptureFixture[str], options: list[str], message: str) -> None:
    assert message in error_line(capsys, *files, *options)


def test_a_speaker_for_every_utterance(files: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    speakers = write(tmp_path / "speakers.txt", {"spk1-a": "s", "spk1-b": " "})
    line = error_line(capsys, *files, "--speakers", speakers)
    assert "speakers.txt names no speaker for 3 of 4 utterances (spk1-b, spk2-a, spk2-b)" in line


def test_no_word_in_any_reference(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = ["--ref", write(tmp_path / "r", {"a": ""}), "--hyp", write(tmp_path / "h", {"a": "b"})]
    assert "not one reference holds a word" in error_line(capsys, *files)


def test_the_verbs_in_a_process(files: list[str], command_line) -> None:
    result = command_line("score", *files)
    assert result.returncode == 0, result.stderr
    assert "37.50" in result.stdout


def test_select(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runs = [write_run(tmp_path / f"s{i}", [(DENSE, DENSE), (EQUAL, EQUAL), (SIGNIFICANT, DENSE)], i) for i in (0, 1)]
    select.main([str(runs[0])])
    out = capsys.readouterr().out
    assert "no: worse over utterances" in out
    assert "winning: 1\n" in out
    assert "extreme: round 1, 80.00 % of the weights, dev WER 5.00 %, test WER 5.00 %" in out
    select.main([*map(str, runs), "--json", str(tmp_path / "tickets.json")])
    assert "2 seeds (0, 1)" in capsys.readouterr().out
    assert json.loads((tmp_path / "tickets.json").read_text())["extreme"] == 1
    assert run(lambda: select.main([str(tmp_path)])) == 2
    assert "is not a run folder" in capsys.readouterr().err


def test_without_intervals(files: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = write(tmp_path / "other.txt", REFERENCES)
    score.main([*files, "--bootstrap", "0", "--compare", other])
    out = capsys.readouterr().out
    assert "intervals: none (--bootstrap 0)" in out
    assert "[" not in out.split("intervals")[0], "no interval is printed"
    assert "MAPSSWE: 2 segments" in out
    assert "use 1000 (at least 100), or 0 for none" in error_line(capsys, *files, "--bootstrap", "50")
