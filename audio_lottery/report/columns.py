"""Aligned text columns for the terminal, and how rates and times are printed."""

from collections.abc import Mapping, Sequence
from typing import Any


def format_columns(header: Sequence[str], body: Sequence[Sequence[str]], left: int = 0) -> str:
    """A header, a ruler and one line per row; the first ``left`` columns are flush left, the others right."""
    widths = [max(map(len, column)) for column in zip(header, *body, strict=True)]
    ruler = ["-" * width for width in widths]
    lines = []
    for cells in (header, ruler, *body):
        padded = [
            cell.ljust(width) if index < left else cell.rjust(width)
            for index, (cell, width) in enumerate(zip(cells, widths, strict=True))
        ]
        lines.append("  ".join(padded).rstrip())
    return "\n".join(lines)


def percent(fraction: float | None, sign: bool = False) -> str:
    """A fraction in per cent with two decimals, without the unit; ``-`` for None."""
    return "-" if fraction is None else f"{100 * fraction:{'+' if sign else ''}.2f}"


def percent_interval(bounds: Sequence[float] | None, sign: bool = False) -> str:
    """[low, high] in per cent; ``-`` for None."""
    return "-" if bounds is None else f"[{percent(bounds[0], sign)}, {percent(bounds[1], sign)}]"


def duration(seconds: float) -> str:
    """Seconds, minutes or hours, whichever reads best."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    if seconds < 7200:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"


def budget(spent: Mapping[str, Any] | None) -> list[str]:
    """What a model cost, two cells: optimiser steps, and hours of speech; ``-`` where it was not counted."""
    steps, hours = ((spent or {}).get(key) for key in ("steps", "audio_hours"))
    return ["-" if steps is None else f"{steps:,.0f}", "-" if hours is None else f"{hours:.2f} h"]
