"""``audio-lottery select``: the winning, best and extreme ticket of a search."""

import argparse
from pathlib import Path

from audio_lottery.lottery.select import DEFAULT_MARGIN, select
from audio_lottery.report.selection import format_selection
from audio_lottery.storage import write_json


def main(arguments: list[str]) -> None:
    """Choose tickets on dev and report them on test."""
    parser = argparse.ArgumentParser(
        prog="audio-lottery select",
        description="Winning tickets match the dense model of their run on dev; best is the lowest dev WER, extreme "
        "the sparsest winning one. docs/statistics.md says what matching means.",
    )
    parser.add_argument("run_dirs", type=Path, nargs="+", metavar="RUN_DIR", help="several: seeds of one configuration")
    parser.add_argument(
        "--margin",
        type=float,
        default=DEFAULT_MARGIN,
        help=f"a matching ticket exceeds the dense WER by less than this fraction (default: {DEFAULT_MARGIN}, which "
        "is half a point of WER)",
    )
    parser.add_argument("--suite", default="clean", help="test suite to report (default: clean)")
    parser.add_argument("--bootstrap", type=int, default=1000, metavar="B", help="resamples (default: 1000)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the resamples (default: 0)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything to this file")
    options = parser.parse_args(arguments)
    selection = select(
        options.run_dirs, margin=options.margin, suite=options.suite, resamples=options.bootstrap, seed=options.seed
    )
    if options.json is not None:
        write_json(options.json, selection.to_dict())
    print(format_selection(selection))
