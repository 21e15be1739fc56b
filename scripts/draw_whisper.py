"""Draw docs/results/whisper.png: what is left of Whisper tiny.en, by the way in which it lost its weights.

python scripts/draw_whisper.py
"""

import csv
from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullFormatter, NullLocator, StrMethodFormatter

from audio_lottery.report.plots import GREY, Curve, draw_axes, draw_curve, label_ends
from audio_lottery.report.style import COLOURS, MARKERS, project_style, save_figures

RESULTS = Path(__file__).parents[1] / "docs" / "results"
# Runs of whisper.csv in the order of their colours, and what the figure calls them.
NAMES = {
    "lr_rewinding": "magnitude, LR rewinding",
    "gmp": "gradual (gmp)",
    "obs_reconstruct": "second order, 200 steps a round",
    "obs_reconstruct_400": "the same, 400 steps a round",
    "obs_at_once_530": "second order at once, 530 steps",
}
WER_TICKS = (5, 10, 20, 40, 80)


def curves(path: Path) -> list[Curve]:
    """A curve for every run of the table that has a name, WER on test in per cent."""
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    found = []
    for run, name in NAMES.items():
        own = [row for row in rows if row["run"] == run]
        x = [float(row["remaining_percent"]) for row in own]
        wer, low, high = (
            [100 * float(row[key]) for row in own] for key in ("test_wer", "low_test_wer", "high_test_wer")
        )
        found += [Curve(name, x, wer, None, low, high)] if own else []
    return found


def draw(lines: list[Curve], published: float) -> Figure:
    """The figure; ``published`` is the WER of the model as it was published, in per cent."""
    figure = Figure(figsize=(7.8, 4.4), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for line, colour, marker in zip(lines, COLOURS, MARKERS, strict=False):
        draw_curve(axes, line, colour, marker)
        if len(line.remaining) == 1:
            error = [[line.wer[0] - line.low[0]], [line.high[0] - line.wer[0]]]
            axes.errorbar(line.remaining, line.wer, error, color=colour, capsize=4, linewidth=1.3)
    draw_axes(axes, lines, "WER on test (%), log scale")
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(FixedLocator(WER_TICKS))
    axes.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.axhline(published, color=GREY, linestyle=(0, (4, 3)), linewidth=1.2)
    axes.annotate(
        "as published",
        (1, published),
        (-4, -5),
        ("axes fraction", "data"),
        "offset points",
        ha="right",
        va="top",
        color=GREY,
    )
    axes.set_title("Whisper tiny.en on LibriSpeech, pruned", loc="left", fontweight="bold", fontsize=11)
    label_ends(figure, axes, lines)
    return figure


def main() -> None:
    """Read whisper.csv and write whisper.png and whisper.svg beside it."""
    lines = curves(RESULTS / "whisper.csv")
    [second] = [line for line in lines if line.name == NAMES["obs_reconstruct"]]  # its round 0 is the published model
    with project_style():
        save_figures(draw(lines, second.wer[0]), RESULTS / "whisper")


if __name__ == "__main__":
    main()
