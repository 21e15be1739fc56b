"""The lattices of transducers, written as in the papers: slow, in float64, differentiable."""

from collections.abc import Sequence

import torch
from torch import Tensor


def rnnt(logits: Tensor, labels: Sequence[int], blank: int) -> Tensor:
    """Negative log-likelihood of one utterance (Graves 2012, equation 16).

    Args:
        logits: [frames, labels + 1, outputs].
        labels: ids.
        blank: id of the blank.
    """
    log_probs = logits.double().log_softmax(-1)
    frames = len(logits)
    alpha: dict[tuple[int, int], Tensor] = {(0, 0): torch.zeros((), dtype=torch.float64)}
    for t in range(frames):
        for u in range(len(labels) + 1):
            ways = []
            if t > 0:
                ways.append(alpha[t - 1, u] + log_probs[t - 1, u, blank])
            if u > 0:
                ways.append(alpha[t, u - 1] + log_probs[t, u - 1, labels[u - 1]])
            if ways:
                alpha[t, u] = torch.stack(ways).logsumexp(0)
    return -(alpha[frames - 1, len(labels)] + log_probs[frames - 1, len(labels), blank])


def tdt(logits: Tensor, labels: Sequence[int], blank: int, durations: Sequence[int]) -> Tensor:
    """The same with durations (Xu et al. 2023, equation 4): every output also says how far to go.

    Args:
        logits: [frames, labels + 1, outputs + durations].
        labels: ids.
        blank: id of the blank, which goes at least one frame.
        durations: in frames.
    """
    outputs = logits.shape[-1] - len(durations)
    tokens = logits[..., :outputs].double().log_softmax(-1)
    lengths = logits[..., outputs:].double().log_softmax(-1)
    frames = len(logits)
    alpha: dict[tuple[int, int], Tensor] = {(0, 0): torch.zeros((), dtype=torch.float64)}
    for t in range(frames + 1):
        for u in range(len(labels) + 1):
            ways = []
            for index, duration in enumerate(durations):
                at = t - duration
                if duration > 0 and (at, u) in alpha and at < frames:
                    ways.append(alpha[at, u] + tokens[at, u, blank] + lengths[at, u, index])
                # the utterance ends with a blank
                if u > 0 and (at, u - 1) in alpha and t < frames:
                    ways.append(alpha[at, u - 1] + tokens[at, u - 1, labels[u - 1]] + lengths[at, u - 1, index])
            if ways:
                alpha[t, u] = torch.stack(ways).logsumexp(0)
    return -alpha[frames, len(labels)]
