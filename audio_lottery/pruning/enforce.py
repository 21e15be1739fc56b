"""Keep pruned weights at zero while everything else trains."""

import torch
from torch import Tensor, nn

from audio_lottery.errors import MaskError
from audio_lottery.pruning.mask import Mask


@torch.no_grad()
def apply(mask: Mask, model: nn.Module) -> None:
    """Set the pruned weights of ``model`` to +0.0 and leave the others as they are, bit for bit.

    Raises:
        MaskError: the mask does not fit the model.
    """
    mask.check_fits(model)
    parameters = dict(model.named_parameters())
    for name, tensor in mask.items():
        parameters[name].masked_fill_(~tensor.to(parameters[name].device), 0.0)


@torch.no_grad()
def check(mask: Mask, model: nn.Module) -> None:
    """Prove that every pruned weight of ``model`` is exactly zero.

    Raises:
        MaskError: names the parameters that have weights outside the mask, with counts.
    """
    mask.check_fits(model)
    parameters = dict(model.named_parameters())
    revived = {}
    for name, tensor in mask.items():
        count = int(torch.count_nonzero(parameters[name].detach()[~tensor.to(parameters[name].device)]))
        if count:
            revived[name] = count
    if revived:
        listed = ", ".join(f"{name} ({count})" for name, count in revived.items())
        raise MaskError(f"weights outside the mask are not zero: {listed}; the model is denser than was asked")


class Enforcer:
    """Applies one mask to one model again and again: after each backward pass and after each optimiser step.

    AdamW's momentum and weight decay move weights whose gradient is zero, so masking gradients alone does not hold
    zeros; and gradients of pruned weights would count in the norm that is clipped, so masking weights alone changes how
    the survivors train. Tensors that the mask keeps whole cost nothing; a dense mask is free.

    Args:
        mask: the mask.
        model: the model; its parameters must keep their identity (an optimiser's in-place steps do).
    """

    def __init__(self, mask: Mask, model: nn.Module) -> None:
        mask.check_fits(model)
        parameters = dict(model.named_parameters())
        self._pairs: list[tuple[nn.Parameter, Tensor]] = [
            (parameters[name], tensor.to(parameters[name].device)) for name, tensor in mask.items() if not tensor.all()
        ]

    @torch.no_grad()
    def mask_gradients(self) -> None:
        """Zero the gradients of pruned weights; call after backward, before clipping."""
        for parameter, tensor in self._pairs:
            if parameter.grad is not None:
                parameter.grad.mul_(tensor)

    @torch.no_grad()
    def mask_weights(self) -> None:
        """Zero the pruned weights; call after each optimiser step."""
        for parameter, tensor in self._pairs:
            parameter.mul_(tensor)
