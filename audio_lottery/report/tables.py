"""The table of a search: one row per round, as ``summary.csv`` and as text for the terminal.

A row is a flat dictionary. ``test_wer`` is the clean test set and ``test_wer_<suite>`` a noisy one; error rates are
fractions and sizes are bytes, as measured, and only the text for people turns them into per cent and megabytes.
"""

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from audio_lottery.report.columns import budget, format_columns
from audio_lottery.storage import write_bytes

SUITE_PREFIX = "test_wer_"
# Ends of the 95 % interval over utterances: low_test_wer, high_test_wer_noise10 ...
LOW, HIGH = "low_", "high_"
COLUMNS = (
    "round",
    "remaining_percent",
    "remaining_percent_all",
    "dev_wer",
    "test_wer",
    # One test_wer_<suite> column for every noisy suite comes here.
    "mask_sha256",
    # What the model cost from θ on, with the rounds that it was made from: optimiser steps, hours of speech.
    "steps",
    "audio_hours",
    "bytes",
    "bytes_gzip",
    "seconds",
)

SummaryRow = Mapping[str, Any]
"""One round, flat; see the module's description."""


def noisy_suites(rows: Iterable[SummaryRow]) -> list[str]:
    """Names of the noisy test suites in ``rows``, in the order in which they first occur."""
    keys = dict.fromkeys(key for row in rows for key in row)
    return [key.removeprefix(SUITE_PREFIX) for key in keys if key.startswith(SUITE_PREFIX)]


def column_order(rows: Sequence[SummaryRow]) -> list[str]:
    """`COLUMNS` with the noisy suites behind ``test_wer``, then whatever else the rows hold, as it first occurs."""
    suites = [SUITE_PREFIX + suite for suite in noisy_suites(rows)]
    split = COLUMNS.index("test_wer") + 1
    known = [*COLUMNS[:split], *suites, *COLUMNS[split:]]
    return list(dict.fromkeys([*known, *(key for row in rows for key in row)]))


def write_summary(rows: Sequence[SummaryRow], path: Path) -> None:
    """Write the rows to a CSV file, whole or not at all; a value that a row lacks is an empty cell.

    Numbers keep every digit, so reading the file gives the same values.

    Raises:
        StorageError: the file could not be written; what was at ``path`` before is still there.
    """
    text = io.StringIO()
    writer = csv.DictWriter(text, column_order(rows), restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_bytes(path, text.getvalue().encode())


def format_table(rows: Sequence[SummaryRow]) -> str:
    """The rows as aligned text: remaining weights and error rates in per cent, sizes in megabytes (10⁶ bytes).

    A value that a row lacks is shown as ``-``.
    """
    suites = noisy_suites(rows)
    header = ["RW %", "WER clean", *(f"WER {suite}" for suite in suites), "steps", "audio", "bytes"]
    keys = ["test_wer", *(SUITE_PREFIX + suite for suite in suites)]
    body = [[_remaining(row), *(_percent(row.get(key)) for key in keys), *budget(row), _size(row)] for row in rows]
    return format_columns(header, body)


def plain_number(value: float) -> str:
    """A percentage to two significant digits below 10 and none behind the point above: 100, 51, 8.6, 0.35."""
    if value >= 9.95:
        return f"{value:.0f}"
    return f"{value:.1f}" if value >= 0.995 else f"{value:.2g}"


def _remaining(row: SummaryRow) -> str:
    value = row.get("remaining_percent")
    return "-" if value is None else f"{value:.2f}"


def _percent(fraction: float | None) -> str:
    return "-" if fraction is None else f"{100 * fraction:.2f} %"


def _size(row: SummaryRow) -> str:
    plain, zipped = _megabytes(row.get("bytes")), _megabytes(row.get("bytes_gzip"))
    return plain if zipped == "-" else f"{plain} ({zipped} gzip)"


def _megabytes(size: int | None) -> str:
    return "-" if size is None else f"{size / 1e6:.2f} MB"
