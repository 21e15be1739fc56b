"""Models at work: recordings of any length into text with times."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from audio_lottery.transcribe.desk import Failure, Recording
    from audio_lottery.transcribe.recogniser import Recogniser
    from audio_lottery.transcribe.result import Segment, Transcript
    from audio_lottery.transcribe.windows import Windowing

__all__ = ["Failure", "Recogniser", "Recording", "Segment", "Transcript", "Windowing"]

_HOMES = {
    "Failure": "desk",
    "Recogniser": "recogniser",
    "Recording": "desk",
    "Segment": "result",
    "Transcript": "result",
    "Windowing": "windows",
}


def __getattr__(name: str) -> Any:
    """What is asked for, when it is: a recogniser brings torch, and the list of formats does not need it."""
    if name not in _HOMES:
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
