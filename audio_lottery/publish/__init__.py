"""Tickets on the Hub: checked, with a card, in one commit, read back; and loaded again.

`load_ticket` is for whoever uses a ticket. ``audio-lottery publish`` is made of the rest: `choose_round`,
`check_round`, `assemble`, `upload`. docs/publish.md tells how.
"""

from audio_lottery.publish.load import LoadedTicket, load_ticket

__all__ = ["LoadedTicket", "load_ticket"]
