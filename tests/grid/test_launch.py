"""Running cells: order, failures, kills, and the engines, with processes that only write a file."""

import os
import signal
import subprocess
import sys
import textwrap
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from audio_lottery.config import ArmConfig, GridConfig
from audio_lottery.errors import ConfigError, RunError
from audio_lottery.grid import launch
from audio_lottery.grid.launch import run_cells


@dataclass(frozen=True)
class Job:
    """A cell that is done when its file is there."""

    name: str
    out: Path
    needs: tuple[str, ...] = ()
    code: str = ""

    def done(self) -> bool:
        return (self.out / self.name).exists()


def jobs_grid(out: Path, launcher: str = "local", parallel: int = 2) -> GridConfig:
    return GridConfig({"a": ArmConfig()}, out=str(out), launcher=launcher, parallel=parallel)


@pytest.fixture
def ran(monkeypatch):
    """Jobs write "start" and, at their end, their file; what they need must be there."""

    def command(grid, job):
        needed = [str(job.out / name) for name in job.needs]
        lines = f"""
            import os, pathlib, sys, time
            with open({str(job.out / "order")!r}, "a") as file: file.write({job.name!r} + "\\n")
            assert all(os.path.exists(path) for path in {needed!r})
            {job.code or "pass"}
            pathlib.Path({str(job.out / job.name)!r}).write_text("done")
        """
        return [sys.executable, "-c", textwrap.dedent(lines)]

    monkeypatch.setattr(launch, "command", command)


def started(out: Path) -> list[str]:
    return (out / "order").read_text().split()


@pytest.mark.usefixtures("ran")
@pytest.mark.parametrize("launcher", ["local", "slurm"])  # without SLURM, submitit runs processes here
def test_what_is_missing_runs_in_order(tmp_path, launcher):
    grid = jobs_grid(tmp_path, launcher)
    jobs = [Job("theta", tmp_path), *(Job(f"seed{n}", tmp_path, ("theta",)) for n in range(3))]
    (tmp_path / "seed1").write_text("done before")
    run_cells(grid, jobs)
    assert started(tmp_path)[0] == "theta"
    assert sorted(started(tmp_path)) == ["seed0", "seed2", "theta"]
    run_cells(grid, jobs)
    assert len(started(tmp_path)) == 3, "nothing is run twice"


@pytest.mark.usefixtures("ran")
def test_what_fails_stops_only_what_needs_it(tmp_path):
    jobs = [
        Job("bad", tmp_path, code="sys.exit('no corpus there')"),
        Job("after", tmp_path, ("bad",)),
        Job("other", tmp_path),
    ]
    with pytest.raises(RunError, match=r"1 of 3 jobs failed: bad \(.*bad.log\); 1 that need them were not started"):
        run_cells(jobs_grid(tmp_path, parallel=1), jobs)
    assert (tmp_path / "other").exists()
    assert "no corpus there" in (tmp_path / "logs" / "bad.log").read_text()


@pytest.mark.usefixtures("ran")
def test_what_is_done_is_told_at_once_and_an_objection_fails_it(tmp_path):
    told = []

    def object_to(job):
        told.append((job.name, sorted(path.name for path in tmp_path.glob("[a-z]"))))
        if job.name == "b":
            raise RunError("its record says otherwise")

    jobs = [Job("a", tmp_path), Job("b", tmp_path), Job("c", tmp_path, ("b",)), Job("d", tmp_path)]
    (tmp_path / "d").write_text("done before")
    with pytest.raises(RunError, match=r"1 of 4 jobs failed: b \(.*; 1 that need them were not started"):
        run_cells(jobs_grid(tmp_path, parallel=1), jobs, object_to)
    assert told == [("a", ["a", "d"]), ("b", ["a", "b", "d"])]


@pytest.mark.usefixtures("ran")
def test_a_job_that_says_it_is_well_but_left_nothing_has_failed(tmp_path):
    with pytest.raises(RunError, match="1 of 1 jobs failed"):
        run_cells(jobs_grid(tmp_path), [Job("a", tmp_path, code="sys.exit(0)")])


@pytest.mark.usefixtures("ran")
def test_ray_starts_a_job_again_whose_worker_was_killed(tmp_path):
    kill_first = (
        f"first = not os.path.exists({str(tmp_path / 'killed')!r}); open({str(tmp_path / 'killed')!r}, 'w');"
        f"first and (os.kill(os.getppid(), {int(signal.SIGKILL)}), time.sleep(60))"
    )
    jobs = [Job("killed_once", tmp_path, code=kill_first), Job("other", tmp_path), Job("after", tmp_path, ("other",))]
    run_cells(jobs_grid(tmp_path, "ray"), jobs)
    assert sorted(started(tmp_path)) == ["after", "killed_once", "killed_once", "other"]


def test_unknown_launchers_and_impossible_numbers(tmp_path):
    with pytest.raises(ConfigError, match="launcher 'pbs' is not known; there are local, ray, slurm"):
        run_cells(jobs_grid(tmp_path, "pbs"), [])
    with pytest.raises(ConfigError, match="parallel is 0"):
        run_cells(jobs_grid(tmp_path, parallel=0), [])


def test_a_missing_package_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ConfigError, match=r"needs the package ray; install it with pip install 'audio-lottery\[ray\]'"):
        run_cells(jobs_grid(tmp_path, "ray"), [Job("a", tmp_path)])


@pytest.mark.skipif(sys.platform != "linux", reason="prctl")
def test_a_grid_that_is_killed_leaves_no_search_behind(tmp_path):
    program = (
        "from pathlib import Path; import sys; from audio_lottery.grid.launch import run_process;"
        f'run_process([sys.executable, \'-c\', \'import os, time; open("{tmp_path}/pid", "w").write(str(os.getpid()));'
        f" time.sleep(60)'], Path('{tmp_path}/log'), {{}})"
    )
    parent = subprocess.Popen([sys.executable, "-c", program])
    try:
        until = time.monotonic() + 60
        while not ((tmp_path / "pid").is_file() and (tmp_path / "pid").read_text()):
            assert time.monotonic() < until
            time.sleep(0.05)
        child = int((tmp_path / "pid").read_text())
    finally:
        parent.kill()
        parent.wait()
    until = time.monotonic() + 10
    while Path(f"/proc/{child}").exists() and time.monotonic() < until:
        if "\nState:\tZ" in Path(f"/proc/{child}/status").read_text():
            break
        time.sleep(0.05)
    else:
        assert not Path(f"/proc/{child}").exists()
    assert os.path.exists(tmp_path / "log")
