"""What the page's script draws, as JSON values: curves of WER, small multiples of suites, training curves."""

from collections.abc import Sequence
from typing import Any

from audio_lottery.lottery.select import SearchedRun
from audio_lottery.report.page.numbers import point_lines, rate, remaining
from audio_lottery.report.page.read import RunGroup

Series = dict[str, Any]
"""``name, colour, points, dense``; a point is ``x, y, low, high, lines, marks`` with WER in per cent."""


def all_suites(groups: Sequence[RunGroup]) -> list[str]:
    """Suites of all curves, in the order in which they first occur."""
    return list(dict.fromkeys(suite for group in groups for suite in group.suites))


def curves(groups: Sequence[RunGroup]) -> dict[str, list[Series]]:
    """Suite → one series per curve that was tested on it."""
    return {
        suite: [_curve(group, index, suite) for index, group in enumerate(groups) if suite in group.suites]
        for suite in all_suites(groups)
    }


def training(run: SearchedRun) -> list[Series]:
    """WER on dev over the steps of every training of a run: θ, where it was trained, and the rounds."""
    report = (run.theta or {}).get("training")
    lines = [_training("θ", -1, report)] if report else []
    lines += [_training(f"round {number}", number, metrics["training"]) for number, metrics in run.rounds.items()]
    return [line for line in lines if line["points"]]


def _curve(group: RunGroup, index: int, suite: str) -> Series:
    points = []
    for number in group.numbers:
        found = rate(group, number, suite)
        if found is not None:
            low, high = found.bounds or (None, None)
            points.append(
                {
                    "x": remaining(group, number),
                    "y": 100 * found.wer,
                    "low": None if low is None else 100 * low,
                    "high": None if high is None else 100 * high,
                    "lines": point_lines(group, number, suite, found),
                    "marks": group.marks(number),
                }
            )
    dense = points[0]["y"] if points and group.numbers[0] == 0 else None
    return {"name": group.name, "colour": index, "points": points, "dense": dense}


def _training(name: str, number: int, report: dict[str, Any]) -> Series:
    points = [
        {
            "x": entry["step"],
            "y": 100 * entry["wer"],
            "low": None,
            "high": None,
            "lines": [f"step {entry['step']:g}", f"dev WER {100 * entry['wer']:.2f} %"],
            "marks": ["kept"] if entry["step"] == report["best_step"] else [],
        }
        for entry in report["history"]
    ]
    return {"name": name, "colour": number, "points": points, "dense": None}
