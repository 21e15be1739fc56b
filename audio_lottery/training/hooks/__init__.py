"""What hangs on a training: masks, scores, rewind points, what is shown."""

from audio_lottery.training.hooks.base import Hook
from audio_lottery.training.hooks.late import KeepLate, StartLate
from audio_lottery.training.hooks.mask import KeepMask
from audio_lottery.training.hooks.movement import GatherMovement

__all__ = ["GatherMovement", "Hook", "KeepLate", "KeepMask", "StartLate"]
