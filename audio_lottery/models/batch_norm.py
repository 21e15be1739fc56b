"""Batch norm over the frames that are speech: padding must not count in mean and variance."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm


def batch_norm(norm: nn.Module, x: Tensor, frames: Tensor) -> Tensor:
    """``norm`` over valid frames only (Ioffe & Szegedy 2015, arXiv:1502.03167); in evaluation, ``norm`` itself.

    Mean and variance are those of a micro-batch, so gradient accumulation is not the same as one large batch; the
    amount of padding is. Sums are in float32 under any autocast.

    Args:
        norm: affine, with running statistics.
        x: [batch, channels, ..., time].
        frames: [batch], valid frames of each utterance; they come first.

    Returns:
        [batch, channels, ..., time], float32 in training; frames of padding hold no meaning.
    """
    if not norm.training or not isinstance(norm, _BatchNorm):
        normed: Tensor = norm(x)
        return normed
    with torch.autocast(x.device.type, enabled=False):
        x = x.float()
        valid = torch.arange(x.shape[-1], device=x.device) < frames.to(x.device)[:, None]
        valid = valid.reshape(x.shape[0], *[1] * (x.dim() - 2), -1)
        dims = [0, *range(2, x.dim())]
        shape = [1, -1, *[1] * (x.dim() - 2)]
        # int of a CPU tensor: lengths stay on the CPU
        count = int(frames.sum()) * x[0, 0, ..., 0].numel()
        mean = x.masked_fill(~valid, 0.0).sum(dims) / count
        centred = x - mean.reshape(shape)
        variance = centred.masked_fill(~valid, 0.0).square().sum(dims) / count
        _track(norm, mean, variance * (count / max(1, count - 1)))
        scale = norm.weight * torch.rsqrt(variance + norm.eps)
        return centred * scale.reshape(shape) + norm.bias.reshape(shape)


@torch.no_grad()
def _track(norm: Any, mean: Tensor, variance: Tensor) -> None:
    norm.num_batches_tracked += 1
    norm.running_mean.lerp_(mean.detach(), norm.momentum)
    norm.running_var.lerp_(variance.detach(), norm.momentum)
