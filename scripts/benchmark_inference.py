"""Speed of a pruned backbone on a CPU: torch, ONNX Runtime, OpenVINO and audio_lottery, in turns, batch 1.

    python scripts/benchmark_inference.py --json rows.json --plot figure.svg      # wav2vec2-base shapes, random weights
    python scripts/benchmark_inference.py --seconds 10 --sparsities 0.9 0.95 --patterns unstructured 16x2
    python scripts/benchmark_inference.py --shapes parakeet-ctc-0.6b --seconds 10 --sparsities 0.9
    python scripts/benchmark_inference.py --shapes all --seconds 10 --sparsities 0.3 0.5 0.7 0.9 \\
        --patterns unstructured --runtimes openvino audio_lottery                 # break-even sparsities of all
    python scripts/benchmark_inference.py --profile --break-even

Where two sparsities or more are measured, a table says from which on ours is as fast as each of the others. The other
runtimes are in the extra `bench`. Every contestant's output is checked against torch float32; a wrong one is
not timed. docs/benchmark-inference.md explains the method. For a model of one's own at its own sparsity:
`audio-lottery bench MODEL`.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path

from audio_lottery.cli import run
from audio_lottery.commands.bench import add_options, load_subjects, print_profile, settings_for, settings_of
from audio_lottery.models.shapes import SHAPES
from audio_lottery.report.break_even import format_break_even, format_model_break_even
from audio_lottery.report.inference import check_plot_path, format_comparison, plot_comparison
from audio_lottery.sparse.benchmark import (
    PATTERNS,
    break_even,
    compare_sparsities,
    model_break_even,
)
from audio_lottery.sparse.benchmark.own import pruned
from audio_lottery.sparse.benchmark.subject import Subject
from audio_lottery.storage import write_json


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", metavar="MODEL", help="prune this model (default: random weights)")
    parser.add_argument(
        "--shapes",
        nargs="+",
        choices=[*SHAPES, "all"],
        default=["wav2vec2-base"],
        help="of random weights, one after the other (default: wav2vec2-base)",
    )
    add_options(parser, seconds=[2.0, 10.0, 30.0])
    parser.add_argument("--sparsities", type=float, nargs="+", default=[0.0, 0.8, 0.9, 0.95], help="shares of zeros")
    parser.add_argument(
        "--patterns", nargs="+", metavar="NAME", default=list(PATTERNS), help=f"of {', '.join(PATTERNS)}"
    )
    parser.add_argument("--plot", type=Path, metavar="FILE", help="draw time against sparsity: .png or .svg")
    parser.add_argument("--break-even", action="store_true", help="also: from which sparsity on single layers pay")
    options = parser.parse_args()
    settings = settings_of(options)
    if options.plot is not None:
        check_plot_path(options.plot)
    subjects: Iterator[Subject]
    if options.model is None:
        names = list(SHAPES) if "all" in options.shapes else list(dict.fromkeys(options.shapes))
        # made one by one: the largest take gigabytes
        count, subjects = len(names), (SHAPES[name](options.seed) for name in names)
    else:
        loaded = load_subjects(options.model, settings)
        count, subjects = len(loaded), iter(loaded)
    rows, crossed = [], []
    for number, subject in enumerate(subjects, start=1):
        lengths = settings_for(subject, settings)
        outcome = compare_sparsities(subject, lengths)
        print(format_comparison(outcome))
        found = [{"subject": subject.name, **row} for row in outcome.rows]
        lines = model_break_even(found)
        if lines:
            print("\n" + format_model_break_even(lines))
        rows += found
        crossed += lines
        if options.json is not None:
            write_json(options.json, {"rows": rows, "break_even": [line.to_dict() for line in crossed]})
        if options.plot is not None:
            path = options.plot.with_stem(f"{options.plot.stem}_{number}") if count > 1 else options.plot
            plot_comparison(outcome.rows, path, f"{subject.name}, batch 1, {settings.threads} threads")
        if options.profile:
            pattern = settings.patterns[0]
            sparse = {f"{pattern} {100 * s:g} %": pruned(subject.model, pattern, s) for s in settings.sparsities if s}
            print_profile(subject, sparse or {"as it is": subject.model}, lengths)
    if count > 1 and crossed:
        print("\nall together: " + format_model_break_even(crossed))
    if options.break_even:
        print("\n" + format_break_even(break_even(settings)))


if __name__ == "__main__":
    raise SystemExit(run(main))
