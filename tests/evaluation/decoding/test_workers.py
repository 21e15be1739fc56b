"""Processes that share an object: order, errors, and no orphans."""

import os
import signal
import time
from multiprocessing import get_context
from multiprocessing.connection import Connection

import pytest

from audio_lottery.errors import RunError, TextError
from audio_lottery.evaluation.decoding.workers import Workers


def add(held: int, item: int) -> tuple[int, int]:
    return held + item, os.getpid()


def fail(held: int, item: int) -> None:
    raise TextError(f"no {item}")


def die(held: int, item: int) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def test_results_come_in_order_from_other_processes():
    workers = Workers(100, 2)
    found = list(workers.map(add, range(50)))
    assert [value for value, _ in found] == list(range(100, 150))
    assert os.getpid() not in {process for _, process in found}
    workers.close()


def test_an_error_in_a_process_is_raised_here():
    workers = Workers(0, 1)
    with pytest.raises(TextError, match=r"^no 1$"):
        list(workers.map(fail, [1]))
    workers.close()


def test_a_killed_process_is_one_clear_line():
    workers = Workers(0, 1)
    with pytest.raises(RunError, match="a decoding process was killed"):
        list(workers.map(die, [1]))
    workers.close()


def report_worker(sender: Connection) -> None:
    workers = Workers(0, 1)
    sender.send(next(process for _, process in workers.map(add, [1])))
    time.sleep(60)


def test_processes_end_when_their_parent_is_killed():
    receiver, sender = get_context("fork").Pipe(duplex=False)
    parent = get_context("fork").Process(target=report_worker, args=(sender,))
    parent.start()
    worker = receiver.recv()
    parent.kill()
    parent.join()
    for _ in range(100):
        if not _alive(worker):
            return
        time.sleep(0.1)
    os.kill(worker, signal.SIGKILL)
    pytest.fail("the worker outlived its parent")


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    with open(f"/proc/{process}/stat") as stat:
        return stat.read().rsplit(")", 1)[1].split()[0] != "Z"  # killed, and not yet collected by init
