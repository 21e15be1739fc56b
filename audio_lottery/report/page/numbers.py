"""The numbers of a curve: one run's own, or means over seeds; fractions, as measured."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from audio_lottery.evaluation.compare import aggregate, aggregate_differences
from audio_lottery.lottery.select import DEV, mean_budget
from audio_lottery.report.columns import percent, percent_interval
from audio_lottery.report.page.read import RunGroup

Bounds = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Rate:
    """A WER of one round: mean over the seeds, 95 % interval over utterances (one seed) or over seeds (several)."""

    wer: float
    bounds: Bounds | None
    difference: float | None
    difference_bounds: Bounds | None


def rate(group: RunGroup, number: int, suite: str) -> Rate | None:
    """The WER of one round on a suite or on dev, and its difference to dense; None where it was not tested."""
    results = [_result(run.rounds[number], suite) for run in group.runs]
    dense = [_result(run.rounds[0], suite) for run in group.runs]
    if any(one is None for one in (*results, *dense)):
        return None
    rates, base = [one["wer"] for one in results if one], [one["wer"] for one in dense if one]
    mean = aggregate(rates)
    if len(rates) > 1:
        over = aggregate_differences(rates, base)
        return Rate(
            mean.mean, mean.interval, None if number == 0 else over.mean, None if number == 0 else over.interval
        )
    only = results[0] or {}
    difference = only.get("difference_to_dense") or {}
    return Rate(
        mean.mean,
        _bounds(only.get("wer_interval")),
        difference.get("difference"),
        _bounds(difference.get("interval")),
    )


def remaining(group: RunGroup, number: int, key: str = "remaining_percent") -> float:
    """Remaining weights in per cent, mean over the seeds; ``remaining_percent_all`` counts all parameters."""
    return aggregate([run.rounds[number][key] for run in group.runs]).mean


def spent(group: RunGroup, number: int) -> dict[str, float] | None:
    """Steps and hours of speech that a round cost from θ on, mean over the seeds; None where it was not counted."""
    return mean_budget([run.rounds[number].get("budget") for run in group.runs])


def point_lines(group: RunGroup, number: int, suite: str, found: Rate) -> list[str]:
    """What a hovered point says."""
    several = f" (mean of {len(group.runs)} seeds)" if len(group.runs) > 1 else ""
    lines = [
        f"round {number}: {remaining(group, number):.2f} % remaining",
        f"WER {percent(found.wer)} %{several}",
    ]
    if found.bounds is not None:
        lines.append(f"95 % {percent_interval(found.bounds)}")
    if found.difference is not None:
        bounds = "" if found.difference_bounds is None else f" {percent_interval(found.difference_bounds, sign=True)}"
        lines.append(f"{percent(found.difference, sign=True)} points to dense{bounds}")
    marks = group.marks(number)
    return [*lines, ", ".join(marks)] if marks else lines


def sizes(group: RunGroup, number: int) -> tuple[int, int, int | None]:
    """Bytes of the first run's model: dense tensors, gzip of them, and the sparse file where ``compress`` wrote one."""
    metrics = group.first.rounds[number]
    return metrics["bytes"], metrics["bytes_gzip"], group.first.sparse_bytes(number)


def condition(result: Mapping[str, Any]) -> str:
    """What a suite does to the speech, in words."""
    parts = []
    if result.get("noise"):
        parts.append(f"noise {result['noise']} at {_snr(result.get('snr_db'))} dB")
    if result.get("rir"):
        parts.append(f"rooms {result['rir']}")
    return ", ".join(parts) or "as recorded"


def _snr(value: Any) -> str:
    return " to ".join(f"{one:g}" for one in value) if isinstance(value, Sequence) else f"{value:g}"


def _result(metrics: Mapping[str, Any], suite: str) -> Mapping[str, Any] | None:
    found: Mapping[str, Any] | None = metrics["dev"] if suite == DEV else metrics["test"].get(suite)
    return found


def _bounds(ends: Sequence[float] | None) -> Bounds | None:
    return None if ends is None else (ends[0], ends[1])
