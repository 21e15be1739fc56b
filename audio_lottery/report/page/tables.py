"""The page's tables, as text: rounds, suites, sizes and times, where it was made; and the heat map of densities."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from audio_lottery.lottery.select import DEV, SearchedRun
from audio_lottery.report.columns import budget, duration, percent, percent_interval
from audio_lottery.report.page.numbers import Rate, condition, rate, remaining, sizes, spent
from audio_lottery.report.page.read import RunGroup
from audio_lottery.report.tables import plain_number


@dataclass(frozen=True, slots=True)
class Table:
    """A header and rows of text; the first ``left`` columns are flush left, ``strong`` rows stand out."""

    header: list[str]
    body: list[list[str]]
    left: int = 1
    strong: frozenset[int] = frozenset()
    note: str = ""


@dataclass(frozen=True, slots=True)
class Cell:
    """One density of the heat map: its text, what hovering says, its shade from 0 (nothing kept) to 1 (dense)."""

    text: str
    title: str
    shade: float


@dataclass(frozen=True, slots=True)
class HeatMap:
    """Densities of every prunable tensor over the rounds; ``sparsest`` is the lower end of the scale, in per cent."""

    rounds: list[str]
    rows: list[tuple[str, str, list[Cell]]]
    sparsest: str


def rounds(group: RunGroup) -> Table:
    """One row per round: remaining weights, WER on dev and every suite, and the difference that decides."""
    suites = group.suites
    header = ["round", "", "RW %", "of all %", "dev WER %", "dev − dense", *(f"{suite} WER %" for suite in suites)]
    header += ["steps", "audio"]
    reasons = {} if group.selection is None else {t.round: t.reason for t in group.selection.tickets}
    body = []
    for number in group.numbers:
        dev = rate(group, number, DEV)
        marks = ", ".join(group.marks(number)) or (f"no: {reasons[number]}" if reasons.get(number) else "")
        body.append(
            [
                str(number),
                marks,
                f"{remaining(group, number):.2f}",
                f"{remaining(group, number, 'remaining_percent_all'):.2f}",
                _wer(dev),
                _difference(dev),
                *(_wer(rate(group, number, suite)) for suite in suites),
                *budget(spent(group, number)),
            ]
        )
    of = "over seeds (t)" if len(group.runs) > 1 else "over utterances (bootstrap)"
    note = (
        f"95 % intervals in brackets, {of}. Normaliser {group.first.rounds[0]['dev']['normalizer']}, decoder "
        f"{group.first.rounds[0]['dev']['decoder']}. Steps and audio: what the model cost from θ on, rounds "
        "that it was made from included."
    )
    if group.selection is not None:
        note += (
            f" Winning: on dev, no interval of the difference to the dense model lies above 0 and the difference is "
            f"below {100 * group.selection.margin:g} points; best: lowest dev WER; extreme: sparsest winning ticket."
        )
    note += _loops(group)
    strong = {place for place, number in enumerate(group.numbers) if {"best", "extreme"} & set(group.marks(number))}
    return Table(header, body, 2, frozenset(strong), note)


def _loops(group: RunGroup) -> str:
    """How often hypotheses of the clean test set repeat themselves; nothing where none does."""
    found = {number: group.first.rounds[number]["test"].get("clean", {}) for number in group.numbers}
    counts = [f"{result['loops']} in round {number}" for number, result in found.items() if result.get("loops")]
    return f" Loops of repeated words on clean: {', '.join(counts)}; none in the others." if counts else ""


def suites(groups: Sequence[RunGroup]) -> Table:
    """Test conditions, and what the dense models and the named tickets make of them."""
    columns = [(group, number) for group in groups for number in named_rounds(group)]
    many = len(groups) > 1
    header = ["suite", "speech", *(_title(group, number, many) for group, number in columns)]
    results = {name: result for group in groups for name, result in group.first.rounds[0]["test"].items()}
    body = [
        [name, condition(result), *(_wer(rate(group, number, name)) for group, number in columns)]
        for name, result in results.items()
    ]
    return Table(header, body, 2)


def model_sizes(group: RunGroup) -> Table:
    """Bytes of every round's model in megabytes (10⁶ bytes)."""
    found = {number: sizes(group, number) for number in group.numbers}
    dense = found[group.numbers[0]][0]
    body = []
    for number, (plain, zipped, sparse) in found.items():
        smallest = min(zipped, sparse or zipped)
        times = f"{dense / smallest:.1f} ×"
        cells = [f"{one / 1e6:.2f}" if one is not None else "-" for one in (plain, zipped, sparse)]
        body.append([str(number), f"{remaining(group, number):.2f}", *cells, times])
    note = "dense: model.safetensors, zeros in place. Sparse file: of audio-lottery compress, in the round's folder."
    return Table(["round", "RW %", "dense MB", "gzip MB", "sparse file MB", "smaller"], body, 1, note=note)


