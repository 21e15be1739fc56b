"""Rewinding: survivors return to θ, bit for bit; everything else is zero."""

from pathlib import Path

from audio_lottery import pruning
from audio_lottery.config import ModelConfig, SpecAugmentConfig
from audio_lottery.models.ctc import Recogniser, load_recogniser
from audio_lottery.pruning import Mask


def rewind(
    theta: Path, mask: Mask, specaugment: SpecAugmentConfig | None = None, freeze_feature_encoder: bool = False
) -> Recogniser:
    """The recogniser θ with its pruned weights at zero (Frankle & Carbin 2019, arXiv:1803.03635).

    Args:
        theta: folder of the rewind point.
        mask: which weights survive.
        specaugment: masking of the training to come.
        freeze_feature_encoder: whether the convolutional front end is left out of that training.

    Raises:
        MaskError: the mask does not fit the model.
        ModelError: θ cannot be loaded.
    """
    source = ModelConfig(init=str(theta), freeze_feature_encoder=freeze_feature_encoder)
    recogniser = load_recogniser(source, seed=0, specaugment=specaugment)  # θ is complete: nothing is drawn
    pruning.apply(mask, recogniser.model)
    return recogniser
