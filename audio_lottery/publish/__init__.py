"""Tickets on the Hub: checked, with a card, in one commit, read back; and loaded again.

`load_ticket` is for whoever uses a ticket. ``audio-lottery publish`` is made of the rest: `names.choose_round`,
`checks.check_round`, `folder.assemble`, `upload.upload`. docs/publish.md tells how.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from audio_lottery.publish.load import LoadedTicket, load_ticket

__all__ = ["LoadedTicket", "load_ticket"]


def __getattr__(name: str) -> Any:
    """Import when asked: torch and transformers take seconds, and that there is no token should be told at once."""
    if name in __all__:
        from audio_lottery.publish import load

        return getattr(load, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
