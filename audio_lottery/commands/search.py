"""``audio-lottery search`` and the recipes: find winning tickets."""

from pathlib import Path

from audio_lottery.config import RunConfig
from audio_lottery.settings import parse_config


def main(arguments: list[str]) -> None:
    """Search with the settings of a command line."""
    run_search(parse_config(arguments, prog="audio-lottery search"))


def run_search(config: RunConfig) -> None:
    """Run a search, write ``summary.csv`` and the curve after every round, and print the table at the end."""
    # Here and not above: they load torch, and a mistake in the settings should be told at once.
    from accelerate.state import PartialState

    from audio_lottery.lottery.run_folder import MODEL_FILE
    from audio_lottery.lottery.search import search
    from audio_lottery.report.tables import format_table
    from audio_lottery.report.write import write_report

    rows = search(config, on_round=write_report)
    if PartialState().is_main_process:
        run_dir = Path(config.run_dir)
        print(format_table(rows))
        print(f"\ntable:  {run_dir / 'summary.csv'}\nplot:   {run_dir / 'curve.png'} and {run_dir / 'curve.svg'}")
        there = sorted(path.parent.name for path in run_dir.glob(f"round_*/{MODEL_FILE}"))
        print(f"models: {run_dir}/round_*" if len(there) == len(rows) else f"models: {', '.join(there)} in {run_dir}")
