"""Finished searches, read for the selection of tickets."""

import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from audio_lottery.errors import ConfigError, RunError
from audio_lottery.evaluation.counts import ErrorCounts, count_errors
from audio_lottery.evaluation.transcripts import read_transcripts
from audio_lottery.lottery.run_folder import MODEL_FILE, RunFolder
from audio_lottery.settings import MAY_CHANGE, differing, read_settings
from audio_lottery.storage import is_sealed, read_json, removal_reason

logger = logging.getLogger(__name__)

# Settings that may differ between two seeds of one configuration.
# Controls of a ticket have the ticket of their own seed.
_PER_SEED = MAY_CHANGE | {"seed", "pruning.ticket"}


@dataclass(frozen=True, slots=True)
class SearchedRound:
    """What is needed of one round; ``removed`` says why its model is not there, if it is not.

    ``budget`` is what it cost from θ on; None where the version that made it did not count.
    """

    remaining_percent: float
    mask_sha256: str
    removed: str
    budget: Mapping[str, float] | None
    dev: ErrorCounts
    test: ErrorCounts


@dataclass(frozen=True, slots=True)
class SearchedRun:
    """What is needed of one search: its settings, and its finished rounds by number."""

    path: Path
    settings: dict[str, Any]
    seed: int
    rounds: dict[int, SearchedRound]


def read_run(path: Path, suite: str) -> SearchedRun:
    """Read a run folder.

    Args:
        path: the folder.
        suite: test suite to report.

    Raises:
        RunError: it is not a run, or lacks its dense round, a pruned one, dev transcripts or the suite.
        TextError: a transcript file is damaged.
    """
    settings = read_settings(path / "config.yaml")
    folders = {
        int(match.group(1)): folder
        for folder in path.glob("round_*")
        if (match := re.fullmatch(r"round_(\d+)", folder.name)) and is_sealed(folder)
    }
    if 0 not in folders:
        raise RunError(
            f"{path} has no finished {RunFolder(path).round(0).name}, the dense model that tickets are compared with; "
            "run the search first"
        )
    if len(folders) == 1:
        raise RunError(f"{path} has the dense model only and no pruned round; run the search with --search.rounds 1+")
    rounds = {number: _read_round(folder, suite) for number, folder in sorted(folders.items())}
    return SearchedRun(path, settings, int(settings["seed"]), rounds)


def _read_round(folder: Path, suite: str) -> SearchedRound:
    metrics = read_json(folder / "metrics.json")
    return SearchedRound(
        metrics["remaining_percent"],
        metrics["mask_sha256"],
        removal_reason(folder, MODEL_FILE) or "",
        metrics.get("budget"),
        _read_counts(folder, "dev", metrics["dev"]),
        suite_counts(folder, metrics, suite),
    )


def suite_counts(folder: Path, metrics: Mapping[str, Any], suite: str) -> ErrorCounts:
    """Errors of a round on a test suite, from its transcripts.

    Args:
        folder: of the round.
        metrics: its ``metrics.json``.
        suite: of the tests.

    Raises:
        RunError: the round was not tested on the suite, or kept no transcripts.
        TextError: the transcripts are damaged.
    """
    if suite not in metrics["test"]:
        raise RunError(f"{folder} was not tested on suite '{suite}'; there are: {', '.join(metrics['test'])}")
    return _read_counts(folder, suite, metrics["test"][suite])


def _read_counts(folder: Path, name: str, result: dict[str, Any]) -> ErrorCounts:
    path = folder / "hypotheses" / f"{name}.tsv"
    if not path.is_file():
        raise RunError(
            f"{path} is missing, and tickets are chosen on it: the round was made by a version that kept no "
            f"transcripts of {name}; run the search again into a new folder (--run_dir)"
        )
    table = read_transcripts(path)
    normalizer = result["normalizer"]
    counts = count_errors(table.ids, table.references, table.hypotheses, normalizer, speakers=table.speakers)
    if counts.wer != result["wer"]:
        logger.warning(
            "%s gives a WER of %.4f and metrics.json says %.4f: the file or the normalizer '%s' has changed since; "
            "the file is used",
            path,
            counts.wer,
            result["wer"],
            normalizer,
        )
    return counts


def check_seeds(runs: list[SearchedRun]) -> None:
    """Refuse runs that are not seeds of one configuration.

    Raises:
        ConfigError: there is none.
        RunError: they differ in more than the seed, or not in the seed.
    """
    if not runs:
        raise ConfigError("no run folder was given")
    first = runs[0]
    for index, run in enumerate(runs[1:], start=1):
        different = differing(first.settings, run.settings, _PER_SEED)
        if different:
            values = ", ".join(f"{d.name} ({d.one!r} and {d.other!r})" for d in different)
            raise RunError(
                f"{first.path} and {run.path} are not seeds of one configuration, they differ in {values}; "
                "select from each alone"
            )
        for other in runs[:index]:
            if other.seed == run.seed:
                raise RunError(
                    f"{other.path} and {run.path} have the same seed {run.seed}, so they are not two samples; "
                    "give runs with different --seed"
                )
