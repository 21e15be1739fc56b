"""A comparison as users run it: real searches, killed in the middle, continued, read."""

import csv
import json
import re
import signal
import subprocess
import sys
import time

import pytest
import yaml

from audio_lottery.cli import main
from tests.conftest import tiny_settings
from tests.e2e.conftest import ROOT, environment

SEEDS = (1, 2)


@pytest.fixture
def grid(tiny_corpus, tmp_path):
    """A random start, and one that was trained on the same toy corpus first, in a file."""
    settings = tiny_settings(tiny_corpus, tmp_path / "unused")
    del settings["run_dir"], settings["seed"]
    theta = {"train": settings["data"]["train"], "dev": settings["data"]["dev"]}
    settings |= {"theta": {"train": [], "dev": [], "training": settings["training"]}, "search": {"rounds": 1}}
    document = {
        "out": str(tmp_path / "out"),
        "records": str(tmp_path / "records"),
        "seeds": list(SEEDS),
        "parallel": 2,
        "settings": settings,
        "arms": {"theta0": {"label": "θ0"}, "theta_toy": {"label": "θ <toy>", "pretrain": theta}},
    }
    path = tmp_path / "grid.yaml"
    path.write_text(yaml.safe_dump(document, allow_unicode=True))
    return path


def test_a_comparison_that_was_killed_runs_what_is_missing_and_is_read(grid, tmp_path, capsys, monkeypatch):
    command = [sys.executable, str(ROOT / "recipes" / "compare_inits.py"), str(grid)]
    out = tmp_path / "out"
    process = subprocess.Popen(command, env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    until = time.monotonic() + 240
    while not (out / "theta0-seed1" / "summary.csv").exists():
        assert process.poll() is None
        assert time.monotonic() < until
        time.sleep(0.1)
    process.send_signal(signal.SIGKILL)
    process.wait()
    finished = (out / "theta0-seed1" / "round_00" / "done").stat().st_mtime_ns

    for name, value in environment().items():
        monkeypatch.setenv(name, value)
    assert main(["compare", str(grid)]) == 0
    printed = capsys.readouterr().out
    assert (out / "theta0-seed1" / "round_00" / "done").stat().st_mtime_ns == finished
    assert "θ <toy> - θ0, points" in printed
    rows = list(csv.DictReader((out / "comparison.csv").open(encoding="utf-8")))
    assert {(row["arm"], row["seed"], row["round"]) for row in rows} == {
        (arm, str(seed), str(number)) for arm in ("θ0", "θ <toy>") for seed in SEEDS for number in (0, 1)
    }
    points = json.loads((out / "comparison.json").read_text())["clean"]
    for point in points:
        own = [
            float(row["wer"])
            for row in rows
            if (row["arm"], row["suite"], row["round"]) == (point["arm"], "clean", str(point["round"]))
        ]
        assert point["wer"]["mean"] == pytest.approx(sum(own) / len(own))
        assert (point["verdict"] == "") == (point["arm"] == "θ0")
    page = (out / "comparison.html").read_text(encoding="utf-8")
    assert "θ &lt;toy&gt;" in page
    assert not re.search(r"<toy>", page)
    assert (out / "comparison.svg").stat().st_size > 10_000
    assert (out / "overlap.png").exists()

    before = {name: (out / f"comparison.{name}").read_bytes() for name in ("md", "csv", "json", "png", "svg")}
    assert main(["compare", str(grid), "--table-only"]) == 0
    assert (out / "comparison.json").read_bytes() == before["json"]
    assert main(["compare", str(grid), "--set", "training.max_steps=3"]) == 2
    assert "belongs to a run with other settings: training.max_steps" in capsys.readouterr().err

    out.rename(tmp_path / "another machine has it")
    assert {path.stem for path in (tmp_path / "records").iterdir()} == {
        f"{arm}-seed{seed}" for arm in ("theta0", "theta_toy") for seed in SEEDS
    }
    assert main(["compare", str(grid)]) == 0, "nothing is left to run"
    assert {name: (out / f"comparison.{name}").read_bytes() for name in before} == before
    assert not list(out.glob("*-*"))
    assert main(["compare", str(grid), "--set", "training.max_steps=3"]) == 2
    assert "theta0-seed1.json is the record of a search with other settings: training.max" in capsys.readouterr().err
