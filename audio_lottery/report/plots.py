"""The curve of a search: word error rate against remaining weights, as the lottery-ticket papers draw it.

Drawn with matplotlib's objects and not with pyplot, whose global state would interfere with the caller's figures. The
same rows give the same bytes, so a figure changes in version control only when a number changes.
"""

import math
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from audio_lottery.errors import RunError
from audio_lottery.report.style import COLOURS, MARKERS, project_style, save_figures
from audio_lottery.report.tables import HIGH, LOW, SUITE_PREFIX, SummaryRow, noisy_suites, plain_number

GREY = "#555555"
"""Of legends: what is said of all curves alike."""

_DASHES = (0, (4, 3))

# The least distance between neighbouring labels: on the x axis as a share of it, at the curves' ends in points.
_TICK_SHARE = 0.055
_LABEL_POINTS = 12.0


@dataclass(frozen=True, slots=True)
class Curve:
    """One line of the figure.

    Attributes:
        name: ``clean``, or the noisy suite.
        remaining: remaining weights in per cent, falling.
        wer: word error rates in per cent, one for each.
        dense: word error rate of the dense model in per cent, or None where it was not measured.
        low: lower ends of the 95 % intervals in per cent; empty where they were not measured.
        high: upper ends.
    """

    name: str
    remaining: list[float]
    wer: list[float]
    dense: float | None
    low: list[float] = field(default_factory=list)
    high: list[float] = field(default_factory=list)


def curves(rows: Sequence[SummaryRow]) -> list[Curve]:
    """The lines that the rows hold, clean first; rows without a number for a suite are left out of its line."""
    keys = {"clean": "test_wer"} | {suite: SUITE_PREFIX + suite for suite in noisy_suites(rows)}
    found = [_curve(name, key, rows) for name, key in keys.items()]
    return [curve for curve in found if curve.remaining]


def plot_curve(rows: Sequence[SummaryRow], path_stem: Path, title: str) -> None:
    """Draw WER against remaining weights and write ``<stem>.png`` and ``<stem>.svg``, each whole or not at all.

    x is logarithmic and falls from 100 % to the sparsest round; the level of the dense model is a dashed line in the
    colour of its curve, and a pale band is the 95 % interval of every point.

    Args:
        rows: one dictionary per round, with ``remaining_percent``, ``test_wer`` and ``test_wer_<suite>`` (fractions),
            and where they were measured ``low_`` and ``high_`` of these.
        path_stem: where to write, without a suffix.
        title: printed above the figure as it is.

    Raises:
        RunError: no row holds a test error rate.
        StorageError: a file could not be written.
    """
    lines = curves(rows)
    if not lines:
        raise RunError(f"nothing to draw in {path_stem}: no round has a test WER yet; let a round finish first")
    with project_style():
        figure = _draw(lines, title)
        save_figures(figure, path_stem)


def _curve(name: str, key: str, rows: Sequence[SummaryRow]) -> Curve:
    measured = sorted((row for row in rows if _is_number(row.get(key))), key=lambda row: -row["remaining_percent"])
    dense = next((100 * row[key] for row in measured if row["remaining_percent"] >= 100), None)
    remaining = [row["remaining_percent"] for row in measured]
    # A band with holes would say more than is known.
    known = all(_is_number(row.get(bound + key)) for row in measured for bound in (LOW, HIGH))
    low, high = ([100 * row[bound + key] for row in measured] if known else [] for bound in (LOW, HIGH))
    return Curve(name, remaining, [100 * row[key] for row in measured], dense, low, high)


def _is_number(value: float | None) -> bool:
    return value is not None and math.isfinite(value)


def _draw(lines: Sequence[Curve], title: str) -> Figure:
    figure = Figure(figsize=(7.2, 4.4), layout=ConstrainedLayoutEngine(w_pad=0.1, h_pad=0.1))
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for index, curve in enumerate(lines):
        draw_curve(axes, curve, COLOURS[index % len(COLOURS)], MARKERS[index % len(MARKERS)])
    draw_axes(axes, lines, "WER on test (%)")
    axes.set_title(textwrap.fill(title, 80), loc="left", fontweight="bold", fontsize=11, parse_math=False)
    if any(curve.dense is not None and len(curve.remaining) > 1 for curve in lines):
        # Below the axes, beside the name of x: inside, it would cover a curve sooner or later.
        place = {"loc": "upper right", "bbox_to_anchor": (1.0, -0.075), "borderaxespad": 0.0}
        axes.legend(handles=[dense_handle()], **place, frameon=False, fontsize=9, labelcolor=GREY)
    label_ends(figure, axes, lines)
    return figure


def dense_handle() -> Line2D:
    """The entry of a legend that says what dashes are."""
    return Line2D([], [], color=GREY, linestyle=_DASHES, linewidth=1.2, label="dense model")


