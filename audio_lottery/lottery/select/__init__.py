"""Which tickets win: chosen on dev, reported on test."""

from audio_lottery.lottery.select.decide import (
    DEFAULT_MARGIN,
    Selection,
    SetResult,
    Ticket,
    measure,
    select,
    why_not,
)
from audio_lottery.lottery.select.read import SearchedRun, read_run

__all__ = [
    "DEFAULT_MARGIN",
    "SearchedRun",
    "Selection",
    "SetResult",
    "Ticket",
    "measure",
    "read_run",
    "select",
    "why_not",
]
