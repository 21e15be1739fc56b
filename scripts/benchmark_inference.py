"""Speed of a pruned backbone on a CPU: torch, ONNX Runtime, OpenVINO and audio_lottery, in turns, batch 1.

    python scripts/benchmark_inference.py --json rows.json --plot figure.svg      # wav2vec2-base shapes, random weights
    python scripts/benchmark_inference.py --seconds 10 --sparsities 0.9 0.95 --patterns unstructured 16x2
    python scripts/benchmark_inference.py --shapes parakeet-ctc-0.6b --seconds 10 --sparsities 0.9
    python scripts/benchmark_inference.py --profile --break-even

The other runtimes are in the extra `bench`. Every contestant's output is checked against torch float32; a wrong one is
not timed. docs/benchmark-inference.md explains the method. For a model of one's own at its own sparsity:
`audio-lottery bench MODEL`.
"""

import argparse
from pathlib import Path

from audio_lottery.cli import run
from audio_lottery.commands.bench import add_options, load_subjects, print_profile, settings_for, settings_of
from audio_lottery.models.shapes import SHAPES
from audio_lottery.report.inference import check_plot_path, format_break_even, format_comparison, plot_comparison
from audio_lottery.sparse.benchmark import (
    PATTERNS,
    break_even,
    compare_sparsities,
)
from audio_lottery.sparse.benchmark.own import pruned
from audio_lottery.storage import write_json


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", metavar="MODEL", help="prune this model (default: random weights)")
    parser.add_argument(
        "--shapes", choices=list(SHAPES), default="wav2vec2-base", help="of random weights (default: wav2vec2-base)"
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
    subjects = (
        [SHAPES[options.shapes](options.seed)] if options.model is None else load_subjects(options.model, settings)
    )
    rows = []
    for number, subject in enumerate(subjects, start=1):
        lengths = settings_for(subject, settings)
        outcome = compare_sparsities(subject, lengths)
        print(format_comparison(outcome))
        rows += [{"subject": subject.name, **row} for row in outcome.rows]
        if options.plot is not None:
            path = options.plot.with_stem(f"{options.plot.stem}_{number}") if len(subjects) > 1 else options.plot
            plot_comparison(outcome.rows, path, f"{subject.name}, batch 1, {settings.threads} threads")
        if options.profile:
            pattern = settings.patterns[0]
            sparse = {f"{pattern} {100 * s:g} %": pruned(subject.model, pattern, s) for s in settings.sparsities if s}
            print_profile(subject, sparse or {"as it is": subject.model}, lengths)
    if options.json is not None:
        write_json(options.json, rows)
    if options.break_even:
        print("\n" + format_break_even(break_even(settings)))


if __name__ == "__main__":
    raise SystemExit(run(main))
