"""What a comparison found: WER of every arm at every density, and its difference to the first arm's."""

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from audio_lottery.errors import ConfigError
from audio_lottery.evaluation.compare import Aggregate
from audio_lottery.lottery.select import SetResult, measure
from audio_lottery.report.columns import percent, percent_interval
from audio_lottery.report.page import ExtraTable, RunGroup
from audio_lottery.report.page.numbers import remaining, spent
from audio_lottery.storage import write_bytes, write_json

# Two rounds are at the same density where their remaining weights, in points, differ by less.
_SAME_DENSITY = 0.5

_COLUMNS = ("arm", "seed", "round", "remaining_percent", "suite", "wer", "wer_low", "wer_high", "mask_sha256")


@dataclass(frozen=True, slots=True)
class Point:
    """One arm at one density on one suite.

    Attributes:
        arm: its label.
        round: its round.
        remaining_percent: mean over the seeds; of a control that stays dense, see `stands_at`.
        result: WER over the seeds; its difference is to the first arm at the same density.
        verdict: ``better``, ``worse`` or ``not resolved``: than the first arm; empty for it, and where it has no round
            at this density.
    """

    arm: str
    round: int
    remaining_percent: float
    result: SetResult
    verdict: str

    def to_dict(self) -> dict[str, Any]:
        """The record as JSON values; rates are fractions."""
        return {
            "arm": self.arm,
            "round": self.round,
            "remaining_percent": self.remaining_percent,
            "verdict": self.verdict,
            **self.result.to_dict(),
        }


def compare_arms(groups: Sequence[RunGroup], suite: str, *, resamples: int = 1000, seed: int = 0) -> list[Point]:
    """Every arm at every density on one suite, against the first arm.

    Differences are paired: the same utterances, seed by seed. An arm is called better or worse only where neither
    interval holds zero, over utterances (paired bootstrap) and, with several seeds, over seeds (paired t).

    Args:
        groups: one per arm, with the same seeds in the same order.
        suite: of the tests.
        resamples: bootstrap resamples.
        seed: of the resamples.

    Raises:
        ConfigError: arms with different seeds.
        RunError: a run lacks its transcripts or the suite.
        TextError: transcripts are damaged, or arms were tested on different utterances.
    """
    first = groups[0]
    for group in groups:
        if _seeds(group) != _seeds(first):
            raise ConfigError(f"'{group.name}' has other seeds than '{first.name}', so they cannot be paired")
    counts = {
        (group.name, number): [run.errors(number, suite) for run in group.runs]
        for group in groups
        for number in group.numbers
    }
    points = []
    for group in groups:
        for number in group.numbers:
            place = stands_at(group, number, first)
            match = None if group is first else _at(first, place)
            base = [] if match is None else counts[first.name, match]
            result = measure(counts[group.name, number], base, resamples, seed)
            points.append(Point(group.name, number, place, result, _verdict(result)))
    return points


def stands_at(group: RunGroup, number: int, first: RunGroup) -> float:
    """The density, in per cent, at which a round is shown and compared: its own.

    Rounds of an arm that stays dense (`pruning.control: dense`) have had the training of the rounds of the same number,
    so each of them stands at the density that the first arm has by then.
    """
    stays = number > 0 and abs(remaining(group, number) - remaining(group, 0)) < _SAME_DENSITY
    return remaining(first if stays and number in first.numbers else group, number)


def common_budgets(groups: Sequence[RunGroup]) -> dict[float, int]:
    """Density in per cent, to one digit → the optimiser steps that every arm has spent up to it, from θ on.

    Empty where arms have spent different numbers, or one of them did not count.
    """
    found: dict[float, set[int]] = {}
    for group in groups:
        for number in group.numbers:
            cost = spent(group, number)
            if cost is None:
                return {}
            found.setdefault(round(stands_at(group, number, groups[0]), 1), set()).add(round(cost["steps"]))
    if any(len(steps) > 1 for steps in found.values()):
        return {}
    return {place: steps.pop() for place, steps in found.items()}


def _seeds(group: RunGroup) -> list[int]:
    return [run.rounds[0]["seed"] for run in group.runs]


