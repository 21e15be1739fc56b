"""torch's own initial weights, through functions of transformers that leave loaded weights alone."""

import itertools

from torch import nn
from transformers import initialization as init


def draw_weights(module: nn.Module) -> None:
    """Draw what a single module holds as torch's constructors do; for ``_init_weights`` of a ``PreTrainedModel``."""
    if isinstance(module, nn.LSTM):
        bound = module.hidden_size**-0.5
        for parameter in module.parameters():
            init.uniform_(parameter, -bound, bound)
    elif isinstance(module, nn.Linear | nn.Conv1d | nn.Conv2d):
        init.kaiming_uniform_(module.weight, a=5**0.5)
        if module.bias is not None:
            bound = module.weight[0].numel() ** -0.5
            init.uniform_(module.bias, -bound, bound)
    elif isinstance(module, nn.Embedding):
        init.normal_(module.weight)
    elif isinstance(module, nn.LayerNorm):
        init.ones_(module.weight)
        init.zeros_(module.bias)
    elif isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
        init.ones_(module.weight)
        init.zeros_(module.bias)
        init.zeros_(module.running_mean)
        init.ones_(module.running_var)
        init.zeros_(module.num_batches_tracked)


def draw_all_weights(model: nn.Module) -> None:
    """Draw every weight of a model anew, as `draw_weights` does; what that does not know stays as it is."""
    for module in model.modules():
        for tensor in itertools.chain(module.parameters(recurse=False), module.buffers(recurse=False)):
            tensor._is_hf_initialized = False  # type: ignore[attr-defined]
        draw_weights(module)
