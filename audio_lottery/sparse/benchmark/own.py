"""Our runtime as a contestant: models pruned in a pattern, accelerated, as functions from the input to logits."""

import copy
from collections import Counter
from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

from audio_lottery import pruning
from audio_lottery.sparse.benchmark.settings import OWN, PATTERNS

__all__ = ["NAME", "UNCHANGED", "accelerated", "density", "describe_plan", "pruned"]

NAME = OWN
UNCHANGED = "unchanged"
"""The plan of a model in which `accelerate` replaced nothing."""


def accelerated(model: nn.Module, precision: str, force: bool = False) -> nn.Module:
    """`audio_lottery.sparse.accelerate`, imported when it is called: its kernels are compiled then."""
    from audio_lottery.sparse import accelerate

    return accelerate(model, precision=precision, force=force)


def pruned(model: nn.Module, pattern: str, sparsity: float) -> nn.Module:
    """A copy of ``model`` in which every prunable tensor has ``sparsity`` zeros, the smallest by magnitude.

    Each tensor gets the same sparsity: how untrained weights compare between layers says nothing.

    Args:
        model: left as it is.
        pattern: key of `PATTERNS`.
        sparsity: share of zeros, in [0, 1).
    """
    copied = copy.deepcopy(model)
    if sparsity > 0:
        mask = pruning.prune(copied, 1 - sparsity, pattern=PATTERNS[pattern], allocation="uniform")
        pruning.apply(mask, copied)
    return copied


def density(model: nn.Module) -> float:
    """Kept / prunable weights of a model, by its zeros."""
    parameters = dict(model.named_parameters())
    weights = [parameters[name] for name in pruning.find_scope(model).names]
    return sum(int(torch.count_nonzero(weight)) for weight in weights) / sum(weight.numel() for weight in weights)


def describe_plan(plan: Iterable[Any]) -> str:
    """What became of the modules, in one line: ``74 csr, 7 dense``; `UNCHANGED` where all are dense."""
    kernels = Counter(str(entry.kernel) for entry in plan)
    if kernels.keys() <= {"dense"}:
        return UNCHANGED
    return ", ".join(f"{count} {kernel}" for kernel, count in kernels.most_common())
