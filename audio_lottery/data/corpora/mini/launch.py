"""Starts the synthesising processes, two at a time, and turns what they say into progress, hours or an error."""

import json
import os
import subprocess
import sys
import tempfile
import threading
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

from tqdm import tqdm

from audio_lottery.errors import CorpusError

_RECORDINGS = 2800  # of all three together, about: for the progress bar
_FAILED_WRITE = 3  # the child's exit status; its last line is then the OSError as JSON


def synthesise(corpora: list[str], folder: Path, limit: int | None = None) -> dict[str, dict[str, float]]:
    """Make ``corpora`` (names of `MINI`) under ``folder``, each in a fresh process, at most two at a time.

    Args:
        corpora: which.
        folder: where their layouts start.
        limit: at most this many utterances per chapter, speaker or talk: for tests.

    Returns:
        The hours of transcribed speech, by corpus and split.

    Raises:
        CorpusError: a process failed; the message is the last line it wrote.
        OSError: a process could not write a file.
    """
    running: list[subprocess.Popen[str]] = []
    stop = threading.Event()
    total = None if limit else _RECORDINGS
    with tqdm(total=total, desc="mini corpora", unit="utt", disable=None) as bar, ThreadPoolExecutor(2) as pool:
        jobs = {name: pool.submit(_child, name, folder, limit, bar, running, stop) for name in corpora}
        try:
            wait(jobs.values(), return_when=FIRST_EXCEPTION)
            for job in jobs.values():
                if job.done():
                    job.result()
            return {name: job.result() for name, job in jobs.items()}
        finally:
            # One failed, or the user pressed Ctrl-C: the others must not go on in the background.
            stop.set()
            for process in running:
                if process.poll() is None:
                    process.kill()


# The child is run as the top-level package ``mini``, from this folder's parent: importing it by its full name would
# import its parent packages, and with them whatever the readers need (datasets, torch).
_BOOT = (
    "import sys; sys.path.insert(0, sys.argv.pop(1)); sys.path.append(sys.argv.pop(1)); "
    "from mini.synthesise import main; main()"
)


def _child(
    corpus: str, folder: Path, limit: int | None, bar: Any, running: list[subprocess.Popen[str]], stop: threading.Event
) -> dict[str, float]:
    here = Path(__file__).resolve().parent
    if stop.is_set():
        return {}
    command = [sys.executable, "-P", "-c", _BOOT, str(here.parent), str(here.parents[3]), corpus, str(folder)]
    if limit is not None:
        command += ["--limit", str(limit)]
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "PYTHONIOENCODING": "utf-8"}
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as messages:
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=messages, text=True, env=environment) as process:
            running.append(process)
            if stop.is_set():  # set since the last look, when this process was not yet among those to be killed
                process.kill()
            result = ""
            for line in process.stdout or ():
                if line == ".\n":
                    bar.update()
                else:
                    result = line
        if process.returncode == 0:
            hours: dict[str, float] = json.loads(result)
            return hours
        messages.seek(0)
        said = [line.strip() for line in messages if line.strip()]
    last = said[-1] if said else f"no message, exit status {process.returncode}"
    if process.returncode == _FAILED_WRITE:
        raise OSError(*json.loads(last))
    raise CorpusError(f"{corpus}: the synthesis process failed: {last}; run the command again, or report it")
