"""What `audio-lottery prepare` made, as text."""

from collections.abc import Sequence
from typing import Any

from audio_lottery.report.columns import format_columns

_HEADER = ["corpus", "split", "utterances", "hours", "speakers", "empty", "converted", "source audio"]


def format_corpora(summaries: Sequence[dict[str, Any]]) -> str:
    """Counts and durations, a line a split, aligned."""
    rows = []
    for summary in summaries:
        rates = ", ".join(f"{int(rate) / 1000:g} kHz: {number}" for rate, number in summary["sample_rates"].items())
        many = sum(number for channels, number in summary["channels"].items() if channels != "1")
        rows.append(
            [
                summary["corpus"],
                summary["split"],
                str(summary.get("utterances", summary.get("files"))),
                f"{summary['hours']:.2f}",
                str(summary.get("speakers", "-")),
                str(summary.get("empty_transcripts", "-")),
                str(summary.get("converted", "-")),
                rates + (f"; more than one channel: {many}" if many else ""),
            ]
        )
    return format_columns(_HEADER, rows, left=2)
