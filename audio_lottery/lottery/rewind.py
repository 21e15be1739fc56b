"""Rewinding: survivors return to θ, bit for bit; everything else is zero."""

from pathlib import Path

from audio_lottery import pruning
from audio_lottery.config import ModelConfig, SpecAugmentConfig
from audio_lottery.models.ctc import Recogniser, load_recogniser
from audio_lottery.pruning import Mask


def rewind(theta: Path, mask: Mask | None, seed: int, specaugment: SpecAugmentConfig, frozen: bool) -> Recogniser:
    """The recogniser θ with its pruned weights at zero (Frankle & Carbin 2019, arXiv:1803.03635).

    Args:
        theta: folder of the rewind point.
        mask: which weights survive; None keeps all.
        seed: unused by weights (θ is complete); kept so that nothing else is drawn from an unseeded generator.
        specaugment: masking of the training to come.
        frozen: whether the convolutional front end is not trained.

    Raises:
        MaskError: the mask does not fit the model.
        ModelError: θ cannot be loaded.
    """
    recogniser = load_recogniser(
        ModelConfig(init=str(theta), freeze_feature_encoder=frozen), seed=seed, specaugment=specaugment
    )
    if mask is not None:
        pruning.apply(mask, recogniser.model)
    return recogniser
