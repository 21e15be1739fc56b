"""Which tickets win: chosen on dev, reported on test."""

from audio_lottery.lottery.select.decide import (
    DEFAULT_MARGIN,
    Selection,
    SetResult,
    Ticket,
    mean_budget,
    measure,
    select,
    why_not,
)
from audio_lottery.lottery.select.read import suite_counts

__all__ = [
    "DEFAULT_MARGIN",
    "Selection",
    "SetResult",
    "Ticket",
    "mean_budget",
    "measure",
    "select",
    "suite_counts",
    "why_not",
]