def speed(run: SearchedRun) -> Table | None:
    """Measured times of inference; None where there are none."""
    if not run.bench:
        return None
    order = sorted(run.bench, key=lambda row: (row["audio_seconds"], row["median_s"]))
    body = [
        [
            row["runtime"],
            row["precision"],
            row["pattern"],
            "-" if row["sparsity"] is None else f"{100 * row['sparsity']:.4g}",
            f"{row['audio_seconds']:g}",
            f"{row['median_s']:.4f}",
            f"{row['min_s']:.4f} – {row['max_s']:.4f}",
        ]
        for row in order
    ]
    return Table(["runtime", "precision", "pattern", "zeros %", "audio s", "median s", "min – max s"], body, 3)


def environment(run: SearchedRun) -> Table:
    """Where the numbers of a run come from; rounds that were made elsewhere are named."""
    labels = {
        "audio_lottery": "audio_lottery",
        "commit": "commit",
        "torch": "torch",
        "transformers": "transformers",
        "accelerate": "accelerate",
        "seed": "seed",
        "precision": "precision",
        "device": "device",
        "processes": "processes",
        "threads": "threads a process",
    }
    body = []
    for key, label in labels.items():
        by_value: dict[str, list[int]] = {}
        for number, metrics in run.rounds.items():
            by_value.setdefault(str(metrics.get(key)), []).append(number)
        if len(by_value) == 1:
            body.append([label, next(iter(by_value))])
        else:
            said = [f"{value} (round {', '.join(map(str, numbers))})" for value, numbers in by_value.items()]
            body.append([label, "; ".join(said)])
    seconds = sum(metrics["seconds"] for metrics in run.rounds.values())
    body.append(["training and evaluation", f"{duration(seconds)} in {len(run.rounds)} rounds"])
    return Table(["", ""], body, 2)


def heat_map(run: SearchedRun) -> HeatMap:
    """Kept share of every prunable tensor; shades are logarithmic, for at 1 % of the weights all layers are sparse."""
    kept = {number: metrics["kept_per_tensor"] for number, metrics in run.rounds.items()}
    densities = {name: {number: of[name][0] / max(of[name][1], 1) for number, of in kept.items()} for name in kept[0]}
    lowest = min((d for row in densities.values() for d in row.values() if d > 0), default=1.0)
    rows = []
    for name, row in densities.items():
        cells = [
            Cell(
                plain_number(100 * d) if d > 0 else "0",
                f"{name}, round {number}: {_kept(kept[number][name])}",
                _shade(d, lowest),
            )
            for number, d in row.items()
        ]
        rows.append((_short(name), name, cells))
    return HeatMap([str(number) for number in kept], rows, plain_number(100 * lowest))


def named_rounds(group: RunGroup) -> list[int]:
    """The dense model, the best and the extreme ticket; the last round where no ticket was chosen."""
    named = [number for number in group.numbers if {"dense", "best", "extreme"} & set(group.marks(number))]
    return named if len(named) > 1 else sorted({*named, group.numbers[-1]})


def _kept(counts: Sequence[int]) -> str:
    kept, size = counts
    return f"{kept:,} of {size:,} weights kept"


def _shade(density: float, lowest: float) -> float:
    if density <= 0:
        return 0.0
    return 1.0 if lowest >= 1 else round(1 - 0.92 * math.log(density) / math.log(lowest), 3)


def _short(name: str) -> str:
    """The end of a tensor's name: the model's own name and ``.weight`` say nothing."""
    parts = name.removesuffix(".weight").split(".")
    return ".".join(parts[1:] if len(parts) > 2 else parts).replace("encoder.layers.", "").replace("_layers", "")


def _title(group: RunGroup, number: int, many: bool) -> str:
    name = "/".join(mark for mark in group.marks(number) if mark != "winning") or f"round {number}"
    size = "" if number == 0 else f" {plain_number(remaining(group, number))} %"
    return f"{group.name}: {name}{size}" if many else f"{name}{size}"


def _wer(found: Rate | None) -> str:
    if found is None:
        return "-"
    return percent(found.wer) + ("" if found.bounds is None else f" {percent_interval(found.bounds)}")


def _difference(found: Rate | None) -> str:
    if found is None or found.difference is None:
        return "-"
    bounds = "" if found.difference_bounds is None else f" {percent_interval(found.difference_bounds, sign=True)}"
    return percent(found.difference, sign=True) + bounds
