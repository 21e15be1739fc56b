"""Rewinding: where the survivors of a pruning go on from; everything else is zero."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import nn

from audio_lottery import pruning
from audio_lottery.config import ModelConfig, PruningConfig, RunConfig, SpecAugmentConfig
from audio_lottery.data.noise import utterance_rng
from audio_lottery.lottery.run_folder import RunFolder
from audio_lottery.models.ctc import Recogniser, load_recogniser
from audio_lottery.pruning import Mask


def rewind(
    theta: Path, mask: Mask, model: ModelConfig | None = None, specaugment: SpecAugmentConfig | None = None
) -> Recogniser:
    """The recogniser θ with its pruned weights at zero (Frankle & Carbin 2019, arXiv:1803.03635).

    Args:
        theta: folder of the rewind point, or of any model the survivors keep the values of.
        mask: which weights survive.
        model: how the model is run (attention, freezing); where it came from is not used.
        specaugment: masking of the training to come.

    Raises:
        MaskError: the mask does not fit the model.
        ModelError: θ cannot be loaded.
    """
    return _masked(_load(theta, model or ModelConfig(), specaugment), mask)


def start_of_round(config: RunConfig, number: int, mask: Mask, folder: RunFolder) -> Recogniser:
    """The recogniser that a round starts to train, as ``pruning.rewind`` says; ``step`` starts from a checkpoint.

    - ``theta``, ``step``: the values in θ (those of the step are put in by the trainer).
    - ``random``: a new draw of the initialisation of θ's architecture, the same in every round; with a ticket's mask a
      *random ticket* where θ itself was drawn.
    - ``permuted``: the values of θ shuffled within each prunable tensor: a random ticket for a θ that was trained,
      whose values come from no initialisation (the same distribution, layer by layer).
    - ``lr``, ``none``: the trained values (Renda et al. 2020, arXiv:2003.02389).
    """
    how, specaugment = config.pruning.rewind, config.training.specaugment
    if how == "random":
        return _masked(_load(folder.theta, config.model, specaugment, draw=config.seed + 1), mask)
    if how == "permuted":
        recogniser = _load(folder.theta, config.model, specaugment)
        permute(recogniser.model, list(mask), config.seed + 1)
        return _masked(recogniser, mask)
    return rewind(start_source(config.pruning, number, folder), mask, config.model, specaugment)


def start_source(settings: PruningConfig, number: int, folder: RunFolder) -> Path:
    """Folder of the model that round ``number`` starts from: θ, or the trained model that the round is pruned from."""
    if number > 0 and settings.rewind in ("lr", "none"):
        return folder.round(0 if settings.method == "omp" else number - 1)
    return folder.theta


@torch.no_grad()
def permute(model: nn.Module, names: list[str], seed: int) -> None:
    """Shuffle the values within each of the named parameters, in place."""
    parameters = dict(model.named_parameters())
    for name in names:
        values = parameters[name].detach().cpu().numpy().reshape(-1)
        shuffled = utterance_rng(seed, "permute", name).permutation(values)
        parameters[name].copy_(torch.from_numpy(np.ascontiguousarray(shuffled)).view_as(parameters[name]))


def _load(path: Path, model: ModelConfig, specaugment: SpecAugmentConfig | None, draw: int | None = None) -> Recogniser:
    """A model of this run; with ``draw``, its architecture with weights drawn by that seed."""
    # The folder holds the overrides and all weights: nothing else is changed or drawn here.
    source = replace(model, init=str(path), revision=None, overrides={}, reset_head=False, random_init=draw is not None)
    return load_recogniser(source, seed=draw or 0, specaugment=specaugment)


def _masked(recogniser: Recogniser, mask: Mask) -> Recogniser:
    pruning.apply(mask, recogniser.model)
    return recogniser
