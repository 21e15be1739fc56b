"""Pictures of a comparison: one panel per suite with a curve per arm, and how much the tickets' masks share."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter

from audio_lottery.errors import MaskError
from audio_lottery.grid.table import common_budgets, stands_at
from audio_lottery.report.page import RunGroup
from audio_lottery.report.page.charts import all_suites
from audio_lottery.report.page.numbers import rate
from audio_lottery.report.plots import GREY, Curve, dense_handle, draw_axes, draw_curve, label_ends
from audio_lottery.report.style import COLOURS, MARKERS, project_style, save_figures
from audio_lottery.report.tables import plain_number

# Mark of a ticket → how it is drawn around its point.
_RINGS = {"winning": ("o", 11), "best": ("*", 15), "extreme": ("D", 12)}


def plot_comparison(groups: Sequence[RunGroup], path_stem: Path, title: str) -> None:
    """Draw WER against remaining weights, a curve per arm and a panel per suite: ``<stem>.png`` and ``<stem>.svg``.

    Bands are 95 % intervals, over seeds where there are several, else over utterances; dashed lines the arms' dense
    models. Tickets chosen on dev are ringed: winning, best, extreme.

    Raises:
        StorageError: a file could not be written.
    """
    suites = all_suites(groups)
    columns = min(len(suites), 2)
    rows = math.ceil(len(suites) / columns)
    with project_style():
        figure = Figure(figsize=(1.2 + 6.0 * columns, 0.8 + 3.9 * rows), layout=ConstrainedLayoutEngine(w_pad=0.12))
        FigureCanvasAgg(figure)
        figure.suptitle(title, x=0.01, ha="left", fontweight="bold", fontsize=12, parse_math=False)
        panels = []
        for index, suite in enumerate(suites):
            axes = figure.add_subplot(rows, columns, index + 1)
            panels.append((axes, _panel(axes, groups, suite)))
        for axes, curves in panels:
            label_ends(figure, axes, curves)
        _legend(figure, groups)
        save_figures(figure, path_stem)


def _panel(axes: Axes, groups: Sequence[RunGroup], suite: str) -> list[Curve]:
    curves = []
    for index, group in enumerate(groups):
        found = {number: rate(group, number, suite) for number in group.numbers}
        known = {number: one for number, one in found.items() if one is not None}
        if not known:
            continue
        places = [stands_at(group, number, groups[0]) for number in known]
        bounds = [one.bounds for one in known.values()]
        banded = all(bound is not None for bound in bounds)
        curve = Curve(
            group.name,
            places,
            [100 * one.wer for one in known.values()],
            100 * known[0].wer if 0 in known else None,
            [100 * bound[0] for bound in bounds if bound] if banded else [],
            [100 * bound[1] for bound in bounds if bound] if banded else [],
        )
        colour = COLOURS[index % len(COLOURS)]
        # colours and markers come together again after 49 curves, not after 7
        draw_curve(axes, curve, colour, MARKERS[(index + index // len(COLOURS)) % len(MARKERS)])
        for number, place in zip(known, places, strict=True):
            for mark in group.marks(number):
                if mark in _RINGS:
                    shape, size = _RINGS[mark]
                    y = 100 * known[number].wer
                    axes.plot(place, y, shape, ms=size, mfc="none", mec=colour, mew=1.1, zorder=4, clip_on=False)
        curves.append(curve)
    draw_axes(axes, curves, f"WER on {suite} (%)")
    _show_budgets(axes, common_budgets(groups))
    return curves


def _show_budgets(axes: Axes, budgets: Mapping[float, int]) -> None:
    """Below the densities the steps that all arms have spent by then, where they are as many."""
    if not budgets:
        return

    def label(value: float, _: int | None) -> str:
        steps = budgets.get(round(value, 1))
        return plain_number(value) if steps is None else f"{plain_number(value)}\n{steps:,}"

    axes.xaxis.set_major_formatter(FuncFormatter(label))
    axes.set_xlabel("remaining weights (% of prunable, log scale); optimiser steps from θ on", loc="left")


def _legend(figure: Figure, groups: Sequence[RunGroup]) -> None:
    there = [
        mark for mark in _RINGS if any(mark in group.marks(number) for group in groups for number in group.numbers)
    ]
    handles = [dense_handle()]
    for mark in there:
        shape, size = _RINGS[mark]
        handles.append(
            Line2D([], [], color=GREY, linestyle="", marker=shape, markersize=0.7 * size, mfc="none", label=mark)
        )
    figure.legend(
        handles=handles, loc="outside lower right", ncols=len(handles), frameon=False, fontsize=9, labelcolor=GREY
    )


def plot_overlap(groups: Sequence[RunGroup], path_stem: Path) -> bool:
    """Draw, for the sparsest round that all runs have, how much the masks share: intersection over union, per pair.

    Two random masks of density d share d / (2 - d); the title says it. It says too how many runs are left out, of
    which there are only records.

    Returns:
        Whether there was something to draw: two masks over the same tensors.

    Raises:
        StorageError: a file could not be written.
    """
    number = max(set.intersection(*(set(group.numbers) for group in groups)))
    names, masks = [], []
    runs = [(group.name, run) for group in groups for run in group.runs if number > 0]
    for name, run in runs:
        mask = run.mask(number)
        if mask is not None:
            names.append(f"{name}, seed {run.rounds[number]['seed']}")
            masks.append(mask)
    missing = f"; {len(runs) - len(masks)} of {len(runs)} runs without masks" if len(masks) < len(runs) else ""
    overlap = np.full((len(masks), len(masks)), np.nan)
    for i, one in enumerate(masks):
        for j, other in enumerate(masks):
            try:
                overlap[i, j] = one.overlap(other)
            except MaskError:  # of another model
                continue
    pairs = overlap[~np.eye(len(masks), dtype=bool)]
    if not np.isfinite(pairs).any():
        return False
    density = masks[0].density()
    side = 2.2 + 0.5 * len(masks)
    with project_style():
        figure = Figure(figsize=(side + 1.6, side), layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.add_subplot()
        image = axes.imshow(overlap, cmap="cividis", vmin=0, vmax=1)
        axes.set_xticks(range(len(names)), names, rotation=45, ha="right", rotation_mode="anchor", parse_math=False)
        axes.set_yticks(range(len(names)), names, parse_math=False)
        for i, j in zip(*np.nonzero(np.isfinite(overlap)), strict=True):
            colour = "black" if overlap[i, j] > 0.6 else "white"
            axes.text(j, i, f"{overlap[i, j]:.2f}", ha="center", va="center", fontsize=8, color=colour)
        axes.set_title(
            f"Masks of round {number} ({100 * density:.1f} % kept): intersection over union; "
            f"random masks: {density / (2 - density):.2f}{missing}",
            fontsize=10,
            loc="left",
            wrap=True,
        )
        figure.colorbar(image, ax=axes, shrink=0.8)
        save_figures(figure, path_stem)
    return True
