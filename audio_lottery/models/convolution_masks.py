"""Convolutions that would hear the padding: Wav2Vec2-Conformer's get no mask from transformers, and here they do."""

import threading
from typing import Any

from torch import Tensor, nn

_HELD = threading.local()  # batches go through a model side by side, each in a thread


def mask_convolutions(module: nn.Module) -> None:
    """Zero padded frames before every depthwise convolution of a conformer's encoder whose layers pass no mask.

    Each utterance then has the outputs that it has alone (transformers masks the encoder's input only, and attention).
    Batch norm behind the convolution still counts padded frames while it trains. The hooks are not saved: plain
    transformers pads as it did.

    Args:
        module: changed in place where it has an ``encoder`` with ``layers`` that have a ``conv_module``.
    """
    for encoder in module.modules():
        layers = getattr(encoder, "layers", None)
        if not isinstance(layers, nn.ModuleList):  # an encoder that runs on the kernels has none
            continue
        convolutions: list[Any] = [getattr(layer, "conv_module", None) for layer in layers]
        if not convolutions or not all(hasattr(one, "depthwise_conv") for one in convolutions):
            continue
        if _hold in encoder._forward_pre_hooks.values():  # a module that is wrapped again
            continue
        encoder.register_forward_pre_hook(_hold, with_kwargs=True)
        encoder.register_forward_hook(_let_go, always_call=True)
        for one in convolutions:
            one.depthwise_conv.register_forward_pre_hook(_mask)


def _hold(encoder: nn.Module, arguments: tuple[Any, ...], options: dict[str, Any]) -> None:
    _HELD.mask = options.get("attention_mask", arguments[1] if len(arguments) > 1 else None)


def _let_go(encoder: nn.Module, arguments: tuple[Any, ...], output: Any) -> None:
    _HELD.mask = None


def _mask(convolution: nn.Module, arguments: tuple[Tensor, ...]) -> tuple[Tensor, ...] | None:
    mask = getattr(_HELD, "mask", None)
    if mask is None:
        return None
    return (arguments[0] * mask[:, None].to(arguments[0].dtype), *arguments[1:])
