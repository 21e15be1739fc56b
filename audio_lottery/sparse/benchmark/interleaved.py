"""Timing in turns: what else the machine does hits all contestants alike."""

import gc
import os
import random
import statistics
import time
from collections.abc import Callable, Hashable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TypeVar

import torch
from tqdm import tqdm

Name = TypeVar("Name", bound=Hashable)

# Above this load of the machine, other processes take time from the contestants.
BUSY = 0.5


@dataclass
class Timing:
    """Wall-clock and processor seconds of the timed calls of one contestant, in the order of the rounds."""

    wall: list[float] = field(default_factory=list)
    processor: list[float] = field(default_factory=list)

    @property
    def median(self) -> float:
        """Median wall-clock seconds."""
        return statistics.median(self.wall)

    @property
    def cores(self) -> float:
        """Processor seconds per wall-clock second: how many cores were at work, all threads of the process counted."""
        return statistics.median(p / w for p, w in zip(self.processor, self.wall, strict=True))


def take_turns(
    calls: Mapping[Name, Callable[[], object]],
    repeats: int,
    seed: int = 0,
    rest: float = 0.0,
    warm_up: int = 1,
    progress: str | None = None,
) -> dict[Name, Timing]:
    """Time every call ``repeats`` times, in rounds, in an order that is drawn anew for every round.

    A turn is a rest, one call that is not timed and one that is: the first takes back the caches and wakes the threads
    that the contestant before has left in another state, so that the figure is that of a model in steady use. Python's
    garbage collector runs between rounds only.

    Args:
        calls: name → what is timed.
        repeats: rounds.
        seed: of the orders.
        rest: seconds of sleep before every turn, in which worker threads of other runtimes stop spinning.
        warm_up: rounds of untimed calls before the first.
        progress: title of a progress bar; None shows none.

    Returns:
        Name → timing, in the order given.
    """
    names = list(calls)
    found = {name: Timing() for name in names}
    order = random.Random(seed)
    bar = tqdm(total=repeats * len(names), desc=progress, disable=progress is None, leave=False)
    with torch.inference_mode(), bar:
        for _ in range(warm_up):
            for name in names:
                calls[name]()
        for _ in range(repeats):
            order.shuffle(names)
            with _no_garbage_collection():
                for name in names:
                    time.sleep(rest)
                    _turn(calls[name], found[name])
                    bar.update()
    return found


def load_before() -> tuple[float, str | None]:
    """The machine's load over the last minute, and a warning where it is busy."""
    load = os.getloadavg()[0]
    if load <= BUSY:
        return load, None
    return load, (
        f"the machine is busy (load {load:.2f} before the start): contestants take turns, so ratios say something, but "
        "the times are not worth quoting"
    )


def _turn(call: Callable[[], object], timing: Timing) -> None:
    call()
    processor, wall = time.process_time(), time.perf_counter()
    call()
    timing.wall.append(time.perf_counter() - wall)
    timing.processor.append(time.process_time() - processor)


@contextmanager
def _no_garbage_collection() -> Iterator[None]:
    gc.collect()
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


@contextmanager
def torch_threads(count: int) -> Iterator[None]:
    """Torch, and what follows its setting, with so many threads; the caller's number comes back afterwards."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
