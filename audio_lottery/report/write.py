"""The report of a run: table and curve, written again after every round."""

from pathlib import Path
from typing import Any

from audio_lottery.report.plots import plot_curve
from audio_lottery.report.tables import write_summary


def write_report(rows: list[dict[str, Any]], run_dir: Path) -> None:
    """Write ``summary.csv``, ``curve.png`` and ``curve.svg`` into the run folder.

    Raises:
        StorageError: a file could not be written.
    """
    write_summary(rows, run_dir / "summary.csv")
    plot_curve(rows, run_dir / "curve", title=run_dir.name)
