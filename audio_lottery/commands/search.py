"""``audio-lottery search`` and the recipes: find winning tickets."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from audio_lottery.config import RunConfig
from audio_lottery.settings import parse_config

logger = logging.getLogger(__name__)


def main(arguments: list[str]) -> None:
    """Search with the settings of a command line."""
    run_search(parse_config(arguments, prog="audio-lottery search"))


def run_search(config: RunConfig) -> None:
    """Run a search; every round ends with table, curve and page written anew and a line, the search with the table."""
    # Here and not above: they load torch, and a mistake in the settings should be told at once.
    from accelerate.state import PartialState

    from audio_lottery.commands.report import FILE
    from audio_lottery.lottery.run_folder import MODEL_FILE, RunFolder
    from audio_lottery.lottery.search import search
    from audio_lottery.report.page import RunGroup, read_group, write_page
    from audio_lottery.report.selection import verdict
    from audio_lottery.report.tables import format_table
    from audio_lottery.report.write import write_report
    from audio_lottery.storage import is_sealed

    run_dir = Path(config.run_dir)
    folder, rounds = RunFolder(run_dir), config.search.rounds
    # A run that is continued hands over its finished rounds one by one; only the last of them is news.
    before = sum(is_sealed(folder.round(number)) for number in range(rounds + 1))

    group: RunGroup | None = None

    def report(rows: list[dict[str, Any]], path: Path) -> None:
        nonlocal group
        write_report(rows, path)
        if len(rows) >= before:
            group = read_group(path.name, [path])
            write_page([group], path / FILE)
            logger.info("%s", round_line(rows, rounds))

    rows = search(config, on_round=report)
    if PartialState().is_main_process and config.search.theta_only:
        print(f"θ: {folder.theta}")
    elif PartialState().is_main_process:
        print(format_table(rows))
        print(f"\ntable:  {run_dir / 'summary.csv'}\nplot:   {run_dir / 'curve.png'} and {run_dir / 'curve.svg'}")
        there = sorted(path.parent.name for path in run_dir.glob(f"round_*/{MODEL_FILE}"))
        print(f"models: {run_dir}/round_*" if len(there) == len(rows) else f"models: {', '.join(there)} in {run_dir}")
        if group is not None:
            print(f"ticket: {group.note if group.selection is None else verdict(group.selection)}")
        print(f"report: {run_dir / FILE}")
    PartialState().destroy_process_group()


def round_line(rows: Sequence[Mapping[str, Any]], rounds: int) -> str:
    """What a finished round found, and how long the others will take if they take as long as the pruned ones so far.

    Args:
        rows: of the finished rounds.
        rounds: number of the last round.
    """
    from audio_lottery.report.columns import duration, percent, percent_interval

    last = rows[-1]
    suite = next((key for key in last if key.startswith("test_wer")), "dev_wer")
    known = f"low_{suite}" in last  # a set of one utterance has no interval
    interval = f" {percent_interval([last[f'{end}_{suite}'] for end in ('low', 'high')])}" if known else ""
    parts = [
        f"round {last['round']} of {rounds}",
        f"{last['remaining_percent']:.2f} % of the weights",
        f"WER {percent(last[suite])} %{interval}",
        duration(last["seconds"]),
    ]
    left = rounds + 1 - len(rows)
    if left > 0:
        # The dense model may take another number of steps than tickets do.
        timed = [row["seconds"] for row in rows[1:]] or [last["seconds"]]
        parts.append(f"about {duration(left * sum(timed) / len(timed))} left")
    return ", ".join(parts)
