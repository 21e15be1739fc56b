"""Timing in turns: how often, in which order, and what a figure holds."""

import gc
from types import SimpleNamespace

import pytest

from audio_lottery.sparse.benchmark import interleaved
from audio_lottery.sparse.benchmark.interleaved import take_turns


def recorder(order: list[str], names: str) -> dict:
    return {name: lambda name=name: order.append(name) for name in names}


def test_every_contestant_has_one_turn_a_round_in_a_new_order() -> None:
    order: list[str] = []
    found = take_turns(recorder(order, "abcde"), repeats=4, seed=3)
    assert order[:5] == list("abcde")  # warm-up
    turns_taken = order[5:]
    assert turns_taken[::2] == turns_taken[1::2]  # each turn: one call to settle, one that is timed
    rounds = ["".join(turns_taken[10 * i : 10 * i + 10 : 2]) for i in range(4)]
    assert all(sorted(one) == list("abcde") for one in rounds)
    assert len(set(rounds)) > 1
    assert list(found) == list("abcde")
    assert all(len(timing.wall) == 4 for timing in found.values())
    again: list[str] = []
    take_turns(recorder(again, "abcde"), repeats=4, seed=3)
    assert again == order


def test_only_the_second_call_of_a_turn_is_timed_and_rests_are_not(monkeypatch: pytest.MonkeyPatch) -> None:
    wall, processor, calls = [0.0], [0.0], []

    def rest(seconds: float) -> None:
        wall[0] += seconds

    clock = SimpleNamespace(perf_counter=lambda: wall[0], process_time=lambda: processor[0], sleep=rest)
    monkeypatch.setattr(interleaved, "time", clock)

    def call() -> None:
        seconds = [100.0, 2.0, 100.0, 1.0, 100.0, 4.0][len(calls)]
        calls.append(seconds)
        wall[0] += seconds
        processor[0] += 1.5 * seconds

    timing = take_turns({"x": call}, repeats=3, warm_up=0, rest=7.0)["x"]
    assert timing.wall == [2.0, 1.0, 4.0]
    assert timing.median == 2.0
    assert timing.cores == 1.5


def test_no_garbage_collection_while_timing() -> None:
    seen = []
    take_turns({"x": lambda: seen.append(gc.isenabled())}, repeats=1, warm_up=0)
    assert seen == [False, False]
    assert gc.isenabled()


@pytest.mark.parametrize(("load", "warned"), [(0.2, False), (1.7, True)])
def test_a_busy_machine_is_told(monkeypatch, load: float, warned: bool) -> None:
    monkeypatch.setattr(interleaved.os, "getloadavg", lambda: (load, 9.0, 9.0))
    value, warning = interleaved.load_before()
    assert value == load
    assert (warning is not None and "1.70" in warning) == warned
