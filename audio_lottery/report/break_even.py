"""From which sparsity on ours is as fast as dense runtimes: tables of whole models and of single layers."""

from collections.abc import Sequence
from itertools import zip_longest

from audio_lottery.report.columns import format_columns
from audio_lottery.report.inference import SHORT
from audio_lottery.sparse.benchmark import BreakEven, Crossings, ModelBreakEven


def format_model_break_even(lines: Sequence[ModelBreakEven]) -> str:
    """Break-even sparsities of whole models: a row for each of ours, a column for each rival."""
    rivals = list(dict.fromkeys((line.rival, line.rival_precision) for line in lines))
    rows: dict[tuple[str, ...], dict[tuple[str, str], str]] = {}
    for line in lines:
        ours = line.subject, f"{line.audio_seconds:g} s", SHORT[line.precision], line.pattern
        rows.setdefault(ours, {})[line.rival, line.rival_precision] = _words(line.crossings)
    header = ["model", "audio", "ours", "pattern", *(f"{rival} {SHORT[precision]}" for rival, precision in rivals)]
    body = [[*ours, *(found.get(rival, "-") for rival in rivals)] for ours, found in rows.items()]
    legend = [
        "break-even sparsity of whole models: from which share of zeros among the prunable weights on ours is as fast "
        "as each dense runtime; medians, linear between the sparsities measured"
    ]
    if any(len(line.crossings.points) > 1 for line in lines):
        legend.append(
            "Several figures: times cross more than once, and ours is as fast where they say. Measure again, with more "
            "repeats or on a machine with nothing else to do."
        )
    return f"{legend[0]}\n\n{format_columns(header, body, left=4)}" + "".join(f"\n\n{more}" for more in legend[1:])


def format_break_even(lines: Sequence[BreakEven]) -> str:
    """From which sparsity on each kind of layer is as fast as torch, with the seconds at every sparsity measured."""
    sparsities = sorted({sparsity for line in lines for sparsity in line.sparse})
    header = [
        "layer",
        "pattern",
        "ours",
        "as fast as torch fp32 from",
        "as torch bf16 from",
        "torch fp32 ms",
        "bf16 ms",
    ]
    header += [f"{100 * sparsity:g} % ms" for sparsity in sparsities]
    body = [
        [
            line.kind,
            line.pattern,
            SHORT[line.precision],
            _words(line.crossings["float32"]),
            _words(line.crossings["bfloat16"]),
            *(f"{1000 * line.dense[precision]:.2f}" for precision in ("float32", "bfloat16")),
            *(f"{1000 * line.sparse[sparsity]:.2f}" for sparsity in sparsities),
        ]
        for line in lines
    ]
    return (
        "break-even sparsity of single layers, replaced whether it pays or not, packing and unpacking included; linear "
        f"between the sparsities measured\n\n{format_columns(header, body, left=3)}"
    )


def _words(found: Crossings) -> str:
    """The sparsities at which ours is as fast."""
    if not found.points:
        return f"{100 * found.least:g} % or less" if found.fast_at_least else f"not up to {100 * found.most:g} %"
    edges = [f"{100 * point:.0f}" for point in found.points]
    if len(edges) == 1:
        return f"only to {edges[0]} %" if found.fast_at_least else f"{edges[0]} %"
    if found.fast_at_least:
        edges.insert(0, "")
    return ", ".join(_span(*span) for span in zip_longest(edges[::2], edges[1::2], fillvalue=""))


def _span(start: str, end: str) -> str:
    if not end:
        return f"from {start} %"
    return f"{start}-{end} %" if start else f"to {end} %"
