"""Threads that help a caller."""

import threading
import time

import pytest

from audio_lottery.sparse.runtime.helpers import Helpers, helpers_of


@pytest.fixture
def helpers():
    made = Helpers(3)
    yield made
    made.close()
    made.join()
    assert not any(thread.is_alive() for thread in made._threads)


def names(helpers, count, pause=0.05):
    """Of the threads that did a job in which all that begin wait for each other."""
    found = []

    def work():
        found.append(threading.current_thread().name)
        time.sleep(pause)

    helpers.run(work, count)
    return found


@pytest.mark.parametrize("count", range(4))
def test_so_many_threads_help(helpers, count):
    for pause in (0.05, 0.0):
        done = names(helpers, count, pause)
        assert threading.current_thread().name in done
        assert len(done) == len(set(done)) <= count + 1
    # after a while, when they are asleep
    time.sleep(0.02)
    assert len(names(helpers, count)) == count + 1


def test_nobody_waits_for_a_helper_that_is_busy_elsewhere():
    helpers, begun, let_go = Helpers(1), threading.Event(), threading.Event()

    def long():
        if threading.current_thread().name.startswith("audio_lottery"):
            begun.set()
            let_go.wait(30)
        else:
            begun.wait(30)

    other = threading.Thread(target=helpers.run, args=(long, 1))
    other.start()
    assert begun.wait(30)
    assert names(helpers, 1, 0) == [threading.current_thread().name]
    let_go.set()
    other.join(30)
    assert not other.is_alive()
    helpers.close()
    helpers.join()


def test_an_error_of_a_helper_is_raised(helpers):
    def work():
        if threading.current_thread().name.startswith("audio_lottery"):
            raise ValueError("of a helper")
        time.sleep(0.05)

    with pytest.raises(ValueError, match="of a helper"):
        helpers.run(work, 1)
    assert len(names(helpers, 3)) == 4


def test_other_numbers_of_threads_end_those_before():
    two = helpers_of(2)
    assert helpers_of(2) is two
    three = helpers_of(3)
    two.join()
    # a caller that still has the old ones does all itself
    assert len(names(two, 2, 0)) == 1
    assert len(names(three, 3)) == 4
