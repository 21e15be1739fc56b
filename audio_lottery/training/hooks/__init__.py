"""What hangs on a training: masks, scores, rewind points, what is shown."""

from audio_lottery.training.hook import Hook
from audio_lottery.training.hooks.late import KeepLate, StartLate
from audio_lottery.training.hooks.mask import KeepMask
from audio_lottery.training.hooks.movement import GatherMovement
from audio_lottery.training.hooks.show import Show
from audio_lottery.training.hooks.track import Track

__all__ = ["GatherMovement", "Hook", "KeepLate", "KeepMask", "Show", "StartLate", "Track"]
