"""One contestant of scripts/deploy_table.py, in a process of its own: transcribes, and says what that took.

It imports what its contestant needs and nothing more, so that the memory is that of a service which does the same.
"""

import importlib
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np


def main() -> None:
    """Read a job from standard input, print a line of JSON."""
    job = json.load(sys.stdin)
    load = LOADERS[job["kind"]](job)  # imports
    libraries = memory("VmRSS")
    transcribe = load()
    audio = np.load(job["audio"], mmap_mode="r")
    pieces = [np.array(audio[begin:end]) for begin, end in job["pieces"]]
    times = []
    for _ in range(2):
        wall, processor = time.perf_counter(), time.process_time()
        texts = [transcribe(samples) for samples in pieces]
        times.append((time.perf_counter() - wall, time.process_time() - processor))
    found = {
        "first": times[0][0],
        "wall": times[1][0],
        "processor": times[1][1],
        "libraries": libraries,
        "peak": memory("VmHWM"),
        "texts": texts,
    }
    print(json.dumps(found))


Transcribe = Callable[[np.ndarray], str]


def package(job: dict[str, Any]) -> Callable[[], Transcribe]:
    """`audio_lottery.transcribe.Recogniser`: a dense model on torch, a ticket on the sparse kernels."""
    from audio_lottery.transcribe import Recogniser

    if job["accelerate"] is not False:
        import audio_lottery.sparse.runtime.accelerate  # noqa: F401 - its kernels are libraries too

    def load() -> Transcribe:
        recogniser = Recogniser.load(
            job["model"], precision=job["precision"], threads=job["threads"], accelerate=job["accelerate"]
        )
        return lambda samples: recogniser.transcribe(samples).text

    return load


def exported(job: dict[str, Any]) -> Callable[[], Transcribe]:
    """recognise.py of an exported folder, which needs no torch."""
    sys.path.insert(0, job["model"])
    import recognise

    importlib.import_module(job["library"])
    return lambda: recognise.Recogniser(job["model"], job["threads"]).text


LOADERS = {"package": package, "exported": exported}


def memory(field: str) -> float:
    """A field of /proc/self/status, in MiB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field)) / 1024


if __name__ == "__main__":
    main()
