"""Finished rounds of a search, read for the selection of tickets, for tables and for pages."""

import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from audio_lottery.errors import ConfigError, RunError
from audio_lottery.evaluation.counts import ErrorCounts, TextlessCounts, count_errors
from audio_lottery.evaluation.transcripts import read_transcripts
from audio_lottery.lottery.run_folder import MASK_FILE, MODEL_FILE, RunFolder
from audio_lottery.pruning import Mask
from audio_lottery.settings import MAY_CHANGE, differing, settings_in, settings_text
from audio_lottery.sparse.format import FILE as SPARSE_FILE
from audio_lottery.storage import is_sealed, read_json, removal_reason

logger = logging.getLogger(__name__)

DEV = "dev"
"""What the set on which tickets are chosen is called beside the test suites."""

BENCH_FILE = "bench.json"
"""Times of a run's tickets, where ``audio-lottery bench --json RUN/bench.json`` wrote them."""

# Settings that may differ between two seeds of one configuration.
# Controls of a ticket have the ticket of their own seed.
_PER_SEED = MAY_CHANGE | {"seed", "pruning.ticket"}


@dataclass(frozen=True, eq=False)
class SearchedRun:
    """A search, as its run folder holds it; what is read when it is asked for is a method.

    Attributes:
        folder: its paths.
        config: ``config.yaml`` as it stands.
        theta: metrics of the rewind point; None where it was not trained.
        rounds: ``metrics.json`` by round, only of rounds that are finished, the dense one first.
        bench: rows of `BENCH_FILE`; empty where nothing was measured.
    """

    folder: RunFolder
    config: str
    theta: Mapping[str, Any] | None
    rounds: Mapping[int, Mapping[str, Any]]
    bench: Sequence[Mapping[str, Any]]

    @cached_property
    def settings(self) -> Mapping[str, Any]:
        """The settings by dotted name, as the present version understands them.

        Raises:
            RunError: one of them means nothing to it.
        """
        return settings_in(self.config, self.folder.path / "config.yaml")

    def errors(self, number: int, name: str) -> TextlessCounts:
        """Errors of a round on ``dev`` or on a test suite.

        Raises:
            RunError: the round was not tested on it, or kept no transcripts.
            TextError: the transcripts are damaged.
        """
        return self.texts(number, name).textless()

    def texts(self, number: int, name: str) -> ErrorCounts:
        """The same with what was said and recognised; raises what `errors` does."""
        return _read_counts(self.folder.round(number), name, self.result(number, name))

    def result(self, number: int, name: str) -> Mapping[str, Any]:
        """What ``metrics.json`` says of a round on ``dev`` or on a test suite.

        Raises:
            RunError: the round was not tested on it.
        """
        metrics = self.rounds[number]
        found: Mapping[str, Any] | None = metrics[DEV] if name == DEV else metrics["test"].get(name)
        if found is None:
            tested = ", ".join(metrics["test"])
            raise RunError(f"{self.folder.round(number)} was not tested on suite '{name}'; there are: {tested}")
        return found

    def mask(self, number: int) -> Mask | None:
        """The mask of a round; None where it is not at hand.

        Raises:
            MaskError: the file is damaged.
        """
        path = self.folder.round(number) / MASK_FILE
        return Mask.load(path) if path.is_file() else None

    def removed(self, number: int) -> str:
        """Why the model of a round is not there; empty where it is."""
        return removal_reason(self.folder.round(number), MODEL_FILE) or ""

    def sparse_bytes(self, number: int) -> int | None:
        """Bytes of the sparse file that ``compress`` wrote of a round; None where it did not."""
        path = self.folder.round(number)
        files = [path / SPARSE_FILE, path / "sparse" / SPARSE_FILE]
        return next((file.stat().st_size for file in files if file.is_file()), None)


def read_run(path: Path) -> SearchedRun:
    """Read a run folder; rounds that are not finished are left out, and there may be none.

    Raises:
        RunError: it is not a run folder, or a file of it is damaged.
    """
    folder = RunFolder(path)
    config = settings_text(path / "config.yaml")
    found = sorted(
        (int(match.group(1)), entry)
        for entry in path.glob("round_*")
        if (match := re.fullmatch(r"round_(\d+)", entry.name)) and is_sealed(entry)
    )
    theta = read_json(folder.theta / "metrics.json") if is_sealed(folder.theta) else None
    rounds = {number: read_json(entry / "metrics.json") for number, entry in found}
    bench = read_json(path / BENCH_FILE) if (path / BENCH_FILE).is_file() else []
    return SearchedRun(folder, config, theta, rounds, bench)


def _read_counts(folder: Path, name: str, result: Mapping[str, Any]) -> ErrorCounts:
    path = folder / "hypotheses" / f"{name}.tsv"
    if not path.is_file():
        raise RunError(
            f"{path} is missing, and tickets are chosen on it: the round was made by a version that kept no "
            f"transcripts of {name}; run the search again into a new folder (--run_dir)"
        )
    table = read_transcripts(path)
    normalizer = result["normalizer"]
    counts = count_errors(table.ids, table.references, table.hypotheses, normalizer, speakers=table.speakers)
    warn_changed(counts.wer, result, path)
    return counts


def warn_changed(wer: float, result: Mapping[str, Any], path: Path) -> None:
    """Say so where the WER of what ``path`` holds is not that of the metrics."""
    if wer != result["wer"]:
        logger.warning(
            "%s gives a WER of %.4f and metrics.json says %.4f: the file or the normalizer '%s' has changed since; "
            "the file is used",
            path,
            wer,
            result["wer"],
            result["normalizer"],
        )


def check_seeds(runs: Sequence[SearchedRun]) -> None:
    """Refuse runs that are not seeds of one configuration, or have no ticket to choose.

    Raises:
        ConfigError: there is none.
        RunError: they differ in more than the seed, or not in the seed; or one has no dense round, or no other.
    """
    if not runs:
        raise ConfigError("no run folder was given")
    settings = [run.settings for run in runs]  # what cannot be read is told before what is not there
    for run in runs:
        _check_rounds(run)
    first = runs[0]
    for index, run in enumerate(runs[1:], start=1):
        different = differing(settings[0], settings[index], _PER_SEED)
        if different:
            values = ", ".join(f"{d.name} ({d.one!r} and {d.other!r})" for d in different)
            raise RunError(
                f"{first.folder.path} and {run.folder.path} are not seeds of one configuration, they differ in "
                f"{values}; select from each alone"
            )
        for earlier, other in enumerate(runs[:index]):
            if settings[earlier]["seed"] == settings[index]["seed"]:
                raise RunError(
                    f"{other.folder.path} and {run.folder.path} have the same seed {settings[index]['seed']}, so they "
                    "are not two samples; give runs with different --seed"
                )


def _check_rounds(run: SearchedRun) -> None:
    path = run.folder.path
    if 0 not in run.rounds:
        raise RunError(
            f"{path} has no finished {run.folder.round(0).name}, the dense model that tickets are compared with; "
            "run the search first"
        )
    if len(run.rounds) == 1:
        raise RunError(f"{path} has the dense model only and no pruned round; run the search with --search.rounds 1+")
