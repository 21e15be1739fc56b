"""Modules that write label by label, called with features alone."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import nn

# What says what the decoder reads, beside the third positional argument.
_READS = ("decoder_input_ids", "decoder_inputs_embeds", "labels")


def start_with(module: nn.Module, tokens: Sequence[int]) -> None:
    """Let a call with features alone, as benchmarks make it, predict the first label instead of failing.

    Args:
        module: takes ``decoder_input_ids`` as its third argument; gets a hook.
        tokens: what its decoder reads before the first label.
    """
    module.register_forward_pre_hook(partial(_start, tuple(tokens)), with_kwargs=True)


def _start(
    tokens: tuple[int, ...], module: nn.Module, arguments: tuple[Any, ...], options: dict[str, Any]
) -> tuple[Any, dict[str, Any]]:
    if len(arguments) < 3 and all(options.get(name) is None for name in _READS):
        batch = len(arguments[0] if arguments else options["input_features"])
        device = next(module.parameters()).device
        options = {**options, "decoder_input_ids": torch.tensor(tokens, device=device).expand(batch, -1)}
    return arguments, options
