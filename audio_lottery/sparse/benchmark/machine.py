"""What this machine could do at most, measured: multiply-adds and bytes from memory a second, on all threads."""

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

# Of each thread: larger than the caches.
_BYTES = 96 << 20
_TURNS = 1 << 16
_REPEATS = 7


@dataclass(frozen=True)
class Machine:
    """Peaks of so many threads at once.

    Attributes:
        threads: how many.
        precision: of the multiply-adds: "float32", "bfloat16" or "int8".
        multiply_adds: a second, from registers to registers.
        bytes: a second, read from memory.
    """

    threads: int
    precision: str
    multiply_adds: float
    bytes: float


def probe(precision: str) -> Machine:
    """Measure, with `torch.get_num_threads` threads, in some tenths of a second; the best of `_REPEATS`.

    Args:
        precision: see `Machine`; where the CPU has no such products, the next one that it has.
    """
    # numba takes a second to load
    from audio_lottery.sparse.kernels import probe as kernels
    from audio_lottery.sparse.kernels.vector import HAS_BF16_DOT, HAS_INT8_DOT, WIDTH

    precision = "bfloat16" if precision == "int8" and not HAS_INT8_DOT else precision
    precision = "float32" if precision == "bfloat16" and not HAS_BF16_DOT else precision
    work, each_lane = {
        "float32": (kernels.multiply_adds_float32, 1),
        "bfloat16": (kernels.multiply_adds_bfloat16, 2),
        "int8": (kernels.multiply_adds_int8, 4),
    }[precision]
    threads = torch.get_num_threads()
    count = threads * _TURNS * kernels.SUMS * WIDTH * each_lane
    seconds = _on_all_threads(lambda number: work(_TURNS, 0))
    arrays = [np.ones(_BYTES // 4, np.float32) for _ in range(threads)]
    reading = _on_all_threads(lambda number: kernels.read_through(arrays[number]))
    return Machine(threads, precision, count / seconds, threads * _BYTES / reading)


def _on_all_threads(work: Callable[[int], object]) -> float:
    """Seconds until all threads have done it, at best."""
    from audio_lottery.sparse.runtime.threads import each

    def one(number: int, scratch: np.ndarray) -> None:
        work(number)

    found = []
    for _ in range(_REPEATS + 1):
        begin = time.perf_counter()
        each(one, torch.get_num_threads())
        found.append(time.perf_counter() - begin)
    return min(found[1:])
