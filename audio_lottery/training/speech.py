"""What a training hears: a filtered manifest as an endless sequence of batches."""

from collections.abc import Iterator

import numpy as np
from accelerate import Accelerator
from datasets import Dataset

from audio_lottery.config import AugmentConfig, DataConfig, TrainingConfig
from audio_lottery.data.audio import SAMPLE_RATE
from audio_lottery.data.batching import (
    AudioTransform,
    Batch,
    Collator,
    SpeechDataset,
    TrainingBatches,
    make_loader,
)
from audio_lottery.data.filters import TrainingData, prepare_training
from audio_lottery.models.base import Backbone
from audio_lottery.training.teacher import Teacher


def filter_training(manifest: Dataset, backbone: Backbone, config: DataConfig, augment: AugmentConfig) -> TrainingData:
    """What of a manifest a backbone can be trained on; see `prepare_training`.

    Args:
        manifest: the training rows.
        backbone: what can be written, and over which audio.
        config: limits and policies.
        augment: whose speeds make utterances shorter and longer.
    """
    longest = None if backbone.longest is None else backbone.longest / SAMPLE_RATE * min(augment.speeds)
    return prepare_training(
        manifest, backbone.vocabulary, backbone.can_align, config, fastest=max(augment.speeds), longest=longest
    )


class TrainingSpeech:
    """The batches of one process; a function of (seed, position), so a resumed training hears the same.

    Args:
        data: the filtered training set.
        backbone: gives features and SpecAugment.
        config: budget of a batch, SpecAugment and speeds.
        seed: of the order and of SpecAugment.
        accelerator: the processes that share the batches.
        augment: changes the audio; None leaves it as it is.
        num_workers: DataLoader workers.
        teacher: hears the same utterances; None: the training has none.
    """

    def __init__(
        self,
        data: TrainingData,
        backbone: Backbone,
        config: TrainingConfig,
        seed: int,
        accelerator: Accelerator,
        *,
        augment: AudioTransform | None = None,
        num_workers: int = 0,
        teacher: Teacher | None = None,
    ) -> None:
        self.data = data
        self.teacher = teacher
        masking = backbone.masking(config.specaugment)
        own = teacher is not None and (masking is not None or not teacher.hears_as(backbone))
        features = None if teacher is None or not own else teacher.backbone.features
        self._dataset = SpeechDataset(data.manifest, data.encode, augment, None if teacher is None else teacher.clean)
        self._collator = Collator(backbone.features, masking, seed, features)
        self._num_workers = num_workers
        durations = np.asarray(data.manifest["duration"]) / min(config.augment.speeds)
        padded = backbone.padded(durations)
        self._batches = TrainingBatches(
            durations,
            config.max_batch_seconds,
            seed,
            accelerator.process_index,
            accelerator.num_processes,
            None if padded is durations else padded,
        )
        self.micro_steps_per_epoch = len(self._batches.epoch(0))

    def steps(self, config: TrainingConfig) -> int:
        """Optimiser steps of a training: as many as are asked for, or so many epochs, then at least one."""
        if config.max_steps is not None:
            return config.max_steps
        return max(1, round((config.epochs or 0) * self.micro_steps_per_epoch / config.accumulation_steps))

    def from_position(self, position: int) -> Iterator[Batch]:
        """The batches from micro-batch number ``position`` on, without end."""
        order = self._batches.from_position(position)
        return iter(make_loader(self._dataset, order, self._collator, self._num_workers))
