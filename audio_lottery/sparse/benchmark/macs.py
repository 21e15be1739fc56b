"""Multiply-adds (MACs) of a forward pass: all of them, and those of weights that are kept.

A weighted layer does one multiply-add per weight and position: a linear layer per frame, a convolution per output frame
(grouped ones have fewer weights), a recurrent one per frame. Products that no such layer makes are those of attention,
which no mask touches; they are what torch's own counter finds outside of these layers.
"""

from dataclasses import dataclass
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode, sdpa_flop

from audio_lottery.sparse.benchmark.module_kinds import ATTENTION, kind_of


@dataclass(frozen=True)
class Macs:
    """Multiply-adds of one kind of module.

    Attributes:
        kind: see `module_kinds.kind_of`.
        dense: as if no weight were zero.
        effective: of kept weights only; equal to ``dense`` where there are no weights.
    """

    kind: str
    dense: int
    effective: int


def count_macs(model: nn.Module, inputs: Tensor) -> list[Macs]:
    """Multiply-adds by kind of module, in the order in which they are first run, from one forward pass.

    Args:
        model: maps ``inputs`` to anything.
        inputs: of the length that is counted.
    """
    found: dict[str, list[int]] = {}
    weighted = {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear | nn.Conv1d | nn.Conv2d | nn.RNNBase)
    }
    handles = [
        module.register_forward_hook(partial(_count, found, kind_of(name, module))) for name, module in weighted.items()
    ]
    # torch's counter does not know the attention kernel of CPUs.
    counter = FlopCounterMode(
        display=False, custom_mapping={torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _attention_flops}
    )
    try:
        with torch.no_grad(), counter:
            model(inputs)
    finally:
        for handle in handles:
            handle.remove()
    flops = counter.get_flop_counts()
    root = type(model).__name__
    inside = sum(sum(flops.get(f"{root}.{name}" if name else root, {}).values()) for name in weighted)
    products = (sum(flops.get("Global", {}).values()) - inside) // 2
    if products:
        found[ATTENTION] = [products, products]
    return [Macs(kind, dense, effective) for kind, (dense, effective) in found.items()]


def _count(found: dict[str, list[int]], kind: str, module: nn.Module, inputs: Any, output: Any) -> None:
    weights: list[Tensor]
    if isinstance(module, nn.RNNBase):
        weights = [weight for name, weight in module.named_parameters() if name.startswith("weight")]
        positions = inputs[0].numel() // inputs[0].shape[-1]
    else:
        weights = [cast(Tensor, module.weight)]
        positions = output.numel() // len(weights[0])
    total = found.setdefault(kind, [0, 0])
    total[0] += positions * sum(weight.numel() for weight in weights)
    total[1] += positions * sum(int(torch.count_nonzero(weight)) for weight in weights)


def _attention_flops(query: Any, key: Any, value: Any, *_: Any, **__: Any) -> int:
    """torch passes shapes."""
    return sdpa_flop(query, key, value)
