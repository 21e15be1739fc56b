"""The search as a process: what it leaves behind, and that it survives being killed anywhere."""

import csv
import json
import random
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file
from transformers import pipeline

from audio_lottery.data.audio import read_audio
from audio_lottery.pruning import Mask
from tests.conftest import tiny_settings
from tests.e2e.conftest import RECIPE, environment, execute
from tests.lottery.test_backbones import TINY

COLUMNS = [
    "round",
    "remaining_percent",
    "remaining_percent_all",
    "dev_wer",
    "test_wer",
    "test_wer_noise10",
    "mask_sha256",
    "steps",
    "audio_hours",
    "bytes",
    "bytes_gzip",
    "seconds",
    "low_dev_wer",
    "high_dev_wer",
    "low_test_wer",
    "high_test_wer",
    "low_test_wer_noise10",
    "high_test_wer_noise10",
]


def write_settings(root: Path, run_dir: Path, path: Path, **changes) -> Path:
    settings = tiny_settings(root, run_dir)
    settings.update(changes)
    path.write_text(yaml.safe_dump(settings))
    return path


@pytest.fixture(scope="module")
def finished(tiny_corpus, tmp_path_factory) -> Path:
    """An uninterrupted run of theta and rounds 0, 1, 2."""
    folder = tmp_path_factory.mktemp("finished")
    config = write_settings(tiny_corpus, folder / "run", folder / "config.yaml")
    result = execute([sys.executable, str(RECIPE), "--config", str(config)])
    assert result.returncode == 0, result.stderr
    assert "curve.png" in result.stdout
    assert result.stdout.rstrip().endswith(f"report: {folder / 'run' / 'report.html'}")
    assert re.search(r"^ticket: (winning, |none wins; best is )round [1-9]\d*, \d", result.stdout, re.MULTILINE)
    assert "round 0 of 2, 100.00 % of the weights, WER" in result.stderr
    assert result.stderr.count(" left") >= 2, "no time is left after the last round"
    return folder / "run"


def outcome(run: Path) -> list[tuple[str, str, str, str]]:
    """What must be the same in two runs of the same config and seed."""
    with (run / "summary.csv").open() as file:
        return [(r["round"], r["mask_sha256"], r["test_wer"], r["test_wer_noise10"]) for r in csv.DictReader(file)]


def weights(run: Path) -> dict[str, bytes]:
    return {str(p.relative_to(run)): p.read_bytes() for p in sorted(run.glob("*/model.safetensors"))}


