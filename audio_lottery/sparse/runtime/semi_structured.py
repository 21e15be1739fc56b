"""2:4 tickets on NVIDIA GPUs, through torch's semi-structured sparse tensors (compute capability 8.0 and later).

Source: Mishra et al. 2021, Accelerating Sparse Deep Neural Networks; `torch.sparse.to_sparse_semi_structured`.
"""

import copy

import torch
from torch import Tensor, nn

from audio_lottery.errors import ModelError

# what torch's kernels multiply: rows and columns in whole tiles, in half precision
_TILE = 64
_TYPES = (torch.float16, torch.bfloat16)


def is_2_4(weight: Tensor) -> bool:
    """Whether at most 2 of every 4 neighbours of a row are not zero, and the matrix is not dense altogether."""
    if weight.dim() != 2 or weight.shape[1] % 4:
        return False
    return bool(((weight != 0).view(weight.shape[0], -1, 4).sum(-1) <= 2).all())


def accelerate_on_gpu(model: nn.Module) -> tuple[nn.Module, list[tuple[str, nn.Linear, str]]]:
    """A copy whose 2:4 linear layers use the GPU's sparse matrix units.

    Args:
        model: on a GPU, float16 or bfloat16, in evaluation mode.

    Returns:
        The copy, and name, original layer and note ("" where it was replaced) of every linear layer.

    Raises:
        ModelError: another precision, or a GPU without sparse matrix units.
    """
    device = next(model.parameters()).device
    if torch.cuda.get_device_capability(device) < (8, 0):
        raise ModelError(f"{torch.cuda.get_device_name(device)} has no sparse matrix units; compute capability 8.0 has")
    fast = copy.deepcopy(model)
    layers = []
    for name, module in model.named_modules():
        if type(module) is not nn.Linear:
            continue
        if module.weight.dtype not in _TYPES:
            raise ModelError(f"'{name}' is {module.weight.dtype}; 2:4 runs in half precision: call model.half() first")
        note = ""
        if not is_2_4(module.weight):
            note = "not 2:4: it runs as it is"
        elif module.in_features % _TILE or module.out_features % _TILE:
            note = f"sizes that {_TILE} does not divide: it runs as it is"
        else:
            weight = torch.sparse.to_sparse_semi_structured(module.weight.detach())
            fast.get_submodule(name).weight = nn.Parameter(weight, requires_grad=False)
        layers.append((name, module, note))
    return fast, layers
