"""Where the time goes: exclusive seconds of every kind of module."""

import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from audio_lottery.sparse.benchmark.module_kinds import kind_of

Shares = dict[str, float]


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


def profile_ours(accelerated: nn.Module, inputs: Tensor, repeats: int = 3) -> Shares | None:
    """The same for an accelerated model, by the names that its own ``profile(inputs)`` gives; None without one."""
    own: Callable[[Tensor], list[tuple[str, float]]] | None = getattr(accelerated, "profile", None)
    if own is None:
        return None
    passes = []
    with torch.inference_mode():
        own(inputs)
        for _ in range(repeats):
            sums: Shares = {}
            for name, seconds in own(inputs):
                sums[name] = sums.get(name, 0.0) + seconds
            passes.append(sums)
    return _medians(passes)


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
