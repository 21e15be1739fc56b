"""Each mistake: one clear line on stderr, exit status 2, nothing half-written."""

import json
import resource
import subprocess
import sys
from pathlib import Path

import pytest
import soundfile
import yaml

from tests.conftest import tiny_settings, write_jsonl_corpus
from tests.e2e.conftest import RECIPE, environment


def settings_file(tmp_path: Path, root: Path, **changes) -> Path:
    settings = tiny_settings(root, tmp_path / "run")
    for key, value in changes.items():
        section, _, name = key.partition("__")
        if name:
            settings[section][name] = value
        else:
            settings[section] = value
    path = tmp_path / "settings.yaml"
    path.write_text(yaml.safe_dump(settings))
    return path


def error_line(result: subprocess.CompletedProcess[str]) -> str:
    """The one line that the user reads."""
    assert result.returncode == 2, result.stderr
    lines = [line for line in result.stderr.splitlines() if line.startswith("audio-lottery: error:")]
    assert len(lines) == 1, result.stderr
    assert "Traceback" not in result.stderr
    return lines[0]


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    root = tmp_path / "corpus"
    for name, count in (("train", 8), ("dev", 3), ("test", 3)):
        write_jsonl_corpus(root, name, count)
    return root


def edit_rows(path: Path, change) -> None:
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    change(rows)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_missing_corpus_folder(tmp_path, here):
    line = error_line(here("--config", str(settings_file(tmp_path, tmp_path / "nowhere"))))
    assert "nowhere" in line
    assert not list((tmp_path / "run").glob("data*"))


def test_truncated_audio_stops_the_run_with_its_id(tmp_path, corpus, here):
    audio = corpus / "train-003.flac"
    audio.write_bytes(audio.read_bytes()[: audio.stat().st_size // 2])
    line = error_line(here("--config", str(settings_file(tmp_path, corpus))))
    assert "train-003" in line


def test_truncated_audio_reads_the_same_from_a_worker_process(tmp_path, corpus, recipe):
    audio = corpus / "train-003.flac"
    audio.write_bytes(audio.read_bytes()[: audio.stat().st_size // 2])
    line = error_line(recipe("--config", str(settings_file(tmp_path, corpus, data__num_workers=1, theta={}))))
    assert "train-003" in line


def test_characters_outside_the_vocabulary_are_listed(tmp_path, corpus, here):
    edit_rows(corpus / "train.jsonl", lambda rows: rows[2].update(text="café 42"))
    line = error_line(here("--config", str(settings_file(tmp_path, corpus))))
    for expected in ("é", "4", "2", "train-002", "--model.characters"):
        assert expected in line


def test_out_of_vocabulary_drop_counts_them(tmp_path, corpus, here):
    edit_rows(corpus / "train.jsonl", lambda rows: rows[2].update(text="café 42"))
    edit_rows(corpus / "train.jsonl", lambda rows: rows[3].update(text=""))
    edit_rows(corpus / "train.jsonl", lambda rows: rows[4].update(text="one two " * 40))
    edit_rows(corpus / "test.jsonl", lambda rows: rows[0].update(text=""))
    edit_rows(corpus / "test.jsonl", lambda rows: rows[1].update(text="one two " * 40))
    result = here(
        "--config", str(settings_file(tmp_path, corpus, data__out_of_vocabulary="drop")), "--search.rounds", "0"
    )
    assert result.returncode == 0, result.stderr
    metrics = json.loads((tmp_path / "run" / "round_00" / "metrics.json").read_text())
    assert metrics["training"]["dropped"] == {
        "characters outside the vocabulary": 1,
        "empty transcript": 1,
        "more labels than fit": 1,
    }
    assert metrics["training"]["utterances"] == 5
    assert metrics["test"]["clean"]["utterances"] == 3, "test is never filtered"
    assert metrics["test"]["clean"]["empty_references"] == 1


def test_no_speech_left_after_filtering(tmp_path, corpus, here):
    line = error_line(here("--config", str(settings_file(tmp_path, corpus, data__max_seconds=0.2))))
    assert "no speech is left" in line
    assert "longer than 0.2 s" in line


def test_zero_length_segment(tmp_path, corpus, here):
    edit_rows(corpus / "train.jsonl", lambda rows: rows[1].update(duration=0))
    assert "train.jsonl:2" in error_line(here("--config", str(settings_file(tmp_path, corpus))))


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--trainig.max_steps", "3"], "trainig.max_steps"),
        (["--training.max_steps", "many"], "training.max_steps"),
        (["--pruning.rate", "1.5"], "pruning.rate is 1.5"),
        (["--data.normalizer", "whisperish"], "whisperish"),
        (["--model.init", "no/such-model"], "no/such-model"),
        (["--pruning.include", "[nothing_like_it]"], "matches no prunable weight"),
    ],
)
def test_settings(tmp_path, corpus, here, arguments, expected):
    assert expected in error_line(here("--config", str(settings_file(tmp_path, corpus)), *arguments))


def test_a_run_folder_of_other_settings(tmp_path, corpus, here):
    path = settings_file(tmp_path, corpus)
    assert here("--config", str(path), "--search.rounds", "0").returncode == 0
    line = error_line(here("--config", str(path), "--seed", "6", "--pruning.rate", "0.5"))
    assert "seed (5 there, 6 now)" in line
    assert "pruning.rate (0.2 there, 0.5 now)" in line
    assert here("--config", str(path), "--search.rounds", "1").returncode == 0, "more rounds may be added"


def test_a_folder_that_is_no_run(tmp_path, corpus, here):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "thesis.tex").write_text("precious")
    assert "is not a run folder" in error_line(here("--config", str(settings_file(tmp_path, corpus))))
    assert [p.name for p in (tmp_path / "run").iterdir()] == ["thesis.tex"]


def test_a_round_cut_short(tmp_path, corpus, here):
    path = settings_file(tmp_path, corpus)
    assert here("--config", str(path), "--search.rounds", "0").returncode == 0
    model = tmp_path / "run" / "round_00" / "model.safetensors"
    model.write_bytes(model.read_bytes()[:-1000])
    line = error_line(here("--config", str(path), "--search.rounds", "1"))
    assert "round_00/model.safetensors" in line
    assert "remove" in line


def test_disk_full_while_saving(tmp_path, corpus):
    """A real failed write: the process may not write files over 100 kB, and a checkpoint is larger."""
    command = [sys.executable, str(RECIPE), "--config", str(settings_file(tmp_path, corpus))]
    result = subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        env=environment(),
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000)),
    )
    assert "no space left for it" in error_line(result)
    left = [p.name for p in (tmp_path / "run").rglob("*") if p.is_file()]
    assert "model.safetensors" not in left
    assert not [name for name in left if "tmp" in name]


