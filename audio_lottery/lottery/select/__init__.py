"""Which tickets win: chosen on dev, reported on test."""

from audio_lottery.lottery.select.decide import (
    DEFAULT_MARGIN,
    Selection,
    SetResult,
    Ticket,
    choose,
    mean_budget,
    measure,
    select,
    why_not,
)
from audio_lottery.lottery.select.read import DEV, SearchedRun, read_run, warn_changed

__all__ = [
    "DEFAULT_MARGIN",
    "DEV",
    "SearchedRun",
    "Selection",
    "SetResult",
    "Ticket",
    "choose",
    "mean_budget",
    "measure",
    "read_run",
    "select",
    "warn_changed",
    "why_not",
]