def test_run_folder(finished):
    with (finished / "summary.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == COLUMNS
    assert [row["round"] for row in rows] == ["0", "1", "2"]
    assert (finished / "curve.png").stat().st_size > 1000
    assert (finished / "curve.svg").read_text().lstrip().startswith("<?xml")
    assert "round 2: 64.00 % remaining" in (finished / "report.html").read_text()
    assert not list((finished / "work").iterdir()), "checkpoints of finished stages are removed"
    assert list(finished.glob("tensorboard/round_02/*"))
    scope = json.loads((finished / "scope.json").read_text())
    assert "lm_head.weight" in scope["left_out"]
    metrics = json.loads((finished / "round_01" / "metrics.json").read_text())
    assert metrics["test"]["noise10"]["snr_db"] == 10
    assert metrics["test"]["clean"]["normalizer"] == "basic"
    assert metrics["test"]["clean"]["utterances"] == 8
    transcripts = (finished / "round_01" / "hypotheses" / "clean.tsv").read_text().splitlines()
    assert len(transcripts) == 1 + 8


def test_masks_shrink_to_exact_densities_and_files_hold_exact_zeros(finished):
    theta = load_file(finished / "theta" / "model.safetensors")
    previous = None
    for number in range(3):
        folder = finished / f"round_{number:02d}"
        mask = Mask.load(folder / "mask.safetensors")
        assert mask.kept == int(0.8**number * mask.prunable + 0.5)
        assert previous is None or mask.is_subset_of(previous)
        model = load_file(folder / "model.safetensors")
        for name, kept in mask.items():
            pruned = model[name][~kept]
            assert not pruned.any()
            assert not torch.signbit(pruned).any()
            assert not torch.equal(model[name][kept], theta[name][kept]), "survivors were trained"
        previous = mask


def test_a_saved_round_transcribes_in_a_plain_pipeline(finished, tiny_corpus):
    transcriber = pipeline("automatic-speech-recognition", model=str(finished / "round_02"))
    row = json.loads((tiny_corpus / "test.jsonl").read_text().splitlines()[0])
    heard = transcriber(read_audio(tiny_corpus / row["audio_filepath"]))["text"]
    lines = (finished / "round_02" / "hypotheses" / "clean.tsv").read_text().splitlines()
    hypothesis = next(line.split("\t") for line in lines if line.startswith(row["id"]))[2]
    assert heard.split() == hypothesis.split()


def test_the_same_command_again_returns_what_is_there(finished, here):
    before = {p: p.stat().st_mtime_ns for p in finished.glob("*/model.safetensors")}
    result = here("--config", str(finished / "config.yaml"))
    assert result.returncode == 0, result.stderr
    assert {p: p.stat().st_mtime_ns for p in finished.glob("*/model.safetensors")} == before


def test_killed_at_random_moments_ends_as_if_uninterrupted(finished, tiny_corpus, tmp_path):
    config = write_settings(tiny_corpus, tmp_path / "run", tmp_path / "config.yaml")
    command = [sys.executable, str(RECIPE), "--config", str(config)]
    rng = random.Random()  # moments differ from run to run: any of them must do
    kills, moments = 0, []
    while kills < 3:  # a start takes ten seconds
        process = subprocess.Popen(command, env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        # wait until this start has written something, so that kills fall into stages and not into imports
        appeared, deadline = count_files(tmp_path / "run"), time.monotonic() + 60
        while count_files(tmp_path / "run") == appeared and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.01)
        moment = rng.uniform(0, 2.0)
        time.sleep(moment)
        if process.poll() is not None:
            break
        process.send_signal(signal.SIGKILL)
        process.wait()
        kills += 1
        moments.append(round(moment, 3))
    result = execute(command)
    assert result.returncode == 0, f"killed after {moments}: {result.stderr}"
    assert kills >= 2, "the run ended before it could be killed twice"
    assert outcome(tmp_path / "run") == outcome(finished), f"killed after {moments}"
    assert weights(tmp_path / "run") == weights(finished), f"killed after {moments}"


def count_files(folder: Path) -> int:
    return sum(1 for _ in folder.rglob("*")) if folder.exists() else 0


def launch_command(script: Path, *arguments: str, machine: tuple[str, ...] = ("--num_machines", "1")) -> list[str]:
    command = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2", *machine]
    command += ["--mixed_precision", "no", "--dynamo_backend", "no"]
    return [*command, *([] if "--machine_rank" in machine else ["--main_process_port", "0"]), str(script), *arguments]


def launch_two(script: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return execute(launch_command(script, *arguments), env=environment(ACCELERATE_USE_CPU="true"))


def test_two_processes_agree(tiny_corpus, finished, tmp_path):
    config = write_settings(tiny_corpus, tmp_path / "run", tmp_path / "config.yaml")
    taught = ("--training.distill.teacher", "dense", "--training.distill.cache", "true")
    result = launch_two(RECIPE, "--config", str(config), "--num_processes", "2", *taught)
    assert result.returncode == 0, result.stderr
    rows = outcome(tmp_path / "run")
    assert [row[0] for row in rows] == ["0", "1", "2"]
    # round 0's mask does not depend on the training, the others are equally dense
    assert rows[0][1] == outcome(finished)[0][1]
    for number in range(3):
        metrics = json.loads((tmp_path / "run" / f"round_{number:02d}" / "metrics.json").read_text())
        assert metrics["processes"] == 2
        assert metrics["training"]["teacher"] == ("dense" if number else None)
        assert metrics["budget"]["steps"] == 8 * (number + 1)
        mask = Mask.load(tmp_path / "run" / f"round_{number:02d}" / "mask.safetensors")
        assert mask.kept == int(0.8**number * mask.prunable + 0.5)
        model = load_file(tmp_path / "run" / f"round_{number:02d}" / "model.safetensors")
        assert all(not model[name][~kept].any() for name, kept in mask.items())
    assert metrics["test"]["clean"]["utterances"] == 8
    assert len(list((tmp_path / "run").glob("tensorboard/round_02/*"))) == 1, "only the main process logs"


def test_two_machines_of_one_process_each(tiny_corpus, tmp_path):
    """As docs/compare.md says it, both on this machine."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    machine = ("--num_machines", "2", "--main_process_ip", "127.0.0.1", "--main_process_port", port, "--machine_rank")
    script = Path(__file__).with_name("two_processes.py")
    started = [
        subprocess.Popen(
            launch_command(script, str(tiny_corpus), str(tmp_path), "cnn_lstm", machine=(*machine, rank)),
            env=environment(ACCELERATE_USE_CPU="true"),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in ("0", "1")
    ]
    errors = [process.communicate(timeout=300)[1] for process in started]
    assert [process.returncode for process in started] == [0, 0], errors
    check_round_of_two(tmp_path / "cnn_lstm" / "round_01")


def test_two_processes_agree_whatever_the_family(tiny_corpus, tmp_path):
    result = launch_two(Path(__file__).with_name("two_processes.py"), str(tiny_corpus), str(tmp_path))
    assert result.returncode == 0, result.stderr
    for family in TINY:
        check_round_of_two(tmp_path / family / "round_01")


def check_round_of_two(folder: Path) -> None:
    """A finished round that two processes made: one mask, held to the last weight."""
    metrics = json.loads((folder / "metrics.json").read_text())
    mask, model = Mask.load(folder / "mask.safetensors"), load_file(folder / "model.safetensors")
    assert metrics["processes"] == 2
    assert metrics["mask_sha256"] == mask.sha256()
    assert mask.kept == int(0.8 * mask.prunable + 0.5)
    assert all(not model[name][~kept].any() for name, kept in mask.items())


def test_a_launch_that_starts_one_process_where_two_were_asked_for_is_refused(tiny_config_file, here):
    result = here("--config", str(tiny_config_file), "--num_processes", "2")
    assert result.returncode == 2
    assert "num_processes is 2 and 1 started" in result.stderr
    assert not (tiny_config_file.parent / "run").exists()


def test_evaluate_gives_the_numbers_of_the_search(finished, command_here, tmp_path):
    model, out = str(finished / "round_01"), tmp_path / "out"
    result = command_here("evaluate", model, "--config", str(finished / "config.yaml"), "--out", str(out))
    assert result.returncode == 0, result.stderr
    metrics = json.loads((finished / "round_01" / "metrics.json").read_text())
    for suite in metrics["test"].values():
        del suite["difference_to_dense"]  # evaluate knows one model only
    assert json.loads((out / "evaluation.json").read_text())["suites"] == metrics["test"]
    there, here = (folder / "hypotheses" / "noise10.tsv" for folder in (finished / "round_01", out))
    assert here.read_text() == there.read_text()
    table = (out / "evaluation.md").read_text()
    assert f"{100 * metrics['test']['noise10']['wer']:.2f}" in table
    assert "EVAL" in table


def test_evaluate_takes_suites_from_the_command_line(finished, command_here, tmp_path):
    arguments = [
        "--config",
        str(finished / "config.yaml"),
        "--suites",
        "white@20,5",
        "rir",
        "--out",
        str(tmp_path / "out"),
    ]
    result = command_here("evaluate", str(finished / "theta"), *arguments)
    assert result.returncode == 0, result.stderr
    suites = json.loads((tmp_path / "out" / "evaluation.json").read_text())["suites"]
    assert [(name, suite["snr_db"], suite["rir"]) for name, suite in suites.items()] == [
        ("white20", 20, None),
        ("white5", 5, None),
        ("rir", None, "generated"),
    ]


def test_difference_to_the_dense_model_and_selection(finished, command_here, tmp_path):
    dense, pruned = (json.loads((finished / f"round_0{k}" / "metrics.json").read_text()) for k in (0, 2))
    for name in ("clean", "noise10"):
        difference = pruned["test"][name]["difference_to_dense"]
        assert difference["difference"] == pytest.approx(pruned["test"][name]["wer"] - dense["test"][name]["wer"])
        assert difference["interval"][0] <= difference["difference"] <= difference["interval"][1]
    result = command_here("select", str(finished), "--json", str(tmp_path / "tickets.json"))
    assert result.returncode == 0, result.stderr
    assert "extreme" in result.stdout
    assert (tmp_path / "tickets.json").is_file()


def test_theta_can_be_random_or_a_folder(finished, tiny_corpus, tmp_path, here):
    for name, model in {"folder": {"init": str(finished / "theta")}, "random": {"random_init": True}}.items():
        settings = {"model": {"init": str(finished / "theta")} | model, "theta": {}}
        config = write_settings(tiny_corpus, tmp_path / name, tmp_path / f"{name}.yaml", **settings)
        result = here("--config", str(config), "--search.rounds", "1")
        assert result.returncode == 0, result.stderr
    theta, folder, random_init = (
        load_file(run / "theta" / "model.safetensors") for run in (finished, tmp_path / "folder", tmp_path / "random")
    )
    assert all(torch.equal(theta[name], folder[name]) for name in theta)
    assert not torch.equal(theta["lm_head.weight"], random_init["lm_head.weight"])
