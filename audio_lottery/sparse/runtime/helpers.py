"""Threads that help a caller with its work.

An encoder has pieces of work for all threads some fifty times in ten milliseconds, and waking a thread takes as long as
a small piece. So whoever has nothing to do looks out for the next job for `_BUSY` seconds, without the GIL, and sleeps
only then; a caller waits for its helpers in the same way.
"""

import atexit
import os
import threading
import time
from collections import deque
from collections.abc import Callable
from functools import lru_cache
from queue import SimpleQueue

import numpy as np

from audio_lottery.sparse.kernels.waiting import changes

# Seconds: a few times what it takes to wake a thread of a virtual machine.
_BUSY = 1e-4


class _Job:
    """Work that a caller does itself, and helpers do besides."""

    def __init__(self, work: Callable[[], None], helpers: int) -> None:
        self._work = work
        # places of those that have not begun; taking one is a step under the GIL
        self._free = deque(range(helpers))
        self._ended = np.zeros((helpers, 1), np.int64)
        self._errors: SimpleQueue[BaseException | None] = SimpleQueue()

    def help(self) -> None:
        """Do it, in the thread of a helper, unless the caller has ended."""
        try:
            number = self._free.popleft()
        except IndexError:
            return
        error: BaseException | None = None
        try:
            self._work()
        except BaseException as caught:  # the caller raises it
            error = caught
        self._errors.put(error)
        self._ended[number] = 1

    def finish(self) -> None:
        """Wait for the helpers that have begun; nobody begins any more.

        Raises:
            BaseException: what was raised in one of them.
        """
        begun = set(range(len(self._ended)))
        while self._free:
            try:
                begun.discard(self._free.pop())
            except IndexError:
                break
        for number in begun:
            changes(self._ended[number], 0, _turns())
        errors = [self._errors.get() for _ in begun]
        for error in errors:
            if error is not None:
                raise error


class Helpers:
    """So many threads that wait for jobs of any caller."""

    def __init__(self, count: int) -> None:
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()
        self._posted = np.zeros(1, np.int64)
        self._threads = [
            threading.Thread(target=self._serve, name=f"audio_lottery {number}", daemon=True) for number in range(count)
        ]
        for thread in self._threads:
            thread.start()

    def run(self, work: Callable[[], None], helpers: int) -> None:
        """Call ``work`` in this thread and in up to ``helpers`` of the others; return when all calls have.

        Raises:
            BaseException: what was raised in one of them.
        """
        job = _Job(work, helpers)
        for _ in range(helpers):
            self._jobs.put(job)
        self._posted += 1
        try:
            work()
        finally:
            job.finish()

    def close(self) -> None:
        """Let the threads end."""
        for _ in self._threads:
            self._jobs.put(None)
        self._posted += 1

    def join(self) -> None:
        """Wait until they have."""
        for thread in self._threads:
            thread.join()

    def _serve(self) -> None:
        while True:
            posted = int(self._posted[0])
            if self._jobs.empty():
                changes(self._posted, posted, _turns())
            job = self._jobs.get()
            if job is None:
                return
            job.help()
            # its arrays are not kept until the next one comes
            del job


# Of this process and number of threads; threads do not survive a fork.
_current: dict[tuple[int, int], Helpers] = {}


def helpers_of(count: int) -> Helpers:
    """The threads that help a caller, ``count`` of them; those of other numbers end."""
    key = (os.getpid(), count)
    found = _current.get(key)
    if found is None:
        _close()
        made = Helpers(count)
        # of two callers at once, the second finds what the first has made
        found = _current.setdefault(key, made)
        if found is not made:
            made.close()
    return found


def _close() -> list[Helpers]:
    ended = [helpers for (process, _), helpers in _current.items() if process == os.getpid()]
    _current.clear()
    for helpers in ended:
        helpers.close()
    return ended


@atexit.register
def _end() -> None:
    for helpers in _close():
        helpers.join()


@lru_cache(maxsize=1)
def _turns() -> int:
    """How often a number is looked at in `_BUSY` seconds."""
    number, times = np.zeros(1, np.int64), []
    for _ in range(5):
        begin = time.perf_counter()
        changes(number, 0, 1000)
        times.append(time.perf_counter() - begin)
    return max(int(1000 * _BUSY / min(times)), 1)
