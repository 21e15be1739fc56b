"""Losses in float32, for every backbone that has them."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor


def ctc_loss(logits: Tensor, frames: Tensor, labels: Sequence[Tensor], blank: int) -> Tensor:
    """Negative log-likelihood of each utterance under CTC (Graves et al. 2006), [batch], float32.

    Args:
        logits: [batch, frames, characters].
        frames: [batch], valid frames of each utterance.
        labels: one 1-D tensor of label ids per utterance.
        blank: id of the blank.

    Returns:
        One loss an utterance; 0 where it has no alignment.
    """
    log_probs = F.log_softmax(logits, dim=-1, dtype=torch.float32).transpose(0, 1)
    device = logits.device
    if torch.are_deterministic_algorithms_enabled() and device.type == "cuda":
        log_probs = log_probs.cpu()  # the CUDA backward of CTC adds in no fixed order
    losses = F.ctc_loss(
        log_probs,
        torch.cat(list(labels)).to(log_probs.device),
        frames.cpu(),
        torch.tensor([len(label) for label in labels]),
        blank=blank,
        reduction="none",
        zero_infinity=True,
    )
    return losses.to(device)


def per_label(losses: Tensor, labels: Sequence[Tensor]) -> Tensor:
    """Loss of each utterance divided by its number of labels, summed over the batch.

    The sum, and not the mean, so that micro-batches and processes add up to the mean over the whole batch exactly.

    Args:
        losses: [batch].
        labels: one 1-D tensor of label ids per utterance.
    """
    counts = torch.tensor([len(label) for label in labels])
    return (losses / counts.clamp(min=1).to(losses.device)).sum()
