"""The errors a user can cause. Each message is one line: what is wrong, where, and what to do about it."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager


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


class HubError(AudioLotteryError):
    """The Hub refused, did not answer, or does not hold what was sent to it."""


class StorageError(AudioLotteryError):
    """A file that could not be written: disk full, quota, permissions."""


# Characters of another library's message that are shown.
_LONG = 300

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


@contextmanager
def reading(what: str, remedy: str = "get it again") -> Iterator[None]:
    """Tells in one line that a library could not read what the user gave.

    For calls of a library on a user's files only: on damaged ones they raise anything, `Exception` itself included
    (tokenizers), so that no list of classes would be whole.

    Args:
        what: the file, for the message.
        remedy: what to do about it.

    Raises:
        ModelError: whatever the block raised, but for errors of this package and memory running out.
    """
    try:
        yield
    except (AudioLotteryError, MemoryError):
        raise
    except Exception as error:
        raise ModelError(f"{what} cannot be read ({reason(error)}); {remedy}") from error


def reason(error: Exception) -> str:
    """What an error says, on one line: its first, and the second where the first only announces it."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if not lines:
        return type(error).__name__
    text = " ".join(lines[:2]) if lines[0].endswith(":") else lines[0]
    text = text if len(text) <= _LONG else f"{text[:_LONG]} ..."  # transformers lists every class that it knows
    # The message of these is a bare name or value.
    return f"{type(error).__name__}: {text}" if isinstance(error, LookupError | AttributeError) else text
