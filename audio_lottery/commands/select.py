"""``audio-lottery select``: the winning, best and extreme ticket of a search."""

import argparse
from pathlib import Path

from audio_lottery.lottery.select import DEFAULT_MARGIN, Selection, SetResult, Ticket, select
from audio_lottery.report.columns import budget, format_columns, percent, percent_interval
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


def format_selection(selection: Selection) -> str:
    """The table of the rounds and the three named tickets, as text."""
    several = len(selection.seeds) > 1
    header = ["round", "RW %", "dev WER %", "dev - dense", "matches", f"{selection.suite} WER %", "test - dense"]
    header += ["MAPSSWE p", "steps", "audio"]
    body = [
        [
            str(ticket.round),
            f"{ticket.remaining_percent:.2f}",
            _wer(ticket.dev),
            _difference(ticket.dev),
            "dense" if ticket.round == 0 else "yes" if ticket.matches else f"no: {ticket.reason}",
            _wer(ticket.test),
            _difference(ticket.test),
            " / ".join("-" if test.p is None else f"{test.p:.3f}" for test in ticket.test.mapsswe) or "-",
            *budget(ticket.budget),
        ]
        for ticket in selection.tickets
    ]
    seeds = f"{len(selection.seeds)} seeds ({', '.join(map(str, selection.seeds))})" if several else "one seed"
    of_wer = "over seeds (t)" if several else "over utterances (bootstrap)"
    lines = [
        format_columns(header, body),
        "",
        f"{seeds}; 95 % intervals: of WER {of_wer}, of differences over utterances (paired bootstrap)",
        *([_over_seeds(selection)] if several else []),
        "steps, audio: what a round cost from θ on, with the rounds that it was made from",
        f"matches: on dev, no interval of the difference lies above 0 and the difference is below "
        f"{100 * selection.margin:g} points",
        "",
        f"winning: {', '.join(str(ticket.round) for ticket in selection.winning) or 'none'}",
        f"best:    {_named(selection.best)}",
        f"extreme: {_named(selection.extreme)}",
    ]
    return "\n".join(lines)


def _wer(result: SetResult) -> str:
    return f"{percent(result.wer.mean)} {percent_interval(result.bounds)}"


def _difference(result: SetResult) -> str:
    if result.difference is None:
        return "-"
    return f"{percent(result.difference.difference, sign=True)} {percent_interval(result.difference_bounds, sign=True)}"


def _over_seeds(selection: Selection) -> str:
    shown = [
        f"{ticket.round}: {percent_interval(ticket.dev.over_seeds.interval, sign=True)}"
        for ticket in selection.tickets
        if ticket.dev.over_seeds is not None
    ]
    return f"dev differences over seeds (paired t), by round: {', '.join(shown)}"


def _named(ticket: Ticket | None) -> str:
    if ticket is None:
        return "none"
    matches = "" if ticket.matches else f", which does not match (no: {ticket.reason})"
    model = f"; no model: {ticket.removed}" if ticket.removed else ""
    return (
        f"round {ticket.round}, {ticket.remaining_percent:.2f} % of the weights, dev WER "
        f"{percent(ticket.dev.wer.mean)} %, test WER {percent(ticket.test.wer.mean)} %{matches}{model}"
    )
