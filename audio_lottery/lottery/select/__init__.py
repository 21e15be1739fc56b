"""Which tickets win: chosen on dev, reported on test."""

from audio_lottery.lottery.select.decide import DEFAULT_MARGIN, Selection, SetResult, Ticket, select, why_not

__all__ = ["DEFAULT_MARGIN", "Selection", "SetResult", "Ticket", "select", "why_not"]
