"""Losses in float32, for every backbone that has them."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from audio_lottery.errors import ModelError
from audio_lottery.models.base import Predictions


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


def divergence(student: Predictions, teacher: Predictions, temperature: float = 1.0) -> Tensor:
    """Kullback-Leibler divergence of a teacher's outputs from a student's, summed over the points of each utterance.

    T² · Σ_points KL(softmax(teacher / T) ‖ softmax(student / T)), in nats, as a negative log-likelihood is (Hinton et
    al. 2015, arXiv:1503.02531; the square keeps the size of the gradients whatever T).

    Args:
        student: gradients flow into it.
        teacher: at the same points.
        temperature: T.

    Returns:
        [batch], float32, under any autocast.

    Raises:
        ModelError: the two predict other outputs or at other points.
    """
    logits, target = student.logits, teacher.logits
    if logits.shape != target.shape or student.parts != teacher.parts:
        raise ModelError(
            f"teacher and student do not predict the same: outputs {list(target.shape)} and {list(logits.shape)} "
            "(utterances, points, outputs)"
        )
    with torch.autocast(logits.device.type, enabled=False):
        total = torch.zeros((), device=logits.device)
        parts = student.parts or (logits.shape[-1],)
        for here, there in zip(logits.float().split(parts, -1), target.float().split(parts, -1), strict=True):
            log_there = F.log_softmax(there / temperature, -1)
            pointwise = F.kl_div(F.log_softmax(here / temperature, -1), log_there, reduction="none", log_target=True)
            total = total + pointwise.sum(-1)
        valid = within(student.points, logits.shape[1]).to(logits.device)
        return torch.where(valid, total, 0.0).sum(-1) * temperature**2


def within(counts: Tensor, size: int) -> Tensor:
    """[batch, size], true for the first ``counts`` places of each row."""
    return torch.arange(size) < counts.cpu()[:, None]
