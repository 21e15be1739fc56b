"""Work shared between as many threads as torch is set to use.

The kernels release the GIL, so Python's own threads do; each takes the next piece of work when it has finished one, and
the caller works too. Threads do not survive a fork: the pool is made anew in a child process.
"""

import itertools
import os
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext

import numpy as np
import torch

_pools: dict[tuple[int, int], ThreadPoolExecutor] = {}
_kept = threading.local()
# Seconds by part of the model while `recording`, else None.
_times: dict[str, float] | None = None


@contextmanager
def recording() -> Iterator[dict[str, float]]:
    """Seconds that the parts of a model take within the block, by name; for one model call at a time."""
    global _times
    _times = {}
    try:
        yield _times
    finally:
        _times = None


@contextmanager
def part(name: str) -> Iterator[None]:
    """Count the seconds of the block towards a name, while `recording`."""
    times, begin = _times, time.perf_counter()
    yield
    if times is not None:
        times[name] = times.get(name, 0.0) + time.perf_counter() - begin


def each(work: Callable[[int, np.ndarray], None], count: int, scratch: int = 0, name: str = "other") -> None:
    """Call ``work(number, scratch)`` for every number below ``count``, on `torch.get_num_threads` threads.

    Args:
        work: must release the GIL to gain from it; calls for different numbers may run at the same time.
        count: pieces of work.
        scratch: float32 numbers of workspace that each thread gets, aligned and not cleared.
        name: what the seconds count towards, see `part`; empty within a part that is counted already.
    """
    numbers = itertools.count()

    def take() -> None:
        space = workspace("scratch", scratch)
        # next() on a counter is one step under the GIL: no number is given out twice
        while (number := next(numbers)) < count:
            work(number, space)

    with part(name) if name else nullcontext():
        _run(take, count)


def _run(take: Callable[[], None], count: int) -> None:
    helpers = [_pool().submit(take) for _ in range(min(torch.get_num_threads(), count) - 1)]
    try:
        take()
    finally:
        for helper in helpers:
            helper.result()


def workspace(name: str, size: int) -> np.ndarray:
    """``size`` float32 that this thread keeps under a name and gets again, with whatever was left in them.

    Fresh memory of this size comes from the system page by page, each of which must first be cleared: that can take
    longer than the product that is written there.
    """
    kept = _kept.__dict__
    if name not in kept or kept[name].size < size:
        kept[name] = aligned(size)
    return kept[name][:size]


def aligned(size: int) -> np.ndarray:
    """``size`` float32 on a cache line's border: a vector across two lines costs twice as much."""
    return torch.empty(size).numpy()


def _pool() -> ThreadPoolExecutor:
    key = (os.getpid(), torch.get_num_threads())
    if key not in _pools:
        _pools.clear()
        _pools[key] = ThreadPoolExecutor(max(key[1] - 1, 1), thread_name_prefix="audio_lottery")
    return _pools[key]


def tile_widths(frames: int, tile: int, vector: int) -> list[int]:
    """``frames`` cut into equal tiles of at most ``tile``: as many as keep every thread busy, in whole vectors.

    One thread may get no tile where there are too few vectors.
    """
    threads = torch.get_num_threads()
    tiles = whole(frames, tile) // tile
    tiles = whole(tiles, threads) if tiles < 4 * threads else tiles
    width = min(whole(whole(frames, tiles) // tiles, vector), tile)
    return [min(width, frames - start) for start in range(0, frames, width)]


def whole(number: int, step: int) -> int:
    """``number`` rounded up to a multiple of ``step``."""
    return -(-number // step) * step
