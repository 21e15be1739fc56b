"""Small on disk and fast on a CPU: what a ticket's zeros are good for.

Knows nothing of how the zeros were found: it takes a dense model in which weights are zero.
"""

from audio_lottery.sparse.runtime.accelerate import Replacement, accelerate

__all__ = ["Replacement", "accelerate"]
