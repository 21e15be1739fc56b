"""Learning rate as a pure function of the step, so that rewinding and resuming it need no state."""

import math
from typing import Literal


def learning_rate_factor(
    step: int,
    total_steps: int,
    warmup_ratio: float,
    decay: Literal["linear", "cosine", "constant"],
    hold_ratio: float = 0.0,
) -> float:
    """What the peak learning rate is multiplied with at optimiser step ``step`` (0-based) of ``total_steps``.

    Linear warm-up over the first ``warmup_ratio`` of the steps, the peak for ``hold_ratio`` of them, then linear or
    cosine decay towards zero, or constant. (With a hold: "warmup-stable-decay", Hu et al. 2024, arXiv:2404.06395.)
    The first step of a warm-up is already above zero and the last step of a decay still is.
    """
    warmup = round(warmup_ratio * total_steps)
    if step < warmup:
        return (step + 1) / (warmup + 1)
    start = warmup + round(hold_ratio * total_steps)
    if decay == "constant" or step < start:
        return 1.0
    progress = (step - start) / max(1, total_steps - start)
    return 1.0 - progress if decay == "linear" else 0.5 * (1.0 + math.cos(math.pi * progress))
