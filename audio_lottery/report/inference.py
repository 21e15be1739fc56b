"""What an inference benchmark found: tables for people, a figure of time against sparsity."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from audio_lottery.errors import ConfigError, RunError
from audio_lottery.report.columns import format_columns
from audio_lottery.report.style import COLOURS, FORMATS, MARKERS, project_style, save_figure
from audio_lottery.sparse.benchmark import PATTERNS, Machine, Macs, Outcome, PartBudget, runtime_names
from audio_lottery.sparse.benchmark.compare import TimingRow
from audio_lottery.sparse.benchmark.settings import DENSE

SHORT = {"float32": "fp32", "bfloat16": "bf16", "int8": "int8"}
# Runtimes that every row is compared with.
_BASES = (("torch", "float32"), ("openvino", "float32"), ("openvino", "bfloat16"), ("openvino", "int8"))
# Those that have a column where they were measured.
_FURTHER = (("ctranslate2", "float32"), ("ctranslate2", "int8"))
_DASHES = {"float32": "-", "bfloat16": (0, (5, 2)), "int8": (0, (1, 1.5))}


def format_comparison(outcome: Outcome) -> str:
    """One table for every length and sparsity, fastest first, as aligned text."""
    parts = [outcome.title]
    for seconds in _values(outcome.rows, "audio_seconds"):
        for sparsity in _values(outcome.rows, "sparsity"):
            rows = [row for row in outcome.rows if (row["audio_seconds"], row["sparsity"]) == (seconds, sparsity)]
            if rows:
                parts += ["", f"{seconds:g} s of audio, {100 * sparsity:.4g} % of the prunable weights are zero", ""]
                parts.append(_table(rows))
    parts += ["", *_legend(outcome.rows), *outcome.notes]
    return "\n".join(parts)


def format_macs(counts: Mapping[str, Sequence[Macs]], seconds: float) -> str:
    """Multiply-adds by kind of module, and in all.

    Args:
        counts: title of a model → its counts; the models differ in their zeros only.
        seconds: of audio.
    """
    tables = [[*found, _sum(found)] for found in counts.values()]
    header = ["module", "GMACs"]
    for title in counts:
        header += [f"effective, {title}", "%"]
    body = []
    for lines in zip(*tables, strict=True):
        cells = [lines[0].kind, f"{lines[0].dense / 1e9:.3f}"]
        for line in lines:
            cells += [f"{line.effective / 1e9:.3f}", _share(line.effective, line.dense)]
        body.append(cells)
    return (
        f"multiply-adds of {seconds:g} s of audio in 10⁹; effective: of weights that are not zero, and of attention\n\n"
        f"{format_columns(header, body, left=1)}"
    )


def format_profile(shares: Mapping[str, float], title: str) -> str:
    """Exclusive seconds by kind of module, most first, and in all."""
    total = sum(shares.values())
    body = [
        [kind, f"{1000 * seconds:.1f}", _share(seconds, total)] for kind, seconds in (*shares.items(), ("all", total))
    ]
    return f"{title}\n\n{format_columns(['module', 'ms', '%'], body, left=1)}"


def format_budget(parts: Sequence[PartBudget], machine: Machine, title: str) -> str:
    """Where an accelerated model's time goes, beside what this machine could do; longest part first.

    Args:
        parts: of one call.
        machine: its peaks, measured, with as many threads.
        title: printed above the table.
    """
    together = PartBudget(
        "all",
        sum(part.seconds for part in parts),
        sum(part.multiply_adds for part in parts),
        sum(part.bytes for part in parts),
    )
    body = []
    for part in (*parts, together):
        known = part.multiply_adds > 0
        rate = part.multiply_adds / part.seconds if part.seconds else 0.0
        body.append(
            [
                part.part,
                f"{1000 * part.seconds:.1f}",
                _share(part.seconds, together.seconds),
                f"{part.multiply_adds / 1e9:.3f}" if known else "-",
                f"{rate / 1e9:.0f}" if known else "-",
                _share(rate, machine.multiply_adds) if known else "-",
                f"{part.bytes / 1e6:.1f}" if part.bytes else "-",
                f"{1000 * part.at_least(machine):.1f}" if known else "-",
            ]
        )
    header = ["part", "ms", "%", "GMACs", "GMACs/s", "% of peak", "MB of weights", "at least ms"]
    return (
        f"{title}\n\n{format_columns(header, body, left=1)}\n\n"
        "GMACs: multiply-adds in 10⁹, of kept weights and of attention. This machine's peaks, measured with "
        f"{machine.threads} threads: {machine.multiply_adds / 1e9:.0f} · 10⁹ a second in {SHORT[machine.precision]}, "
        f"{machine.bytes / 1e9:.1f} GB/s from memory. At least: what multiply-adds or weights take at these peaks, "
        "whichever is longer."
    )


def check_plot_path(path: Path) -> None:
    """Refuse a file name that says no known picture format, before anything is measured.

    Raises:
        ConfigError: the suffix is neither .png nor .svg.
    """
    if path.suffix.removeprefix(".") not in FORMATS:
        raise ConfigError(f"--plot {path}: pictures are written as {' or '.join('.' + name for name in FORMATS)}")


def plot_comparison(rows: Sequence[TimingRow], path: Path, title: str) -> None:
    """Draw time against sparsity, a panel for every length and a line for every contestant; bars are min and max.

    Args:
        rows: of an `Outcome`.
        path: .png or .svg.
        title: printed above the figure.

    Raises:
        ConfigError: another suffix.
        RunError: there are no rows.
        StorageError: the file could not be written.
    """
    check_plot_path(path)
    if not rows:
        raise RunError(f"nothing to draw in {path}: the benchmark has no rows")
    with project_style():
        save_figure(_draw(rows, title), path)


def _table(rows: Sequence[TimingRow]) -> str:
    names = [*_BASES, *(base for base in _FURTHER if _find(rows, *base) is not None)]
    bases = [_find(rows, *base) for base in names]
    header = ["runtime", "precision", "pattern", "median s", "min", "max", "RTF"]
    header += [f"× {runtime} {SHORT[precision]}" for runtime, precision in names]
    header += ["max |Δ logit|", "same labels %", "cores"]
    body = [
        [
            row["runtime"],
            SHORT[row["precision"]],
            row["pattern"],
            *(f"{row[key]:.4f}" for key in ("median_s", "min_s", "max_s")),
            f"{row['median_s'] / row['audio_seconds']:.4f}",
            *("-" if base is None else f"{base['median_s'] / row['median_s']:.2f}" for base in bases),
            "-" if row["max_abs_difference"] is None else f"{row['max_abs_difference']:.1e}",
            f"{100 * row['same_labels']:.1f}",
            f"{row['cores']:.1f}",
        ]
        for row in sorted(rows, key=lambda row: row["median_s"])
    ]
    return format_columns(header, body, left=3)


def _legend(rows: Sequence[TimingRow]) -> list[str]:
    lines = [
        "×: how many times faster than that runtime (ratio of medians). Δ and labels: against torch fp32 on the same "
        "weights. RTF: seconds per second of audio. cores: processor seconds per second."
    ]
    if len(_values(rows, "sparsity")) > 1:
        lines.append(
            "Dense runtimes are measured once per length, on the unpruned weights, in the same rounds as ours: what "
            "they take does not depend on zeros. Their one figure stands in the table of every sparsity."
        )
    plans = {row["plan"]: row for row in rows if row["plan"]}
    for plan in plans:
        used = dict.fromkeys(_label(row, with_sparsity=True) for row in rows if row["plan"] == plan)
        lines.append(f"modules of {'; '.join(used)}: {plan}")
    return lines


def _draw(rows: Sequence[TimingRow], title: str) -> Figure:
    lengths = _values(rows, "audio_seconds")
    figure = Figure(figsize=(2.4 + 3.6 * len(lengths), 4.6), layout=ConstrainedLayoutEngine(w_pad=0.1, h_pad=0.1))
    FigureCanvasAgg(figure)
    panels = figure.subplots(1, len(lengths), squeeze=False)[0]
    lines = _lines(rows)
    for axes, seconds in zip(panels, lengths, strict=True):
        for name, line in lines.items():
            _draw_line(axes, name, [row for row in line if row["audio_seconds"] == seconds])
        _sparsity_axis(axes, _values(rows, "sparsity"))
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.yaxis.set_minor_formatter(
            FuncFormatter(lambda value, _: f"{value:.2g}" if _leading(value) in "25" else "")
        )
        axes.grid(axis="y", which="both", color="#e9e9e9", linewidth=0.7)
        axes.set_axisbelow(True)
        axes.set_title(f"{seconds:g} s of audio", loc="left", fontsize=10)
    panels[0].set_ylabel("seconds, median (log scale)")
    handles, labels = panels[0].get_legend_handles_labels()
    for axes in panels[1:]:
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            if label not in labels:
                handles.append(handle)
                labels.append(label)
    figure.legend(handles, labels, loc="outside right center", frameon=False, fontsize=8.5)
    figure.suptitle(title, x=0.01, horizontalalignment="left", fontweight="bold", fontsize=11, parse_math=False)
    return figure


def _lines(rows: Sequence[TimingRow]) -> dict[str, list[TimingRow]]:
    """Label → rows. Ours at sparsity 0 belongs to no pattern: the lines of all patterns begin there."""
    lines: dict[str, list[TimingRow]] = {}
    for row in rows:
        lines.setdefault(_label(row), []).append(row)
    for precision in SHORT:
        own = [line for line in lines.values() if not line[0]["shared"] and line[0]["precision"] == precision]
        start = [line for line in own if line[0]["pattern"] == DENSE]
        if start and len(own) > 1:
            del lines[_label(start[0][0])]
            for line in own:
                if line is not start[0]:
                    line.extend(start[0])
    return lines


def _draw_line(axes: Axes, name: str, rows: Sequence[TimingRow]) -> None:
    if not rows:
        return
    rows = sorted(rows, key=lambda row: row["sparsity"])
    first = rows[0]
    ours = first["runtime"] == "audio_lottery"
    medians = [row["median_s"] for row in rows]
    spread = (
        [median - row["min_s"] for median, row in zip(medians, rows, strict=True)],
        [row["max_s"] - median for median, row in zip(medians, rows, strict=True)],
    )
    pattern = rows[-1]["pattern"]
    place = list(PATTERNS).index(pattern) if pattern in PATTERNS else 0
    axes.errorbar(
        [1 - row["sparsity"] for row in rows],
        medians,
        yerr=spread,
        label=name,
        color=COLOURS[3 + place] if ours else COLOURS[runtime_names().index(first["runtime"]) % len(COLOURS)],
        linestyle=_DASHES[first["precision"]],
        linewidth=1.9 if ours else 1.2,
        marker=MARKERS[place] if ours else None,
        markersize=5,
        elinewidth=0.7,
        capsize=1.5,
        zorder=3 if ours else 2,
    )


def _sparsity_axis(axes: Axes, sparsities: Sequence[float]) -> None:
    """Logarithmic in the remaining weights, labelled with sparsities, growing to the right."""
    densities = [1 - sparsity for sparsity in sparsities]
    axes.set_xlim(max(densities) * 1.12, min(densities) / 1.12)
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(FixedLocator(densities))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * (1 - value):.3g}"))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xlabel("sparsity (% of prunable weights)", loc="left")


def _label(row: TimingRow, with_sparsity: bool = False) -> str:
    """The contestant, with the pattern of its weights where it runs sparse ones."""
    parts = [row["runtime"], SHORT[row["precision"]]]
    if not row["shared"]:
        parts.append(row["pattern"])
        if with_sparsity:
            parts.append(f"{100 * row['sparsity']:.4g} %")
    return " ".join(parts)


def _find(rows: Sequence[TimingRow], runtime: str, precision: str) -> TimingRow | None:
    return next((row for row in rows if (row["runtime"], row["precision"]) == (runtime, precision)), None)


def _values(rows: Sequence[TimingRow], key: str) -> list[float]:
    return sorted({row[key] for row in rows})


def _sum(counts: Sequence[Macs]) -> Macs:
    return Macs("all", sum(count.dense for count in counts), sum(count.effective for count in counts))


def _share(part: float, whole: float) -> str:
    return f"{100 * part / whole:.1f}" if whole else "-"


def _leading(value: float) -> str:
    return f"{value:e}"[0]
