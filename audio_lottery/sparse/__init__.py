"""Small on disk and fast on a CPU: what a ticket's zeros are good for.

Knows nothing of how the zeros were found: it takes a dense model in which weights are zero. `format` is the file,
`accelerate` the CPU runtime, `benchmark` the comparison with other runtimes.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from audio_lottery.sparse.runtime.accelerate import Replacement, accelerate
    from audio_lottery.sparse.runtime.lean import load_accelerated

__all__ = ["Replacement", "accelerate", "load_accelerated"]


def __getattr__(name: str) -> Any:
    """The runtime when it is asked for: it brings numba's compiler, which reading a file does not need."""
    if name not in __all__:
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
    from importlib import import_module

    place = "lean" if name == "load_accelerated" else "accelerate"
    return getattr(import_module(f"audio_lottery.sparse.runtime.{place}"), name)
