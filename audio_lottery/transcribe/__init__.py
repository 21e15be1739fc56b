"""Models at work: recordings of any length into text with times."""

from audio_lottery.transcribe.desk import Failure, Recording
from audio_lottery.transcribe.recogniser import Recogniser
from audio_lottery.transcribe.result import Segment, Transcript
from audio_lottery.transcribe.windows import Windowing

__all__ = ["Failure", "Recogniser", "Recording", "Segment", "Transcript", "Windowing"]
