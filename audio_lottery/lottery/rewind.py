"""Rewinding: survivors return to θ, bit for bit; everything else is zero."""

from dataclasses import replace
from pathlib import Path

from audio_lottery import pruning
from audio_lottery.config import ModelConfig, SpecAugmentConfig
from audio_lottery.models.ctc import Recogniser, load_recogniser
from audio_lottery.pruning import Mask


def rewind(
    theta: Path, mask: Mask, model: ModelConfig | None = None, specaugment: SpecAugmentConfig | None = None
) -> Recogniser:
    """The recogniser θ with its pruned weights at zero (Frankle & Carbin 2019, arXiv:1803.03635).

    Args:
        theta: folder of the rewind point.
        mask: which weights survive.
        model: how the model is run (attention, freezing); where it came from is not used.
        specaugment: masking of the training to come.

    Raises:
        MaskError: the mask does not fit the model.
        ModelError: θ cannot be loaded.
    """
    # θ holds the overrides and all its weights: nothing is changed or drawn here
    source = replace(model or ModelConfig(), init=str(theta), revision=None, random_init=False, overrides={})
    recogniser = load_recogniser(source, seed=0, specaugment=specaugment)
    pruning.apply(mask, recogniser.model)
    return recogniser
