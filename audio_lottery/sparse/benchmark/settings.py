"""The settings of a benchmark, and what makes them wrong."""

import math
import os
from dataclasses import dataclass

from audio_lottery.errors import ConfigError
from audio_lottery.sparse.benchmark.contestants import RUNTIMES
from audio_lottery.sparse.precision import PRECISIONS

# As the tables write them → as `pruning.parse_pattern` reads them.
PATTERNS = {"unstructured": "unstructured", "16x1": "block:16x1", "16x2": "block:16x2", "1x4": "block:1x4"}
CTRANSLATE2 = "ctranslate2"
"""A runtime that takes Whisper alone, see `whisper_contestants`."""

OWN = "audio_lottery"
"""The name of our runtime in tables."""

DENSE = "dense"
AS_PRUNED = "as pruned"


def runtime_names() -> tuple[str, ...]:
    """The runtimes of `RUNTIMES`, each once, those of single families, and ours."""
    return (*dict.fromkeys(runtime.name for runtime in RUNTIMES), CTRANSLATE2, OWN)


@dataclass(frozen=True)
class BenchmarkSettings:
    """What is measured, and how.

    Attributes:
        seconds: lengths of the audio.
        sparsities: shares of the prunable weights that are zero, in [0, 1).
        patterns: what is pruned as a whole; keys of `PATTERNS`.
        runtimes: of `runtime_names`; empty for all.
        repeats: timed calls of every contestant.
        threads: of every contestant.
        seed: of weights, audio and the order of turns.
        rest: seconds of sleep between two contestants.
        precisions: of ours; rivals run in all that they have.
    """

    seconds: tuple[float, ...] = (2.0, 10.0, 30.0)
    sparsities: tuple[float, ...] = (0.0, 0.8, 0.9, 0.95)
    patterns: tuple[str, ...] = tuple(PATTERNS)
    runtimes: tuple[str, ...] = ()
    repeats: int = 7
    threads: int = 2
    seed: int = 0
    rest: float = 0.02
    precisions: tuple[str, ...] = PRECISIONS

    def check(self) -> None:
        """Refuse what cannot be measured.

        Raises:
            ConfigError: names the setting, its value and what is possible.
        """
        for seconds in self.seconds:
            # Below 0.1 s the front end of most models has no frame left; no attention is made for an hour at once.
            if not 0.1 <= seconds <= 600:
                raise ConfigError(f"--seconds {seconds:g}: lengths of audio between 0.1 and 600 seconds are expected")
        for sparsity in self.sparsities:
            if not (0 <= sparsity < 1 and math.isfinite(sparsity)):
                raise ConfigError(f"--sparsities {sparsity:g}: shares of zero weights are expected, 0 or more, below 1")
        for flag, names, known in (
            ("--patterns", self.patterns, tuple(PATTERNS)),
            ("--precisions", self.precisions, PRECISIONS),
            ("--runtimes", self.runtimes, runtime_names()),
        ):
            for name in names:
                if name not in known:
                    raise ConfigError(f"{flag} {name}: not known; choose from {', '.join(known)}")
        if self.repeats < 1:
            raise ConfigError(f"--repeats {self.repeats}: at least one timed call is needed")
        check_threads(self.threads)
        lists: tuple[tuple[str, tuple[object, ...]], ...] = (
            ("--seconds", self.seconds),
            ("--sparsities", self.sparsities),
            ("--patterns", self.patterns),
            ("--precisions", self.precisions),
        )
        for flag, values in lists:
            if not values or len(set(values)) < len(values):
                raise ConfigError(f"{flag}: at least one value, and each of them once, is expected")


def check_threads(threads: int) -> None:
    """Refuse thread counts that this process cannot run side by side.

    Raises:
        ConfigError: fewer than one, or more than the cores that this process may use.
    """
    cores = available_cores()
    if not 1 <= threads <= cores:
        raise ConfigError(
            f"--threads {threads}: this process may use {cores} core{'s' if cores > 1 else ''}; give a number from 1 "
            f"to {cores}, because threads that wait for each other measure nothing"
        )


def available_cores() -> int:
    """Cores that this process may run on, which containers and taskset make fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
