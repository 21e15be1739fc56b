"""Work shared between as many threads as torch is set to use.

The kernels release the GIL, so Python's own threads do; each takes the next piece of work when it has finished one, and
the caller works too.
"""

import itertools
import threading
import time
from collections.abc import Callable, Hashable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass

import numpy as np
import torch

from audio_lottery.sparse.runtime.helpers import helpers_of

_kept = threading.local()


@dataclass
class Tally:
    """What a part of a model has done.

    Attributes:
        seconds: that it took.
        multiply_adds: of kept weights, and of attention, for whole vectors of frames.
        bytes: of the weights that it read, each counted once.
    """

    seconds: float = 0.0
    multiply_adds: int = 0
    bytes: int = 0


class Record:
    """Tallies of the parts of a model by name, for one call at a time."""

    def __init__(self) -> None:
        self.tallies: dict[str, Tally] = {}
        self._inside = Tally()
        self._seen: set[Hashable] = set()
        self._adding = threading.Lock()

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Count what the block does towards a name."""
        before, begin = self._inside, time.perf_counter()
        self._inside = self.tallies.setdefault(name, Tally())
        yield
        self._inside.seconds += time.perf_counter() - begin
        self._inside = before

    def add(self, multiply_adds: int, weights: Hashable = None, size: int = 0) -> None:
        """Count work, from any thread; ``weights``, of ``size`` bytes, when they come for the first time."""
        with self._adding:
            self._inside.multiply_adds += multiply_adds
            if weights is not None and weights not in self._seen:
                self._seen.add(weights)
                self._inside.bytes += size


_record: Record | None = None


@contextmanager
def recording() -> Iterator[Record]:
    """Within the block, count what the parts of a model do; for one model call at a time."""
    global _record
    _record = Record()
    try:
        yield _record
    finally:
        _record = None


def record() -> Record | None:
    """What counts, while `recording`."""
    return _record


def part(name: str) -> AbstractContextManager[None]:
    """Count the block towards a name, while `recording`."""
    return nullcontext() if _record is None else _record.part(name)


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

    threads = torch.get_num_threads()
    with part(name) if name else nullcontext():
        if min(threads, count) > 1:
            helpers_of(threads - 1).run(take, min(threads, count) - 1)
        else:
            take()


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


def equal_parts(count: int, parts: int, unit: int) -> list[tuple[int, int]]:
    """First and one past the last of up to ``parts`` parts of ``count`` things, in whole units but for the last."""
    units = whole(count, unit) // unit
    parts = min(parts, units)
    ends = [min(units * number // parts * unit, count) for number in range(parts + 1)]
    return list(itertools.pairwise(ends))


def tile_widths(frames: int, tile: int, vector: int, threads: int | None = None) -> list[int]:
    """``frames`` cut into equal tiles of at most ``tile``: as many as keep every thread busy, in whole vectors.

    One thread may get no tile where there are too few vectors. Without ``threads``, those of torch.
    """
    threads = threads or torch.get_num_threads()
    tiles = whole(frames, tile) // tile
    tiles = whole(tiles, threads) if tiles < 4 * threads else tiles
    width = min(whole(whole(frames, tiles) // tiles, vector), tile)
    return [min(width, frames - start) for start in range(0, frames, width)]


def whole(number: int, step: int) -> int:
    """``number`` rounded up to a multiple of ``step``."""
    return -(-number // step) * step
