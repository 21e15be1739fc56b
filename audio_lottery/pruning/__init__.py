"""Masks: pure functions, tensors in, masks out. Knows nothing of speech.

``find_scope`` says what may be pruned, ``global_magnitude`` makes a mask, ``apply`` puts it on a model, and
``Enforcer`` holds it there during training.
"""

from torch import nn

from audio_lottery.pruning.enforce import Enforcer, apply, check
from audio_lottery.pruning.mask import Mask
from audio_lottery.pruning.scope import Scope, find_scope
from audio_lottery.pruning.scores import magnitude
from audio_lottery.pruning.selection import exact_count, keep_largest

__all__ = [
    "Enforcer",
    "Mask",
    "Scope",
    "apply",
    "check",
    "exact_count",
    "find_scope",
    "global_magnitude",
    "keep_largest",
]


def global_magnitude(model: nn.Module, density: float, among: Mask) -> Mask:
    """Keep the largest weights of the whole scope by absolute value (global magnitude pruning).

    Args:
        model: the trained model.
        density: kept / prunable after pruning; the count is the nearest integer, exactly.
        among: the mask so far; it gives the scope, and only weights it keeps are kept.

    Raises:
        MaskError: the mask does not fit, the density is out of range, or a weight is NaN or infinite.
    """
    among.check_fits(model)
    parameters = dict(model.named_parameters())
    scores = magnitude({name: parameters[name] for name in among})
    return keep_largest(scores, exact_count(density, among.prunable), among)
