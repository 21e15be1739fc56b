"""Masks: pure functions, tensors in, masks out. Knows nothing of speech.

``find_scope`` says what may be pruned, ``prune`` makes a mask out of a score, a pattern and an allocation, ``apply``
puts it on a model, and ``Enforcer`` (in a loop of one's own: ``enforce``) holds it there during training.
``random_like``, ``random_uniform`` and ``shuffled`` make the masks to compare with.
"""

from torch import nn

from audio_lottery.pruning.allocation import ALLOCATIONS, Rule
from audio_lottery.pruning.calibrate import MovementAccumulator, collect
from audio_lottery.pruning.controls import random_like, random_uniform, shuffled
from audio_lottery.pruning.distributed import broadcast_mask
from audio_lottery.pruning.enforce import Enforcer, apply, check, clear_state, enforce
from audio_lottery.pruning.mask import Mask
from audio_lottery.pruning.pattern import FixedPattern, GroupPattern, Pattern
from audio_lottery.pruning.patterns import PATTERNS, PatternKind, parse_pattern
from audio_lottery.pruning.prune import prune
from audio_lottery.pruning.scope import Scope, find_scope
from audio_lottery.pruning.scores import SCORES, Score, ScoreInputs, ScoreKind
from audio_lottery.pruning.second_order import Reconstruction, reconstruct
from audio_lottery.pruning.selection import exact_count, keep_largest

__all__ = [
    "ALLOCATIONS",
    "PATTERNS",
    "SCORES",
    "Enforcer",
    "FixedPattern",
    "GroupPattern",
    "Mask",
    "MovementAccumulator",
    "Pattern",
    "PatternKind",
    "Reconstruction",
    "Rule",
    "Scope",
    "Score",
    "ScoreInputs",
    "ScoreKind",
    "apply",
    "broadcast_mask",
    "check",
    "clear_state",
    "collect",
    "enforce",
    "exact_count",
    "find_scope",
    "global_magnitude",
    "keep_largest",
    "parse_pattern",
    "prune",
    "random_like",
    "random_uniform",
    "reconstruct",
    "shuffled",
]


def global_magnitude(model: nn.Module, density: float, among: Mask) -> Mask:
    """Keep the largest weights of the whole scope by absolute value: `prune` with its defaults.

    Args:
        model: the trained model.
        density: kept / prunable after pruning; the count is the nearest integer, exactly.
        among: the mask so far; it gives the scope, and only weights it keeps are kept.

    Raises:
        MaskError: the mask does not fit, the density is out of range, or a weight is NaN or infinite.
    """
    return prune(model, density, among=among)
