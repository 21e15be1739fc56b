"""Processes that hold one object and call functions on it, for code that never lets go of Python's lock."""

import os
import signal
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from typing import Any, Generic, TypeVar

from audio_lottery.errors import RunError

Held = TypeVar("Held")
Item = TypeVar("Item")
Result = TypeVar("Result")

_held: Any = None


class Workers(Generic[Held]):
    """Forked processes that share what they hold with this one: a language model is in memory once.

    They may touch nothing of torch that uses threads or a GPU. They end with this object, or with this process however
    it ends.
    """

    def __init__(self, held: Held, count: int) -> None:
        """Start ``count`` processes now, while the calling thread is in no torch function."""
        self._pool = ProcessPoolExecutor(count, get_context("fork"), initializer=_start, initargs=(held, os.getpid()))
        self._pool.submit(int).result()  # forks all of them
        self._end = weakref.finalize(self, self._pool.shutdown, cancel_futures=True)

    def map(self, function: Callable[[Held, Item], Result], items: Iterable[Item]) -> Iterator[Result]:
        """``function(held, item)`` for every item, in order. ``function`` must be importable.

        Raises:
            RunError: a process was killed; the usual reason is memory.
        """
        try:
            yield from self._pool.map(_call, ((function, item) for item in items))
        except BrokenProcessPool as error:
            raise RunError(
                "a decoding process was killed, probably for want of memory; use a smaller language model (a KenLM "
                "binary is mapped and not read) or a smaller evaluation.decoder.beam_size"
            ) from error

    def close(self) -> None:
        """End the processes."""
        self._end()


def available_cores() -> int:
    """The cores that this process of a launch has to itself, at least one."""
    return max(1, len(os.sched_getaffinity(0)) // int(os.environ.get("LOCAL_WORLD_SIZE", "1")))


def _start(held: Any, parent: int) -> None:
    global _held
    _held = held
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to answer
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()


def _end_with(parent: int) -> None:
    """A worker whose parent was killed would wait for its next task for ever."""
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)


def _call(task: tuple[Callable[[Any, Any], Any], Any]) -> Any:
    function, item = task
    return function(_held, item)
