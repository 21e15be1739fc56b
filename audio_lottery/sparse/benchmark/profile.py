"""Where the time goes: exclusive seconds of every kind of module."""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from audio_lottery.sparse.benchmark.machine import Machine
from audio_lottery.sparse.benchmark.module_kinds import kind_of

Shares = dict[str, float]


@dataclass(frozen=True)
class PartBudget:
    """What a part of an accelerated model takes, and what it does in that time.

    Attributes:
        part: its name.
        seconds: see above.
        multiply_adds: of kept weights, and of attention; 0 where it has none, or they are not counted.
        bytes: of the weights that it reads, each once.
    """

    part: str
    seconds: float
    multiply_adds: int
    bytes: int

    def at_least(self, machine: Machine) -> float:
        """Seconds that its multiply-adds or its weights would take at the machine's peaks, whichever takes longer."""
        return max(self.multiply_adds / machine.multiply_adds, self.bytes / machine.bytes)


def profile_modules(model: nn.Module, inputs: Tensor, repeats: int = 3) -> Shares:
    """Seconds by kind of module, each without the modules inside it, most first: medians over ``repeats`` passes.

    Measured by hooks before and after every module's ``forward``; they add some microseconds to each.

    Args:
        model: maps ``inputs`` to anything.
        inputs: of the length that is profiled.
        repeats: passes after one that is not counted.
    """
    clock = _Clock()
    handles = []
    for name, module in model.named_modules():
        handles.append(module.register_forward_pre_hook(clock.enter))
        handles.append(module.register_forward_hook(partial(clock.leave, kind_of(name, module))))
    try:
        with torch.inference_mode():
            model(inputs)
            passes = [clock.read(lambda: model(inputs)) for _ in range(repeats)]
    finally:
        for handle in handles:
            handle.remove()
    return _medians(passes)


def budget_ours(accelerated: nn.Module, inputs: Tensor, repeats: int = 3) -> list[PartBudget] | None:
    """The same for an accelerated model, by the parts that its own ``budget(inputs)`` names; None without one.

    Args:
        accelerated: see `runtime.model.AcceleratedModel`.
        inputs: of the length that is profiled.
        repeats: passes after one that is not counted; seconds are medians.
    """
    own: Callable[[Tensor], list[tuple[str, Any]]] | None = getattr(accelerated, "budget", None)
    if own is None:
        return None
    with torch.inference_mode():
        own(inputs)
        passes = [dict(own(inputs)) for _ in range(repeats)]
    seconds = _medians([{name: tally.seconds for name, tally in found.items()} for found in passes])
    last = passes[-1]
    return [PartBudget(name, time, last[name].multiply_adds, last[name].bytes) for name, time in seconds.items()]


class _Clock:
    """A stack of running modules; whoever is on top is charged."""

    def __init__(self) -> None:
        self.inside: list[float] = []
        self.started: list[float] = []
        self.sums: Shares = {}

    def enter(self, module: nn.Module, inputs: Any) -> None:
        self.inside.append(0.0)
        self.started.append(time.perf_counter())

    def leave(self, kind: str, module: nn.Module, inputs: Any, output: Any) -> None:
        elapsed = time.perf_counter() - self.started.pop()
        self.sums[kind] = self.sums.get(kind, 0.0) + elapsed - self.inside.pop()
        if self.inside:
            self.inside[-1] += elapsed

    def read(self, run: Callable[[], object]) -> Shares:
        """Sums of one pass."""
        self.sums = {}
        run()
        return self.sums


def _medians(passes: list[Shares]) -> Shares:
    medians = {kind: statistics.median(sums.get(kind, 0.0) for sums in passes) for kind in passes[0]}
    return dict(sorted(medians.items(), key=lambda item: -item[1]))