def draw_axes(axes: Axes, lines: Sequence[Curve], label: str) -> None:
    """The axes behind curves; ``label`` is that of the y axis."""
    _remaining_axis(axes, [x for curve in lines for x in curve.remaining])
    axes.margins(y=0.08)
    axes.set_ylabel(label, parse_math=False)
    axes.grid(axis="y", color="#e3e3e3", linewidth=0.8)
    axes.set_axisbelow(True)


def draw_curve(axes: Axes, curve: Curve, colour: str, marker: str) -> None:
    """A curve with its band, and the level of its dense model."""
    if curve.dense is not None:
        # Only as far as the curve: beyond its end stands its name.
        ends = curve.remaining[0], curve.remaining[-1]
        axes.plot(ends, [curve.dense] * 2, color=colour, linestyle=_DASHES, linewidth=1.1, alpha=0.75, zorder=1.5)
    if curve.low:
        axes.fill_between(curve.remaining, curve.low, curve.high, color=colour, alpha=0.13, linewidth=0, zorder=1)
    axes.plot(
        curve.remaining,
        curve.wer,
        color=colour,
        marker=marker,
        markersize=5,
        markeredgecolor="white",
        markeredgewidth=0.7,
        linewidth=1.7,
        zorder=3,
        clip_on=False,
    )


def _remaining_axis(axes: Axes, remaining: Sequence[float]) -> None:
    """A logarithmic axis that falls to the right, ticked where rounds are."""
    low, high = min(remaining), max(remaining)
    pad = max((high / low) ** 0.03, 1.02)
    axes.set_xscale("log")
    axes.set_xlim(high * pad, low / pad)
    axes.set_xlabel("remaining weights (% of prunable, log scale)", loc="left")
    places = sorted(set(remaining), reverse=True)
    axes.xaxis.set_major_locator(FixedLocator(_tick_places(places)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: plain_number(value)))
    # A short tick at every round; labels only where they have room.
    axes.xaxis.set_minor_locator(FixedLocator(places) if len(places) > 1 else NullLocator())
    axes.xaxis.set_minor_formatter(FuncFormatter(lambda value, _: ""))


def _tick_places(places: Sequence[float]) -> list[float]:
    """Of falling positions, those whose labels have room on a logarithmic axis: the first, then greedily."""
    gap = _TICK_SHARE * math.log(places[0] / places[-1])
    kept = [places[0]]
    for place in places[1:]:
        if math.log(kept[-1] / place) >= gap:
            kept.append(place)
    return kept


def label_ends(figure: Figure, axes: Axes, lines: Sequence[Curve]) -> None:
    """Write each curve's name beside its last point, pushed apart where curves end close together."""
    points_per_pixel = 72 / figure.dpi
    figure.draw_without_rendering()
    heights = [axes.transData.transform((curve.remaining[-1], curve.wer[-1]))[1] * points_per_pixel for curve in lines]
    bottom, top = (axes.bbox.y0 * points_per_pixel + _LABEL_POINTS / 2, axes.bbox.y1 * points_per_pixel)
    targets = _spread(heights, _LABEL_POINTS, bottom, top)
    for index, (curve, height, target) in enumerate(zip(lines, heights, targets, strict=True)):
        axes.annotate(
            curve.name,
            xy=(curve.remaining[-1], curve.wer[-1]),
            xytext=(9, target - height),
            textcoords="offset points",
            verticalalignment="center",
            color=COLOURS[index % len(COLOURS)],
            fontweight="bold",
            fontsize=9.5,
            annotation_clip=False,
            parse_math=False,
        )


def _spread(heights: Sequence[float], gap: float, bottom: float, top: float) -> list[float]:
    """Move heights as little as need be until all are ``gap`` apart and within the bounds, keeping their order.

    With the gaps taken out, "at least ``gap`` apart" is "never falling": isotonic regression by pooling adjacent
    violators (Barlow et al. 1972), clipped to the bounds. Where they do not all fit, the top gives way.
    """
    order = sorted(range(len(heights)), key=lambda index: heights[index])
    blocks: list[tuple[float, int]] = []
    for rank, index in enumerate(order):
        mean, size = heights[index] - rank * gap, 1
        while blocks and blocks[-1][0] > mean:
            other, count = blocks.pop()
            mean, size = (mean * size + other * count) / (size + count), size + count
        blocks.append((mean, size))
    highest = top - (len(heights) - 1) * gap
    placed = [max(bottom, min(mean, highest)) for mean, size in blocks for _ in range(size)]
    result = [0.0] * len(heights)
    for rank, index in enumerate(order):
        result[index] = placed[rank] + rank * gap
    return result
