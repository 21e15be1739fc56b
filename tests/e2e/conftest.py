"""Running the package as users do: a process, its exit status and what it printed."""

import contextlib
import io
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from audio_lottery.cli import main, run_recipe

ROOT = Path(__file__).resolve().parents[2]
RECIPE = ROOT / "recipes" / "w2v2_imp.py"

Run = Callable[..., subprocess.CompletedProcess[str]]


def environment(**extra: str) -> dict[str, str]:
    """This process's environment with one thread per process: the machine may run several at once."""
    return os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": str(ROOT)} | extra


@pytest.fixture
def recipe() -> Run:
    """Run the recipe and wait for it."""

    def run(*arguments: str, **options) -> subprocess.CompletedProcess[str]:
        return execute([sys.executable, str(RECIPE), *arguments], **options)

    return run


@pytest.fixture
def command_line() -> Run:
    """Run ``audio-lottery`` and wait for it."""

    def run(*arguments: str, **options) -> subprocess.CompletedProcess[str]:
        return execute([sys.executable, "-m", "audio_lottery.cli", *arguments], **options)

    return run


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> Run:
    """The recipe in this process: starting one takes ten seconds, most mistakes are told within one."""

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        monkeypatch.setattr(sys, "argv", [str(RECIPE), *arguments])
        return _captured(arguments, lambda: run_recipe(RECIPE.parent / "configs" / "w2v2_mini.yaml"))

    return run


@pytest.fixture
def command_here() -> Run:
    """``audio-lottery`` in this process."""

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return _captured(arguments, lambda: main(arguments))

    return run


def _captured(arguments: Sequence[str], call: Callable[[], int]) -> subprocess.CompletedProcess[str]:
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        status = call()
    return subprocess.CompletedProcess(arguments, status, out.getvalue(), err.getvalue())


def execute(command: Sequence[str], **options) -> subprocess.CompletedProcess[str]:
    """Run a command, capturing its text output."""
    options.setdefault("env", environment())
    return subprocess.run(list(command), capture_output=True, text=True, timeout=300, check=False, **options)