def _at(group: RunGroup, place: float) -> int | None:
    """The round that is at this density in every run."""
    for number in group.numbers:
        if all(abs(run.rounds[number]["remaining_percent"] - place) < _SAME_DENSITY for run in group.runs):
            return number
    return None


def _verdict(result: SetResult) -> str:
    if result.difference is None:
        return ""
    intervals = [result.difference_bounds]
    if result.over_seeds is not None and result.wer.n > 1:
        intervals.append(result.over_seeds.interval)
    if any(bounds is None for bounds in intervals):
        return "not resolved"
    if all(bounds[1] < 0 for bounds in intervals if bounds):
        return "better"
    if all(bounds[0] > 0 for bounds in intervals if bounds):
        return "worse"
    return "not resolved"


def difference_table(points: Sequence[Point], suite: str) -> ExtraTable:
    """A row per density; for every arm its WER with interval, for all but the first also the difference to it."""
    arms = list(dict.fromkeys(point.arm for point in points))
    header = ["RW %", f"{arms[0]}: WER %"]
    for arm in arms[1:]:
        header += [f"{arm}: WER %", f"{arm} - {arms[0]}, points"]
    places: list[float] = []
    for place in sorted((point.remaining_percent for point in points), reverse=True):
        if not places or places[-1] - place >= _SAME_DENSITY:
            places.append(place)
    body = []
    for place in places:
        cells = [f"{place:.2f}"]
        for arm in arms:
            point = next((p for p in points if p.arm == arm and abs(p.remaining_percent - place) < _SAME_DENSITY), None)
            cells.append("-" if point is None else _wer(point.result))
            if arm != arms[0]:
                cells.append("-" if point is None else _difference(point))
        body.append(cells)
    seeds = max(point.result.wer.n for point in points)
    over = f"mean of {seeds} seeds, 95 % interval over seeds" if seeds > 1 else "95 % interval over utterances"
    note = (
        f"Suite {suite}. WER: {over}. Differences: paired, 95 % interval over utterances"
        + (" and, after the bar, over seeds" if seeds > 1 else "")
        + "; better or worse only where none holds zero."
    )
    return ExtraTable(f"{', '.join(arms[1:]) or arms[0]} beside {arms[0]}", header, body, note)


def markdown(table: ExtraTable) -> str:
    """The table as Markdown."""
    rows = [table.header, ["---:"] * len(table.header), *table.body]
    lines = ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows]
    return "\n".join([*lines, "", table.note, ""])


def write_rows(groups: Sequence[RunGroup], path: Path) -> None:
    """Every measured WER as CSV: one row per arm, seed, round and suite; rates are fractions.

    Raises:
        StorageError: the file could not be written.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(_COLUMNS)
    for group in groups:
        for run in group.runs:
            for number, metrics in sorted(run.rounds.items()):
                for suite, result in {"dev": metrics["dev"], **metrics["test"]}.items():
                    where = group.name, metrics["seed"], number, metrics["remaining_percent"], suite
                    bounds = result["wer_interval"] or ("", "")
                    writer.writerow([*where, result["wer"], *bounds, metrics["mask_sha256"]])
    write_bytes(path, text.getvalue().encode())


def write_points(points: dict[str, list[Point]], path: Path) -> None:
    """Suite → points as JSON.

    Raises:
        StorageError: the file could not be written.
    """
    write_json(path, {suite: [point.to_dict() for point in found] for suite, found in points.items()})


def _wer(result: SetResult) -> str:
    bounds = "" if result.bounds is None else f" {percent_interval(result.bounds)}"
    return percent(result.wer.mean) + bounds


def _difference(point: Point) -> str:
    found = point.result
    if found.difference is None:
        return "-"
    text = percent(found.difference.difference, sign=True)
    if found.difference_bounds is not None:
        text += f" {percent_interval(found.difference_bounds, sign=True)}"
    over: Aggregate | None = found.over_seeds
    if over is not None and over.interval is not None:
        text += f" | {percent_interval(over.interval, sign=True)}"
    return f"{text} {point.verdict}"
