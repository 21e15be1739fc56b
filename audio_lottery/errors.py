"""The errors a user can cause. Each message is one line: what is wrong, where, and what to do about it."""

import errno


class AudioLotteryError(Exception):
    """Base of every error that is the input's fault and not the program's.

    The command line prints ``str(error)`` on one line and exits with status 2; a library user catches this class.

    DataLoader workers re-raise an exception as ``type(error)("Caught ... Original Traceback ...")``; the message is cut
    back to the original line here, so that an error reads the same with and without workers.
    """

    def __init__(self, message: str) -> None:
        if message.startswith("Caught ") and "Original Traceback" in message:
            last = message.rstrip().splitlines()[-1]
            message = last.split(": ", 1)[-1]
        super().__init__(" ".join(message.split()))


class ConfigError(AudioLotteryError):
    """A setting that does not exist, has the wrong type, or contradicts another."""


class CorpusError(AudioLotteryError):
    """A corpus on disk that is missing, incomplete or not in its official layout."""


class AudioError(AudioLotteryError):
    """An audio file that cannot be decoded, or holds less than it promises."""


class TextError(AudioLotteryError):
    """A transcript that the vocabulary or the policy cannot take."""


class ModelError(AudioLotteryError):
    """A model or processor that cannot be loaded, built or trained."""


class MaskError(AudioLotteryError):
    """A mask that does not fit its model, or a density that cannot be met."""


class RunError(AudioLotteryError):
    """A run folder that belongs to another run, or is damaged."""


class StorageError(AudioLotteryError):
    """A file that could not be written: disk full, quota, permissions."""


_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


def storage_error(path: object, error: Exception) -> StorageError:
    """The one-line error for a failed write of ``path``; says when the reason is a full disk."""
    number = getattr(error, "errno", None)
    # safetensors raises its own exception class, which carries the system's text and not its number.
    full = number in _FULL or "os error 28" in str(error) or "os error 27" in str(error)
    reason = f"no space left for it ({error})" if full else str(error)
    return StorageError(
        f"cannot write {path}: {reason}; free some space or choose another folder and run the command again"
    )
