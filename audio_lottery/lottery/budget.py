"""What a model cost: optimiser steps and hours of speech, from θ on."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from audio_lottery.lottery.keep import files_needed
from audio_lottery.lottery.methods import Method
from audio_lottery.storage import read_json


def rounds_behind(method: Method, number: int) -> set[int]:
    """The rounds of this run that round ``number`` could not have been trained without, itself among them.

    Those whose weights it starts from, is pruned by or is taught by, and what is behind them. θ's own training is not
    among them, nor are masks of another run.
    """
    if number == 0:
        return {0}
    folders = {path.parent for path in files_needed(method, number)}
    before = {other for other in range(number) if method.folder.round(other) in folders}
    if method.rewind.needs_step:
        before.add(0)
    return {number}.union(*(rounds_behind(method, other) for other in before))


def own_budget(training: Mapping[str, Any]) -> dict[str, float] | None:
    """What one training cost; None where it was made by a version that did not count.

    Args:
        training: the entry of ``metrics.json``.
    """
    if "spent_steps" not in training:
        return None
    return {"steps": training["spent_steps"], "audio_hours": training["audio_seconds"] / 3600}


def total_budget(method: Method, number: int, training: Mapping[str, Any]) -> dict[str, float] | None:
    """What round ``number`` cost with all rounds behind it; None where one of these did not count.

    Args:
        method: of the run, whose earlier rounds are finished.
        number: the round.
        training: what its own training reports.
    """
    earlier = sorted(rounds_behind(method, number) - {number})
    parts = [own_budget(_training(method.folder.round(other))) for other in earlier] + [own_budget(training)]
    known = [part for part in parts if part is not None]
    if len(known) < len(parts):
        return None
    return {key: sum(part[key] for part in known) for key in ("steps", "audio_hours")}


def _training(folder: Path) -> Mapping[str, Any]:
    found: Mapping[str, Any] = read_json(folder / "metrics.json")["training"]
    return found
