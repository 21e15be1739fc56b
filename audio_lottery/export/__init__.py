"""A recogniser written for another runtime, with all that a service needs beside it (docs/deploy.md)."""

from audio_lottery.export.target import TARGETS, Target
from audio_lottery.export.write import DESCRIPTION, Exported, export

__all__ = ["DESCRIPTION", "TARGETS", "Exported", "Target", "export"]