def test_command_line(command_line, command_here, tmp_path):
    assert error_line(command_line("frobnicate")).endswith(
        "there are search, plan, recipes, evaluate, transcribe, score, select, compare, report, publish, tune-decoder, "
        "compress, export, bench, prepare"
    )
    assert "evaluate" in command_here("--help").stdout
    assert command_here().returncode == 2
    line = error_line(command_here("evaluate", str(tmp_path / "none"), "--data.root", str(tmp_path)))
    assert "none" in line


def test_shorten_compressed_sphere(tmp_path, here):
    root = tmp_path / "TEDLIUM"
    for split in ("train", "dev", "test"):
        for kind in ("sph", "stm"):
            (root / split / kind).mkdir(parents=True)
        header = "NIST_1A\n   1024\nsample_rate -i 16000\nsample_count -i 16000\nchannel_count -i 1\n"
        header += "sample_coding -s26 pcm,embedded-shorten-v2.00\nend_head\n"
        (root / split / "sph" / "talk.sph").write_bytes(header.encode().ljust(1024) + bytes(2000))
        (root / split / "stm" / "talk.stm").write_text("talk 1 talk 0.00 0.50 <o,f0,male> hello\n")
    splits = {name: [{"corpus": "tedlium", "split": name}] for name in ("train", "dev", "test")}
    path = tmp_path / "settings.yaml"
    settings = tiny_settings(root, tmp_path / "run") | {"theta": {}}
    settings["data"].update(splits)
    path.write_text(yaml.safe_dump(settings))
    line = error_line(here("--config", str(path)))
    assert "shorten" in line
    assert "talk.sph" in line


def test_audio_of_another_rate_is_resampled(tmp_path, corpus, here):
    audio = corpus / "test-000.flac"
    samples, _ = soundfile.read(audio)
    soundfile.write(audio, samples[: len(samples) // 2], 8_000)
    result = here("--config", str(settings_file(tmp_path, corpus)), "--search.rounds", "0")
    assert result.returncode == 0, result.stderr
