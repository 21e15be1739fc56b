"""Running cells: each is a process of its own, here or on other machines; what is done is not run again.

The engines are existing ones: threads that wait for processes, Ray (Moritz et al. 2018, arXiv:1712.05889), and SLURM
through submitit. All they do is start one command and say how it ended.
"""

import ctypes
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from audio_lottery.config import GridConfig
from audio_lottery.errors import AudioLotteryError, ConfigError, RunError
from audio_lottery.grid.cells import Cell

logger = logging.getLogger(__name__)

Start = Callable[[Callable[[], int]], "Future[int]"]
"""A job (no arguments, returns an exit status) → its future."""

Launcher = Callable[[GridConfig], AbstractContextManager[Start]]


def run_cells(grid: GridConfig, cells: Sequence[Cell], when_done: Callable[[Cell], object] | None = None) -> None:
    """Run what is not done, at most ``grid.parallel`` cells side by side, each after those that it needs.

    Args:
        grid: where and how.
        cells: all that are needed, those that others need first.
        when_done: called of every cell that was run, as soon as it is done; what it raises fails the cell.

    A cell that fails stops nothing but what needs it. Killed at any moment, the same call goes on: searches continue
    at their last checkpoint, and what is done is only looked at.

    Raises:
        ConfigError: an unknown launcher, or one whose package is missing.
        RunError: names the cells that failed, with their logs; or a folder belongs to other settings.
    """
    if grid.launcher not in LAUNCHERS:
        raise ConfigError(f"launcher '{grid.launcher}' is not known; there are {', '.join(LAUNCHERS)}")
    if grid.parallel < 1:
        raise ConfigError(f"parallel is {grid.parallel}; it must be 1 or more")
    done = {cell.name for cell in cells if cell.done()}
    waiting = [cell for cell in cells if cell.name not in done]
    if done:
        logger.info("%d of %d jobs are done already", len(done), len(cells))
    if not waiting:
        return
    failed: dict[str, Path] = {}
    with LAUNCHERS[grid.launcher](grid) as start:
        running: dict[Future[int], Cell] = {}
        while waiting or running:
            ready = [cell for cell in waiting if done.issuperset(cell.needs)]
            for cell in ready[: grid.parallel - len(running)]:
                waiting.remove(cell)
                logger.info("%s: started, log in %s", cell.name, log_file(grid, cell))
                running[start(partial(run_process, command(grid, cell), log_file(grid, cell), _threads(grid)))] = cell
            if not running:  # what is left needs what has failed
                break
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                cell = running.pop(future)
                error = future.exception()
                finished = error is None and future.result() == 0 and cell.done()
                if finished and when_done is not None:
                    try:
                        when_done(cell)
                    except AudioLotteryError as found:
                        error, finished = found, False
                if error is not None:
                    logger.error("%s: %s", cell.name, error)
                if finished:
                    done.add(cell.name)
                    logger.info("%s: done, %d of %d", cell.name, len(done), len(cells))
                else:
                    failed[cell.name] = log_file(grid, cell)
                    logger.error("%s: failed; the last lines of %s say why", cell.name, failed[cell.name])
    if failed:
        logs = ", ".join(f"{name} ({log})" for name, log in failed.items())
        rest = f"; {len(waiting)} that need them were not started" if waiting else ""
        raise RunError(f"{len(failed)} of {len(cells)} jobs failed: {logs}{rest}; the same command tries them again")


def command(grid: GridConfig, cell: Cell) -> list[str]:
    """The command line of a cell's process."""
    start = [sys.executable, "-m"]
    if grid.accelerate:
        start += ["accelerate.commands.launch", *grid.accelerate, "-m"]
    return [*start, "audio_lottery.cli", "search", *cell.arguments]


def log_file(grid: GridConfig, cell: Cell) -> Path:
    """Where a cell's process writes what it prints."""
    return Path(grid.out) / "logs" / f"{cell.name}.log"


_LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None  # loaded before any fork


def _end_with_parent() -> None:
    """A grid that is killed must not leave searches that its next call would start a second time: prctl(2)."""
    _LIBC.prctl(1, signal.SIGKILL)  # type: ignore[union-attr]  # a search loses nothing by it


def run_process(words: Sequence[str], log: Path, environment: dict[str, str]) -> int:
    """Run a command with its output appended to ``log``; its exit status. It ends when this process does."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as file:
        return subprocess.run(
            list(words),
            stdout=file,
            stderr=file,
            env={**os.environ, **environment},
            check=False,
            preexec_fn=None if _LIBC is None else _end_with_parent,
        ).returncode


def _threads(grid: GridConfig) -> dict[str, str]:
    """Threads of a process: with several here, each has its share of the cores."""
    if grid.parallel == 1 or grid.launcher == "slurm" or "OMP_NUM_THREADS" in os.environ:
        return {}
    return {"OMP_NUM_THREADS": str(max(1, (os.cpu_count() or 1) // grid.parallel))}


@contextmanager
def _local(grid: GridConfig) -> Iterator[Start]:
    """Processes on this machine."""
    with ThreadPoolExecutor(grid.parallel) as pool:
        yield pool.submit


@contextmanager
def _ray(grid: GridConfig) -> Iterator[Start]:
    """Tasks of the Ray cluster in RAY_ADDRESS, or of one made here; Ray starts a task again whose worker dies."""
    ray = _import("ray", "ray")
    here = not os.environ.get("RAY_ADDRESS")
    ray.init(
        num_cpus=grid.parallel if here else None, log_to_driver=False, include_dashboard=False, configure_logging=False
    )
    try:
        task = ray.remote(num_cpus=1, max_retries=3)(_call)
        yield lambda job: task.remote(job).future()
    finally:
        ray.shutdown()


@contextmanager
def _slurm(grid: GridConfig) -> Iterator[Start]:
    """SLURM jobs through submitit; where there is no SLURM, submitit runs processes here."""
    submitit = _import("submitit", "slurm")
    executor = submitit.AutoExecutor(folder=str(Path(grid.out) / "logs" / "slurm"))
    try:
        executor.update_parameters(**{"name": "audio_lottery", "timeout_min": 24 * 60, **grid.slurm})
    except (NameError, TypeError, ValueError, RuntimeError) as error:
        raise ConfigError(f"slurm: {error}") from error
    with ThreadPoolExecutor(grid.parallel) as pool:  # its threads wait for the jobs
        yield lambda job: pool.submit(executor.submit(job).result)


LAUNCHERS: dict[str, Launcher] = {"local": _local, "ray": _ray, "slurm": _slurm}


def _call(job: Callable[[], int]) -> int:
    return job()


def _import(module: str, extra: str) -> Any:
    from importlib import import_module

    try:
        return import_module(module)
    except ImportError as error:
        raise ConfigError(
            f"this launcher needs the package {module}; install it with pip install 'audio-lottery[{extra}]'"
        ) from error
