"""Masks to compare a ticket with: as sparse as it, chosen without looking at any weight."""

import torch
from torch import Tensor

from audio_lottery.errors import MaskError
from audio_lottery.pruning.mask import Mask
from audio_lottery.pruning.pattern import FixedPattern, Pattern
from audio_lottery.pruning.patterns import parse_pattern
from audio_lottery.pruning.scores import uniform
from audio_lottery.pruning.selection import keep_largest


def random_like(mask: Mask, seed: int, pattern: str | Pattern = "unstructured", among: Mask | None = None) -> Mask:
    """Random pruning at matched layer densities: every layer keeps as many weights as ``mask`` does, at random places.

    The counts are exact for single weights, and for blocks wherever ``mask`` has that pattern and all blocks of a layer
    have one size; otherwise the nearest number of weights that whole blocks give, at least one. Layers that ``mask``
    keeps whole or empty stay so.

    Args:
        mask: the ticket's mask.
        seed: each seed is another draw; the same seed gives the same mask on every machine.
        pattern: drawn as these groups, each equally likely; for N:M, N places of every M.
        among: only weights this mask keeps may be kept.

    Raises:
        MaskError: the pattern does not fit a layer or its density, or ``among`` keeps fewer than ``mask`` in a layer.
    """
    shape = parse_pattern(pattern) if isinstance(pattern, str) else pattern
    if among is not None:
        mask.overlap_per_tensor(among)  # refuses other names or shapes
    chosen = {}
    for name, tensor in mask.items():
        allowed = torch.ones_like(tensor) if among is None else among[name]
        count, available = int(tensor.sum()), int(allowed.sum())
        if count > available:
            raise MaskError(f"'{name}' keeps {count} weights, and the mask to choose among only {available}")
        if count in (0, available):
            chosen[name] = allowed & bool(count)
        else:
            chosen[name] = _draw(name, tensor, count, seed, shape, allowed)
    return Mask(chosen)


def random_uniform(mask: Mask, seed: int) -> Mask:
    """Uniform random pruning: as many weights as ``mask`` keeps in all, every prunable weight equally likely.

    A layer may lose all its weights; that is what this control is.
    """
    return keep_largest(
        {name: uniform(name, tensor.shape, seed, "uniform") for name, tensor in mask.items()}, mask.kept
    )


def shuffled(mask: Mask, seed: int) -> Mask:
    """The layer-shuffled mask: the entries of every tensor's mask in random order.

    Frankle et al. 2021, arXiv:2009.08576. Layer densities stay; which weights, and any pattern, go. It
    has the distribution of unstructured `random_like`.
    """
    result = {}
    for name, tensor in mask.items():
        order = uniform(name, tensor.shape, seed, "shuffle").reshape(-1).argsort(stable=True)
        result[name] = tensor.reshape(-1)[order].reshape(tensor.shape)
    return Mask(result)


def _draw(name: str, tensor: Tensor, count: int, seed: int, pattern: Pattern, allowed: Tensor) -> Tensor:
    if isinstance(pattern, FixedPattern):
        if count != pattern.kept(tensor.numel()):
            raise MaskError(
                f"'{name}' keeps {count} of {tensor.numel()} weights and pattern '{pattern.spec}' would keep "
                f"{pattern.density:g} of them; the densities of the layers would not match"
            )
        return pattern.select(name, uniform(name, tensor.shape, seed, "like"), allowed)
    whole = pattern.whole(name, allowed)
    scores = uniform(name, pattern.grid(tensor.shape), seed, "like")
    kept = keep_largest({name: scores}, count, {name: whole}, sizes={name: pattern.sizes(tensor.shape)})
    return pattern.expand(kept[name], tensor.shape)
