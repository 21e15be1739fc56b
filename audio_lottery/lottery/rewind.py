"""Rewinding: where the survivors of a pruning go on from, and how they train; everything else is zero.

One class a way, one line in `REWINDS`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from torch import nn

from audio_lottery import pruning
from audio_lottery.config import ModelConfig, RunConfig, SpecAugmentConfig, TrainingConfig
from audio_lottery.data.seeds import utterance_rng
from audio_lottery.lottery.run_folder import RunFolder
from audio_lottery.models.base import Backbone
from audio_lottery.models.load import load_backbone
from audio_lottery.pruning import Mask
from audio_lottery.training.hooks import Hook, KeepLate, StartLate


@dataclass(frozen=True)
class Rewind:
    """To the values in θ (Frankle & Carbin 2019, arXiv:1803.03635).

    Attributes:
        theta: folder of the rewind point.
        model: how models are run (attention, freezing); where they came from is not used.
        specaugment: masking of the training to come.
        seed: of the run.
        finetune_lr: share of the learning rate that fine-tuning has.
        step: optimiser step of late rewinding.
    """

    theta: Path
    model: ModelConfig
    specaugment: SpecAugmentConfig | None = None
    seed: int = 0
    finetune_lr: float = 0.1
    step: int | None = None

    needs_step: ClassVar[bool] = False
    reconstructs: ClassVar[bool] = False

    def start(self, number: int, mask: Mask, trained: Path) -> Backbone:
        """The backbone that round ``number`` starts to train, pruned weights at zero.

        Args:
            number: the round; round 0 comes from no pruning.
            mask: which weights survive.
            trained: folder of the model that the round was pruned from.

        Raises:
            MaskError: the mask does not fit the model.
            ModelError: a model cannot be loaded.
        """
        return self._masked(self._load(self.folder(number, trained)), mask)

    def folder(self, number: int, trained: Path) -> Path:
        """Folder of the model that round ``number`` starts from; ``trained`` as in `start`."""
        return self.theta

    def training(self, number: int, training: TrainingConfig) -> TrainingConfig:
        """How round ``number`` is trained: with the schedule from its start."""
        return training

    def hooks(self, number: int, folder: RunFolder) -> Sequence[Hook]:
        """What hangs on the training of round ``number``."""
        return ()

    def _load(self, path: Path, draw: int | None = None) -> Backbone:
        """A model of this run; with ``draw``, its architecture with weights drawn by that seed."""
        # The folder holds the overrides and all weights: nothing else is changed or drawn here.
        source = replace(
            self.model, init=str(path), revision=None, overrides={}, reset_head=False, random_init=draw is not None
        )
        return load_backbone(source, seed=draw or 0, specaugment=self.specaugment)

    def _masked(self, backbone: Backbone, mask: Mask) -> Backbone:
        pruning.apply(mask, backbone.module)
        return backbone


@dataclass(frozen=True)
class LateRewind(Rewind):
    """To the values after some steps of round 0 (Frankle et al. 2020, arXiv:1912.05671)."""

    needs_step = True

    def hooks(self, number: int, folder: RunFolder) -> Sequence[Hook]:
        """Round 0 keeps its checkpoint of that step; the others go on from it."""
        point = folder.path / "rewind"
        return (KeepLate(self.step or 0, point),) if number == 0 else (StartLate(point),)


@dataclass(frozen=True)
class RandomRewind(Rewind):
    """To a new draw of the initialisation of θ's architecture, the same in every round.

    With a ticket's mask this is a *random ticket*, where θ itself was drawn.
    """

    def start(self, number: int, mask: Mask, trained: Path) -> Backbone:
        """See `Rewind.start`."""
        return self._masked(self._load(self.theta, draw=self.seed + 1), mask)


@dataclass(frozen=True)
class PermutedRewind(Rewind):
    """To the values of θ shuffled within each prunable tensor.

    A random ticket for a θ that was trained, whose values come from no initialisation: the same distribution, layer by
    layer.
    """

    def start(self, number: int, mask: Mask, trained: Path) -> Backbone:
        """See `Rewind.start`."""
        backbone = self._load(self.theta)
        permute(backbone.module, list(mask), self.seed + 1)
        return self._masked(backbone, mask)


@dataclass(frozen=True)
class LearningRateRewind(Rewind):
    """To nothing but the schedule: survivors keep their trained values (Renda et al. 2020, arXiv:2003.02389)."""

    def folder(self, number: int, trained: Path) -> Path:
        """The trained model, after round 0."""
        return self.theta if number == 0 else trained


@dataclass(frozen=True)
class Reconstruct(LearningRateRewind):
    """As to the schedule; survivors start where they make up for what was pruned, layer by layer.

    Source: Frantar & Alistarh 2023, arXiv:2301.00774; see `audio_lottery.pruning.reconstruct`.
    """

    reconstructs = True


@dataclass(frozen=True)
class FineTune(LearningRateRewind):
    """To nothing: survivors keep their trained values and train on at a small constant learning rate."""

    def training(self, number: int, training: TrainingConfig) -> TrainingConfig:
        """After round 0: constant, at a share of the peak."""
        if number == 0:
            return training
        rate = training.learning_rate * self.finetune_lr
        return replace(training, learning_rate=rate, warmup_ratio=0.0, decay="constant")


REWINDS: dict[str, type[Rewind]] = {
    "theta": Rewind,
    "step": LateRewind,
    "random": RandomRewind,
    "permuted": PermutedRewind,
    "lr": LearningRateRewind,
    "reconstruct": Reconstruct,
    "none": FineTune,
}
"""``pruning.rewind`` → where survivors go on from."""


def get_rewind(config: RunConfig) -> Rewind:
    """The rewinding of a run, its settings resolved."""
    settings = config.pruning
    theta = RunFolder(Path(config.run_dir)).theta
    specaugment = config.training.specaugment
    return REWINDS[settings.rewind](
        theta, config.model, specaugment, config.seed, settings.finetune_lr, settings.rewind_step
    )


@torch.no_grad()
def permute(model: nn.Module, names: list[str], seed: int) -> None:
    """Shuffle the values within each of the named parameters, in place."""
    parameters = dict(model.named_parameters())
    for name in names:
        values = parameters[name].detach().cpu().numpy().reshape(-1)
        shuffled = utterance_rng(seed, "permute", name).permutation(values)
        parameters[name].copy_(torch.from_numpy(np.ascontiguousarray(shuffled)).view_as(parameters[name]))
